"""The generator: whether it still writes its file to the archive every minute."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.ledger import health
from clickstream.storage import at

MINUTE_OF_FILE = re.compile(r"([0-5]\d)-.+\.json")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def look(installation: Installation) -> Finding:
    """Find the newest file of the archive, looking only at the hours in which it may lie."""
    most = timedelta(minutes=installation.settings.archive_max_age_minutes or 0)
    now = datetime.now(UTC)
    newest = _newest(installation.settings.storage_url, now, now - most)
    if newest and now - newest <= most:
        return finding(f"The newest archive file is of {newest:%H:%M} UTC.")
    if newest is None and _is_new(installation, now - most):
        waiting = f"None yet: it is looked for since less than {most // MINUTE} minutes. The first is due now."
        return finding("The archive has no file.", [Problem(Status.DEGRADED, waiting)])
    problem = (
        f"No archive file of the last {most // MINUTE} minutes (CLICKSTREAM_ARCHIVE_MAX_AGE_MINUTES):"
        " see the log of the generator (embedded stack: `make logs COMPONENT=generator`) or of the Lambda, and whether"
        " its schedule is on."
    )
    before = f"The newest is of {newest:%Y-%m-%d %H:%M} UTC." if newest else "None is in the hours before it."
    return finding(before, [Problem(Status.DOWN, problem)])


def _is_new(installation: Installation, since: datetime) -> bool:
    """Whether the generator was not looked at before a time."""
    with installation.connect() as conn:
        first = health.checked_since(conn, CHECK.component)
    return first is None or first > since


def _newest(storage_url: str, now: datetime, since: datetime) -> datetime | None:
    """The minute of the newest file, looking back up to the hour of `since`."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    while hour + HOUR > since:
        folder = at(storage_url, "archive", "clickstream", *f"{hour:%Y/%m/%d/%H}".split("/"))
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        minutes = [int(found[1]) for name in names if (found := MINUTE_OF_FILE.fullmatch(name))]
        if minutes:
            return hour + timedelta(minutes=max(minutes))
        hour -= HOUR
    return None


CHECK = Check(
    component="generator",
    look=look,
    remedy="See whether the archive below CLICKSTREAM_STORAGE_URL can be listed.",
    slow_seconds=5,
    deadline_seconds=20,
    configured=lambda settings: settings.archive_max_age_minutes is not None,
)
