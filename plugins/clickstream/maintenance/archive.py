"""Let go of the generator's minutes that have been kept long enough, by whole UTC days."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clickstream import storage
from clickstream.ledger import removals
from clickstream.ledger.removals import Removal
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import ObjectStoragePath
    from psycopg import Connection

    from clickstream.settings import Settings

RECENT = timedelta(days=60)  # within which what killed writers left behind is looked for; the rest goes with its day
DEPTH = 3  # of a day's folder: year, month, day


def retire_archive(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Days of the archive that ended `archive_days` ago, but for those that wait for their removal already.

    On a local disk it also removes what the generator had begun to write when it was killed, a grace later. What is no
    day is left alone and named.
    """
    today = datetime.now(UTC).date()
    keep = today - timedelta(days=settings.retention.archive_days)
    outcome = Outcome(what="days of the archive retired")
    left_behind = 0
    for day, folder in archived(settings):
        if day is None:
            outcome.lines.append(f"{folder} is no day of the archive and stays; move it elsewhere")
        elif day < keep:
            _retire(conn, day, folder, outcome, dry_run=dry_run)
        elif day >= today - RECENT and folder.protocol == "file":
            left_behind += _remove_left_behind(Path(folder.path), settings.retention.grace_hours, dry_run=dry_run)
    if left_behind:
        outcome.lines.append(f"{left_behind:,} files whose writer was killed")
    return outcome


def archived(settings: Settings) -> Iterator[tuple[date | None, ObjectStoragePath]]:
    """The days that the archive has, with their folders, the oldest first; what is no date is one of None.

    Lists years, months and days only.
    """
    return _below(storage.at(settings.storage_url, "archive", "clickstream"))


def _below(folder: ObjectStoragePath, *names: str) -> Iterator[tuple[date | None, ObjectStoragePath]]:
    for path in sorted(storage.listed(folder), key=lambda path: path.name):
        spelled = (*names, path.name)
        day = _date(*spelled)
        if day is None or len(spelled) == DEPTH:
            yield day, path
        else:
            yield from _below(path, *spelled)


def _date(*names: str) -> date | None:
    """The date that the names of folders spell, of a year or a month its first day; None if it is no date."""
    try:
        return date.fromisoformat("-".join([*names, "01", "01"][:DEPTH]))
    except ValueError:
        return None


def _retire(conn: Connection[Any], day: date, folder: ObjectStoragePath, outcome: Outcome, *, dry_run: bool) -> None:
    removal = Removal(path=f"{folder}/", zone="archive")
    if removals.is_decided(conn, removal.path):
        return
    outcome.items += 1
    outcome.lines.append(f"{day}")
    if dry_run:
        outcome.bytes += storage.size_of(removal.path)
    else:
        removals.decide(conn, [removal], reason="retention")


def _remove_left_behind(day: Path, grace_hours: int, *, dry_run: bool) -> int:
    """Remove temporary files of a day's hours that are older than the grace; returns how many."""
    until = datetime.now(UTC).timestamp() - timedelta(hours=grace_hours).total_seconds()
    found = 0
    for path in day.glob("*/.*.json.*.tmp"):
        with suppress(FileNotFoundError):  # whole by now
            if path.stat().st_mtime < until:
                found += 1
                if not dry_run:
                    path.unlink()
    return found
