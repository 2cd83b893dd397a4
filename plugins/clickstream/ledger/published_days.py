"""Ledger SQL of published days: which are due, what they are made of, which were written."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, scalar_row

from clickstream.storage import WrittenFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from psycopg import Connection

DUE = """
WITH erased AS (
    SELECT count(*) AS users FROM ledger.erasures WHERE kind = 'user'
), open AS (
    SELECT (min(watermark) - interval '2 minutes' - make_interval(hours => %s)) AT TIME ZONE 'UTC' AS since
    FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL)
), found AS (
    SELECT (hour AT TIME ZONE 'UTC')::date AS day, sum(records)::bigint AS events, sum(bytes)::bigint AS bytes
    FROM ledger.event_files WHERE live GROUP BY 1
)
SELECT f.day, f.events, f.bytes FROM found f, open
WHERE f.day + 1 <= open.since
  AND NOT EXISTS (
    SELECT FROM ledger.published_days p, erased
    WHERE p.day = f.day AND p.events = f.events AND p.erasures_seen = erased.users)
  AND NOT EXISTS (SELECT FROM ledger.retired_hours r WHERE (r.hour AT TIME ZONE 'UTC')::date = f.day)
ORDER BY f.day
"""

CONTENT = """
SELECT %(day)s::date AS day, (SELECT count(*) FROM ledger.erasures WHERE kind = 'user') AS erasures, (
    SELECT array_agg(ARRAY[path, records::text, bytes::text] ORDER BY hour, path) FROM ledger.event_files
    WHERE live AND hour >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
      AND hour < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC') AS files
"""

RECORD = """
INSERT INTO ledger.published_days (day, events, erasures_seen) VALUES (%s, %s, %s)
ON CONFLICT (day) DO UPDATE
    SET events = excluded.events, erasures_seen = excluded.erasures_seen, published_at = clock_timestamp()
"""

EXPIRED = """
SELECT day FROM (SELECT day FROM ledger.published_days UNION SELECT unnest(%s::date[])) d
WHERE day < (now() AT TIME ZONE 'UTC')::date - %s AND NOT EXISTS (
    SELECT FROM ledger.event_files f WHERE f.live AND (f.hour AT TIME ZONE 'UTC')::date = d.day)
ORDER BY day
"""


@dataclass(frozen=True, kw_only=True)
class Due:
    """A closed day that is to be written; bytes are those of its live files."""

    day: date
    events: int
    bytes: int


@dataclass(frozen=True)
class Content:
    """What a day is made of at one moment.

    Attributes:
        day: The UTC day.
        erasures: How many users were erased.
        files: Its live event files, in the order of their hours.
    """

    day: date
    erasures: int
    files: tuple[WrittenFile, ...]

    @property
    def events(self) -> int:
        """Accepted events of the day."""
        return sum(file.records for file in self.files)


@contextmanager
def alone(conn: Connection[Any], *, wait: bool = False) -> Iterator[bool]:
    """Whether this session alone may write published days; for as long as the block runs, if it may.

    Args:
        conn: Connection of the writer in autocommit mode.
        wait: Whether to wait until it may.
    """
    with conn.cursor(row_factory=scalar_row) as cursor:
        if wait:
            cursor.execute("SELECT pg_advisory_lock(hashtext('published_days'))")
        got = wait or bool(cursor.execute("SELECT pg_try_advisory_lock(hashtext('published_days'))").fetchone())
    try:
        yield got
    finally:
        if got and not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(hashtext('published_days'))")


def due(conn: Connection[Any], *, allowed_lateness_hours: int) -> list[Due]:
    """Closed days whose table is not what their live files are, oldest first; days with a retired hour never are.

    Args:
        conn: Connection of the writer.
        allowed_lateness_hours: A day is closed when the least watermark has passed its end by as much, and by the two
            minutes after which windows are complete.
    """
    with conn.cursor(row_factory=class_row(Due)) as cursor:
        return cursor.execute(DUE, [allowed_lateness_hours]).fetchall()


def content(conn: Connection[Any], day: date) -> Content:
    """What a day is made of now."""
    row = conn.execute(CONTENT, {"day": day}).fetchone()
    found_day, erasures, files = row or (day, 0, None)
    return Content(
        found_day, erasures, tuple(WrittenFile(path, int(records), int(size)) for path, records, size in files or ())
    )


def record(conn: Connection[Any], read: Content) -> bool:
    """Note that the table has a day as it was read; only if it still is so.

    Returns:
        Whether it was noted.
    """
    with conn.transaction():
        if content(conn, read.day) != read:
            return False
        conn.execute(RECORD, [read.day, read.events, read.erasures])
        return True


def expired(conn: Connection[Any], in_table: Iterable[date], *, kept_days: int) -> list[date]:
    """Days of the ledger or the table that are older than what is kept, and have no live file, oldest first."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(EXPIRED, [list(in_table), kept_days]).fetchall()


def forget(conn: Connection[Any], gone: Iterable[date]) -> None:
    """Remove the rows of days that the table no longer has."""
    conn.execute("DELETE FROM ledger.published_days WHERE day = ANY(%s)", [list(gone)])
