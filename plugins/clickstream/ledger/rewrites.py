"""Ledger SQL of compaction: which hours have many files, and the swap of their files for fewer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from clickstream.errors import StaleAttempt, StaleBase
from clickstream.ledger import hours, removals
from clickstream.ledger.publishing import lock_analytics
from clickstream.ledger.removals import Removal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg import Connection


@dataclass(frozen=True, kw_only=True)
class LiveFile:
    """A live event file of an hour; size in bytes."""

    path: str
    records: int
    bytes: int
    batch_id: int


@dataclass(frozen=True, kw_only=True)
class ManyFiles:
    """A closed hour with more files than its events need."""

    hour: datetime
    files: int
    records: int
    bytes: int


# While late data may still come, an hour waits for a few files more, or each late event would rewrite it.
MANY_FILES = """
SELECT f.hour, count(*) AS files, sum(f.records)::bigint AS records, sum(f.bytes)::bigint AS bytes
FROM ledger.event_files f, (
    SELECT min(watermark) AS watermark FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL)) w
WHERE f.live AND f.hour + interval '62 minutes' <= w.watermark
GROUP BY f.hour, w.watermark
HAVING count(*) > ceil(sum(f.records) / %(records_per_file)s::numeric)
    + CASE WHEN f.hour + interval '1 hour' + %(lateness)s <= w.watermark THEN 0 ELSE %(spare)s END
ORDER BY f.hour LIMIT %(most)s
"""

LIVE_FILES = "SELECT path, records, bytes, batch_id FROM ledger.event_files WHERE live AND hour = %s ORDER BY path"


def hours_with_many_files(
    conn: Connection[Any], *, records_per_file: int, spare: int, lateness_hours: int, most: int
) -> list[ManyFiles]:
    """Closed hours with more files than their events need, the oldest first.

    Args:
        conn: Connection of the writer.
        records_per_file: Most events of a file.
        spare: How many files more an hour may have while it can still get late events.
        lateness_hours: How long that is.
        most: Most hours to return.
    """
    with conn.cursor(row_factory=class_row(ManyFiles)) as cursor:
        return cursor.execute(
            MANY_FILES,
            {
                "records_per_file": records_per_file,
                "spare": spare,
                "lateness": timedelta(hours=lateness_hours),
                "most": most,
            },
        ).fetchall()


def live_files(conn: Connection[Any], hour: datetime) -> list[LiveFile]:
    """The live event files of an hour."""
    with conn.cursor(row_factory=class_row(LiveFile)) as cursor:
        return cursor.execute(LIVE_FILES, [hour]).fetchall()


def register(conn: Connection[Any], *, kind: str, subject: str, dag_run_id: str) -> UUID:
    """A new attempt at rewriting, whose id names its folders; older open ones of the subject are dead from now on."""
    with conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(
            "UPDATE ledger.rewrites SET state = 'dead' WHERE kind = %s AND subject = %s AND state = 'open'",
            [kind, subject],
        )
        return UUID(
            str(
                cursor.execute(
                    "INSERT INTO ledger.rewrites (kind, subject, dag_run_id) VALUES (%s, %s, %s) RETURNING attempt_id",
                    [kind, subject, dag_run_id],
                ).fetchone()
            )
        )


def abandon(conn: Connection[Any], attempt_id: UUID) -> None:
    """Call an attempt dead, so that its files are swept."""
    conn.execute("UPDATE ledger.rewrites SET state = 'dead' WHERE attempt_id = %s AND state = 'open'", [attempt_id])


def commit(conn: Connection[Any], attempt_id: UUID) -> None:
    """The guarded first statement of a swap: the attempt is open.

    Raises:
        StaleAttempt: If it is not. Nothing was changed.
    """
    done = conn.execute(
        "UPDATE ledger.rewrites SET state = 'committed' WHERE attempt_id = %s AND state = 'open'", [attempt_id]
    ).rowcount
    if done != 1:
        raise StaleAttempt(
            f"Attempt {attempt_id} at rewriting files is not open any more: another one is at work or has done it."
            " Nothing was changed and nothing is to be done."
        )


def swap(
    conn: Connection[Any],
    attempt_id: UUID,
    hour: datetime,
    old: Sequence[LiveFile],
    new: Sequence[tuple[str, int, int]],
) -> None:
    """Let files of an hour take the place of those that were read, in one transaction.

    Args:
        conn: Connection of the writer, outside of a transaction.
        attempt_id: The attempt that wrote them.
        hour: The hour.
        old: All live files of the hour, as they were read.
        new: Path, records and bytes of each new file.

    Raises:
        StaleAttempt: If the attempt isn't open.
        StaleBase: If the hour has other files by now.
    """
    with conn.transaction():
        commit(conn, attempt_id)
        lock_analytics(conn)
        if live_files(conn, hour) != list(old):
            raise StaleBase(
                f"The events of {hours.spell(hour)} were added to, rewritten or retired while they were compacted."
                " Nothing was changed; the next run reads anew."
            )
        conn.execute("UPDATE ledger.event_files SET live = false WHERE live AND hour = %s", [hour])
        removals.decide(
            conn, [Removal(path=file.path, zone="events", bytes=file.bytes) for file in old], reason="replaced"
        )
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO ledger.event_files (path, hour, records, bytes, batch_id) VALUES (%s, %s, %s, %s, %s)",
                [(path, hour, records, size, max(f.batch_id for f in old)) for path, records, size in new],
            )
