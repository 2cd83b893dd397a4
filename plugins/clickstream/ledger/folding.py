"""Ledger SQL of folding: old batches are added up in one, and their segments in one a partition.

Every equation of `ledger.conservation` then holds as it did, over fewer rows: nothing is carried beside the ledger.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg.rows import scalar_row

from clickstream.ledger.publishing import lock_analytics

if TYPE_CHECKING:
    from psycopg import Connection

# The oldest batches whose files are all given up, without a gap: up to the first that must keep rows of its own.
FOLDABLE = """
WITH kept AS (
    SELECT min(b.batch_id) AS batch_id FROM ledger.batches b
    WHERE b.state = 'published' AND (
        b.published_at > now() - %(keep)s OR b.rejected_retired_at IS NULL
        OR EXISTS (SELECT FROM ledger.segments s WHERE s.batch_id = b.batch_id AND s.path IS NOT NULL)
        OR EXISTS (SELECT FROM ledger.attempts a WHERE a.batch_id = b.batch_id AND a.swept_at IS NULL)))
SELECT b.batch_id FROM ledger.batches b, kept
WHERE b.state = 'published' AND (kept.batch_id IS NULL OR b.batch_id < kept.batch_id)
ORDER BY b.batch_id
"""

FOLD = (
    # Each partition's last segment of these batches becomes the whole range; so what follows still follows on it.
    """
    CREATE TEMP TABLE folding ON COMMIT DROP AS
    SELECT topic_id, partition, max(end_offset) AS end_offset, min(first_offset) AS first_offset,
           sum(records) AS records, sum(absent) AS absent, sum(lost) AS lost, sum(historic) AS historic,
           min(first_record_at) AS first_record_at, max(last_record_at) AS last_record_at, count(*) AS segments
    FROM ledger.segments WHERE batch_id = ANY(%(batches)s) GROUP BY topic_id, partition
    """,
    """
    DELETE FROM ledger.segments s USING folding f
    WHERE s.batch_id = ANY(%(batches)s) AND (s.topic_id, s.partition) = (f.topic_id, f.partition)
      AND s.end_offset < f.end_offset
    """,
    """
    UPDATE ledger.segments s SET first_offset = f.first_offset, previous_end = NULL, records = f.records,
        absent = f.absent, lost = f.lost, historic = f.historic, first_record_at = f.first_record_at,
        last_record_at = f.last_record_at, batch_id = %(into)s, attempt_id = NULL, claim_limit = NULL,
        file_retired_at = CASE WHEN f.records > 0 THEN coalesce(s.file_retired_at, now()) END
    FROM folding f WHERE (s.topic_id, s.partition, s.end_offset) = (f.topic_id, f.partition, f.end_offset)
    """,
    """
    UPDATE ledger.batches b SET planned = o.planned, landed = o.landed, absent = o.absent, lost = o.lost,
        accepted = o.accepted, duplicate = o.duplicate, late = o.late, rejected = o.rejected,
        id_conflicts = o.id_conflicts, folded = o.folded
    FROM (
        SELECT sum(planned) AS planned, sum(landed) AS landed, sum(absent) AS absent, sum(lost) AS lost,
               sum(accepted) AS accepted, sum(duplicate) AS duplicate, sum(late) AS late, sum(rejected) AS rejected,
               sum(id_conflicts) AS id_conflicts, sum(folded) + count(*) - 1 AS folded
        FROM ledger.batches WHERE batch_id = ANY(%(batches)s)) o
    WHERE b.batch_id = %(into)s
    """,
    # No row of rejected_counts is inserted: what is inserted there counts as newly rejected.
    """
    WITH sums AS (
        SELECT reason, sum(records) AS records, max(batch_id) AS batch_id
        FROM ledger.rejected_counts WHERE batch_id = ANY(%(batches)s) GROUP BY reason
    ), gone AS (
        DELETE FROM ledger.rejected_counts c USING sums
        WHERE c.batch_id = ANY(%(batches)s) AND c.reason = sums.reason AND c.batch_id <> sums.batch_id)
    UPDATE ledger.rejected_counts c SET records = sums.records, batch_id = %(into)s
    FROM sums WHERE (c.batch_id, c.reason) = (sums.batch_id, sums.reason)
    """,
    "UPDATE ledger.event_files SET batch_id = %(into)s WHERE batch_id = ANY(%(batches)s) AND batch_id <> %(into)s",
    "DELETE FROM ledger.batch_windows WHERE batch_id = ANY(%(batches)s)",
    "DELETE FROM ledger.attempts WHERE batch_id = ANY(%(batches)s)",
    "DELETE FROM ledger.batches WHERE batch_id = ANY(%(batches)s) AND batch_id <> %(into)s",
)

FORGET_RELEASED = (
    """
    DELETE FROM ledger.attempts a USING ledger.batches b
    WHERE b.batch_id = a.batch_id AND b.state = 'released' AND b.created_at <= now() - %(keep)s
      AND a.swept_at IS NOT NULL
    """,
    """
    DELETE FROM ledger.batches b WHERE b.state = 'released' AND b.created_at <= now() - %(keep)s
      AND NOT EXISTS (SELECT FROM ledger.attempts a WHERE a.batch_id = b.batch_id)
    """,
)

OLD_DRAINS = """
FROM ledger.drains d WHERE d.planned_at <= now() - %(keep)s AND NOT EXISTS (
    SELECT FROM ledger.attempts a WHERE a.drain_id = d.drain_id AND (
        a.swept_at IS NULL OR EXISTS (SELECT FROM ledger.segments s WHERE s.attempt_id = a.attempt_id)))
"""

FORGET_DRAINS = f"""
WITH old AS MATERIALIZED (
    SELECT d.drain_id {OLD_DRAINS} ORDER BY d.drain_id LIMIT 5000 FOR UPDATE OF d
), attempts AS (
    DELETE FROM ledger.attempts a USING old WHERE a.drain_id = old.drain_id RETURNING a.attempt_id)
SELECT array_agg(drain_id) FROM old
"""  # noqa: S608 - constants of this module

FORGET_REWRITES = """
DELETE FROM ledger.rewrites
WHERE state <> 'open' AND (swept_at IS NOT NULL OR state = 'committed') AND ended_at <= now() - %(keep)s
"""


def foldable(conn: Connection[Any], keep_days: int) -> list[int]:
    """The oldest published batches that may be added up, the one that holds those folded before first.

    A batch keeps its own rows for `keep_days` after it was published, and while it has a raw file, rejected records
    or a folder of an attempt.
    """
    with conn.cursor(row_factory=scalar_row) as cursor:
        found: list[int] = cursor.execute(FOLDABLE, {"keep": timedelta(days=keep_days)}).fetchall()
    return found


def fold(conn: Connection[Any], batches: list[int]) -> None:
    """Add these batches up in the newest of them, in one transaction that changes no equation.

    Args:
        conn: Connection of the writer, outside of a transaction.
        batches: What `foldable` gave, or the first of them; two and more.

    Raises:
        psycopg.errors.IntegrityError: Their segments are not the first ones of each partition. Nothing was changed.
    """
    values = {"batches": batches, "into": batches[-1]}
    with conn.transaction():
        lock_analytics(conn)  # or event files of these batches could come meanwhile
        conn.execute("SET CONSTRAINTS ledger.segments_contiguous DEFERRED")
        for statement in FOLD:
            conn.execute(statement, values)


def forget_released(conn: Connection[Any], keep_days: int) -> int:
    """Delete old released batches, whose segments went on in others; returns how many."""
    with conn.transaction():
        return [conn.execute(one, {"keep": timedelta(days=keep_days)}).rowcount for one in FORGET_RELEASED][-1]


def old_drains(conn: Connection[Any], keep_days: int) -> int:
    """How many drains are old, and no segment with rows of its own is of them."""
    row = conn.execute(f"SELECT count(*) {OLD_DRAINS}", {"keep": timedelta(days=keep_days)}).fetchone()
    return int(row[0]) if row else 0


def forget_drains(conn: Connection[Any], keep_days: int) -> int:
    """Delete at most 5,000 old drains with their attempts; returns how many."""
    with conn.transaction():
        row = conn.execute(FORGET_DRAINS, {"keep": timedelta(days=keep_days)}).fetchone()
        found = (row and row[0]) or []
        conn.execute("DELETE FROM ledger.drains WHERE drain_id = ANY(%s)", [found])
    return len(found)


def forget_rewrites(conn: Connection[Any], keep_days: int) -> int:
    """Delete old rewrites of files; returns how many."""
    return conn.execute(FORGET_REWRITES, {"keep": timedelta(days=keep_days)}).rowcount
