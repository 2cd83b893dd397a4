"""Let go of the generator's minutes that have been kept long enough, by whole UTC days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
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


def retire_archive(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Days of the archive that ended `archive_days` ago."""
    keep = datetime.now(UTC).date() - timedelta(days=settings.retention.archive_days)
    outcome = Outcome(what="days of the archive retired")
    for day, folder in archived_days(settings):
        if day >= keep:
            break
        outcome.items += 1
        outcome.lines.append(f"{day}")
        if dry_run:
            outcome.bytes += storage.size_of(f"{folder}/")
        else:
            with conn.transaction():
                removals.decide(conn, [Removal(path=f"{folder}/", zone="archive")], reason="retention")
    return outcome


def archived_days(settings: Settings) -> Iterator[tuple[date, ObjectStoragePath]]:
    """The days that the archive has, with their folders, the oldest first; lists years, months and days only."""
    for year in _numbered(storage.at(settings.storage_url, "archive", "clickstream"), 4):
        for month in _numbered(year, 2):
            for day in _numbered(month, 2):
                yield date(int(year.name), int(month.name), int(day.name)), day


def _numbered(folder: ObjectStoragePath, digits: int) -> list[ObjectStoragePath]:
    return sorted(
        (path for path in storage.listed(folder) if path.name.isdecimal() and len(path.name) == digits),
        key=lambda path: path.name,
    )
