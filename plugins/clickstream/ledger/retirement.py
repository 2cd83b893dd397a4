"""Ledger SQL of retention: which hours, raw files, rejected records and attempts may go, and their going.

Each statement that ends a file's being named writes the removal in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, scalar_row

from clickstream.ledger.publishing import lock_analytics

if TYPE_CHECKING:
    from datetime import date, datetime
    from uuid import UUID

    from psycopg import Connection

CHUNK = 5_000


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many, and their bytes."""

    items: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """How far back the log still matters.

    Attributes:
        unpublished_since: The least watermark: what is older is published. None while a partition has none.
        kafka_seconds: How long the broker keeps records, by the last plans; infinite where one keeps them for ever,
            0 before a plan.
    """

    unpublished_since: datetime | None
    kafka_seconds: float


HORIZON = """
SELECT (SELECT min(watermark) FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL)) AS unpublished_since,
       coalesce((SELECT max(retention_seconds) FROM ledger.partitions WHERE closed_at IS NULL), 0) AS kafka_seconds
"""

# An hour ages from its end and from its last publication, whichever is later; a day goes when all of its hours may,
# and when what analysts open holds all of its events.
AGED_DAYS = """
SELECT d.day, d.events, d.bytes, d.files,
       coalesce(p.events = d.events AND p.erasures_seen = e.users, false) AS published
FROM (
    SELECT (hour AT TIME ZONE 'UTC')::date AS day, sum(records)::bigint AS events, sum(bytes)::bigint AS bytes,
           count(*) AS files
    FROM ledger.event_files WHERE live AND hour < %(until)s GROUP BY 1) d
LEFT JOIN ledger.published_days p USING (day)
CROSS JOIN (SELECT count(*) AS users FROM ledger.erasures WHERE kind = 'user') e
WHERE (d.day + 1)::timestamp AT TIME ZONE 'UTC' <= %(until)s AND NOT EXISTS (
    SELECT FROM analytics.traffic_by_window t
    WHERE t.window_minutes = 60 AND t.window_start >= d.day::timestamp AT TIME ZONE 'UTC'
      AND t.window_start < (d.day + 1)::timestamp AT TIME ZONE 'UTC' AND t.published_at > now() - %(keep)s)
ORDER BY d.day
"""

RETIRE_HOURS = """
INSERT INTO ledger.retired_hours (hour, events)
SELECT h.hour, coalesce(sum(f.records), 0) FROM generate_series(
    %(day)s::timestamp AT TIME ZONE 'UTC', %(day)s::timestamp AT TIME ZONE 'UTC' + interval '23 hours',
    interval '1 hour') h (hour)
LEFT JOIN ledger.event_files f ON f.hour = h.hour AND f.live
WHERE NOT EXISTS (SELECT FROM ledger.retired_hours r WHERE r.hour = h.hour)
GROUP BY h.hour
"""

RETIRE_EVENT_FILES = """
WITH retired AS (
    UPDATE ledger.event_files SET live = false
    WHERE live AND hour >= %(day)s::timestamp AT TIME ZONE 'UTC'
      AND hour < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
    RETURNING path, bytes)
INSERT INTO ledger.removals (path, zone, bytes, reason) SELECT path, 'events', bytes, 'retention' FROM retired
ON CONFLICT DO NOTHING
"""

OLD_RAW_FILES = """
FROM ledger.segments s JOIN ledger.batches b USING (batch_id)
WHERE s.path IS NOT NULL AND b.state = 'published' AND b.published_at <= now() - %(keep)s
"""

RETIRE_RAW_FILES = f"""
WITH old AS MATERIALIZED (
    SELECT s.segment_id, s.path, s.bytes {OLD_RAW_FILES} ORDER BY s.segment_id LIMIT {CHUNK} FOR UPDATE OF s
), retired AS (
    UPDATE ledger.segments s SET path = NULL, bytes = NULL, file_retired_at = now()
    FROM old WHERE s.segment_id = old.segment_id)
INSERT INTO ledger.removals (path, zone, bytes, reason) SELECT path, 'raw', bytes, 'retention' FROM old
ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants of this module

OLD_REJECTED = """
FROM ledger.batches b
JOIN ledger.attempts a ON a.batch_id = b.batch_id AND a.state = 'committed'
WHERE b.state = 'published' AND b.rejected_retired_at IS NULL AND b.published_at <= now() - %(keep)s
"""

RETIRE_REJECTED = f"""
WITH old AS MATERIALIZED (
    SELECT b.batch_id, b.rejected, a.attempt_id {OLD_REJECTED}
    ORDER BY b.batch_id LIMIT {CHUNK} FOR UPDATE OF b
), samples AS (
    DELETE FROM ledger.rejections r USING old WHERE r.batch_id = old.batch_id
), retired AS (
    UPDATE ledger.batches b SET rejected_retired_at = now() FROM old WHERE b.batch_id = old.batch_id
), decided AS (
    INSERT INTO ledger.removals (path, zone, reason)
    SELECT %(storage_url)s || '/rejected/' || attempt_id || '/', 'rejected', 'retention' FROM old WHERE rejected > 0
    ON CONFLICT DO NOTHING)
SELECT count(*) FROM old
"""  # noqa: S608 - constants of this module

OLD_ATTEMPTS = """
FROM ledger.attempts a
WHERE a.state = 'committed' AND a.batch_id IS NOT NULL AND a.swept_at IS NULL AND a.ended_at <= now() - %(keep)s
"""

RETIRE_ATTEMPTS = f"""
WITH old AS MATERIALIZED (
    SELECT a.attempt_id {OLD_ATTEMPTS} ORDER BY a.ended_at LIMIT {CHUNK} FOR UPDATE OF a
), swept AS (
    UPDATE ledger.attempts a SET swept_at = now() FROM old WHERE a.attempt_id = old.attempt_id
), decided AS (
    INSERT INTO ledger.removals (path, zone, reason)
    SELECT %(storage_url)s || '/batches/' || attempt_id || '/', 'batches', 'retention' FROM old
    ON CONFLICT DO NOTHING)
SELECT count(*) FROM old
"""  # noqa: S608 - constants of this module


def horizon(conn: Connection[Any]) -> Horizon:
    """What is not published yet, and how long Kafka keeps it."""
    with conn.cursor(row_factory=class_row(Horizon)) as cursor:
        found = cursor.execute(HORIZON).fetchone()
    if found is None:
        raise AssertionError
    return found


@dataclass(frozen=True, kw_only=True)
class AgedDay:
    """A UTC day whose events are old enough to go; `published` tells whether analysts have all of them."""

    day: date
    events: int
    bytes: int
    files: int
    published: bool


def aged_days(conn: Connection[Any], *, until: datetime, keep_days: int) -> list[AgedDay]:
    """Days that end by `until`, whose hours were last published `keep_days` ago or earlier."""
    with conn.cursor(row_factory=class_row(AgedDay)) as cursor:
        return cursor.execute(AGED_DAYS, {"until": until, "keep": timedelta(days=keep_days)}).fetchall()


def retire_day(conn: Connection[Any], day: date, *, until: datetime, keep_days: int) -> bool:
    """Write down all hours of a day as retired, and give their files to the removals, in one transaction.

    Returns:
        Whether it was retired; False where it was published again since `aged_days` saw it.
    """
    with conn.transaction():
        lock_analytics(conn)
        now_aged = aged_days(conn, until=until, keep_days=keep_days)
        if not any(one.day == day and one.published for one in now_aged):
            return False
        conn.execute(RETIRE_HOURS, {"day": day})
        conn.execute(RETIRE_EVENT_FILES, {"day": day})
    return True


def old_raw_files(conn: Connection[Any], keep_days: int) -> Size:
    """Raw files of batches that were published `keep_days` ago or earlier."""
    query = f"SELECT count(*) AS items, coalesce(sum(s.bytes), 0)::bigint AS bytes {OLD_RAW_FILES}"
    with conn.cursor(row_factory=class_row(Size)) as cursor:
        found = cursor.execute(query, {"keep": timedelta(days=keep_days)}).fetchone()
    if found is None:
        raise AssertionError
    return found


def retire_raw_files(conn: Connection[Any], keep_days: int) -> int:
    """Give at most 5,000 of these files to the removals; returns how many. Their segments keep their counts."""
    return conn.execute(RETIRE_RAW_FILES, {"keep": timedelta(days=keep_days)}).rowcount


def old_rejected(conn: Connection[Any], keep_days: int) -> list[UUID]:
    """The published attempts of batches whose rejected records are old: their ids name the folders."""
    return _ids(conn, f"SELECT a.attempt_id {OLD_REJECTED}", keep_days)


def retire_rejected(conn: Connection[Any], storage_url: str, keep_days: int) -> int:
    """Let go of the rejected records of at most 5,000 batches, files and samples; returns how many batches."""
    return _count(conn, RETIRE_REJECTED, storage_url, keep_days)


def old_attempts(conn: Connection[Any], keep_days: int) -> list[UUID]:
    """Published attempts whose spec, report and staged tables are old: their ids name the folders."""
    return _ids(conn, f"SELECT a.attempt_id {OLD_ATTEMPTS}", keep_days)


def retire_attempts(conn: Connection[Any], storage_url: str, keep_days: int) -> int:
    """Give the folders of at most 5,000 such attempts to the removals; returns how many."""
    return _count(conn, RETIRE_ATTEMPTS, storage_url, keep_days)


def _ids(conn: Connection[Any], query: str, keep_days: int) -> list[UUID]:
    with conn.cursor(row_factory=scalar_row) as cursor:
        found: list[UUID] = cursor.execute(query, {"keep": timedelta(days=keep_days)}).fetchall()
    return found


def _count(conn: Connection[Any], statement: str, storage_url: str, keep_days: int) -> int:
    values = {"storage_url": storage_url, "keep": timedelta(days=keep_days)}
    row = conn.execute(statement, values).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, kw_only=True)
class DeadAttempt:
    """An attempt that ended without effect, in whole or for some of its ranges.

    Attributes:
        attempt_id: Its id.
        kind: `drain`, `batch`, `compaction` or `erasure`.
        raw_folders: Below raw/, as `<topic>/partition=<p>`, where it may have written.
        segments: Paths of its that are segments, which stay.
    """

    attempt_id: UUID
    kind: str
    raw_folders: list[str]
    segments: list[str]


# A drain's attempt may have landed some of its ranges while another was faster with the rest.
DEAD_ATTEMPTS = """
SELECT a.attempt_id, CASE WHEN a.batch_id IS NULL THEN 'drain' ELSE 'batch' END AS kind,
       coalesce((SELECT array_agg(DISTINCT p.topic || '/partition=' || p.partition) FROM ledger.drain_ranges r
                 JOIN ledger.partitions p USING (topic_id, partition) WHERE r.drain_id = a.drain_id), '{}')
           AS raw_folders,
       coalesce((SELECT array_agg(s.path) FROM ledger.segments s
                 WHERE s.attempt_id = a.attempt_id AND s.path IS NOT NULL), '{}') AS segments
FROM ledger.attempts a
WHERE a.swept_at IS NULL AND (a.state = 'dead' OR a.state = 'committed' AND a.drain_id IS NOT NULL AND (
    SELECT count(*) FROM ledger.segments s WHERE s.attempt_id = a.attempt_id) < (
    SELECT count(*) FROM ledger.drain_ranges r WHERE r.drain_id = a.drain_id))
UNION ALL
SELECT w.attempt_id, w.kind,
       CASE w.kind WHEN 'erasure' THEN coalesce((
           SELECT array_agg(DISTINCT p.topic || '/partition=' || p.partition) FROM ledger.partitions p), '{}')
       ELSE '{}' END, '{}'
FROM ledger.rewrites w WHERE w.swept_at IS NULL AND w.state = 'dead'
"""

# An erasure may take longer than the grace, and holds its lock for as long.
BURY_OLD_REWRITES = """
UPDATE ledger.rewrites SET state = 'dead' WHERE state = 'open' AND created_at <= now() - %(grace)s
    AND (kind <> 'erasure' OR pg_try_advisory_xact_lock_shared(hashtext('erase_user')))
"""

# Committed drains whose ranges all became segments have nothing to sweep.
SETTLE_DRAINS = """
UPDATE ledger.attempts a SET swept_at = now()
WHERE a.swept_at IS NULL AND a.state = 'committed' AND a.drain_id IS NOT NULL AND (
    SELECT count(*) FROM ledger.segments s WHERE s.attempt_id = a.attempt_id) >= (
    SELECT count(*) FROM ledger.drain_ranges r WHERE r.drain_id = a.drain_id)
"""


def settle_attempts(conn: Connection[Any], grace_hours: int) -> None:
    """Call rewrites dead that are open since longer than the grace, and drains swept that have left nothing behind.

    An erasure that is at work is not dead, however long it takes.
    """
    conn.execute(BURY_OLD_REWRITES, {"grace": timedelta(hours=grace_hours)})
    conn.execute(SETTLE_DRAINS)


def dead_attempts(conn: Connection[Any]) -> list[DeadAttempt]:
    """Attempts whose files without effect are not given to the removals yet."""
    with conn.cursor(row_factory=class_row(DeadAttempt)) as cursor:
        return cursor.execute(DEAD_ATTEMPTS).fetchall()


def mark_swept(conn: Connection[Any], attempt_id: UUID) -> None:
    """Write down that an attempt's files without effect are given to the removals."""
    for table in ("attempts", "rewrites"):
        conn.execute(f"UPDATE ledger.{table} SET swept_at = now() WHERE attempt_id = %s", [attempt_id])  # noqa: S608
