"""Ledger SQL of the page `Pipeline health`: bounded rows, at a cost that doesn't grow with history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row

from clickstream.ledger.snapshot import snapshot

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import Connection

STATEMENT_TIMEOUT_MS = 1_500

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The pipeline as of one moment; each row has the columns that its query names, times with their zone.

    Attributes:
        as_of: The database's clock.
        watermark: Everything before it is published, None while a partition has no watermark.
        complete_until: Windows that end by it lack no on-time data, None before any data.
        waiting: `offsets` and `segments` landed but not published.
        partitions: One for each partition that isn't closed, stopped ones first; `of` is how many there are.
        batches: The newest 20.
        windows: Those of the last six hours that have events, newest first.
        overdue: `windows` that ended 12 minutes ago and more, but are provisional, and the `oldest` of them.
        losses: Declared in the last 24 hours.
        rejects: By reason: records `ever`, in the last `day` (of the `landed_day` records of its batches), and at most
            three `examples` of the newest of these batches that has the reason, texts masked.
        checks: The newest check of each component.
        audit: The newest audit, a row an equation.
        batch: The batch that was asked for with its attempts, segments and rejects, None if there is none.
        drains: The ranges of the drain run that was asked for.
    """

    as_of: datetime
    watermark: datetime | None
    complete_until: datetime | None
    waiting: Row
    partitions: list[Row]
    batches: list[Row]
    windows: list[Row]
    overdue: Row
    losses: list[Row]
    rejects: list[Row]
    checks: list[Row]
    audit: list[Row]
    batch: Row | None
    drains: list[Row]


PROGRESS = """
SELECT now() AS as_of,
       (SELECT min(watermark) FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL)) AS watermark,
       (SELECT complete_until FROM analytics.completeness) AS complete_until
"""

WAITING = """
SELECT coalesce(sum(end_offset - first_offset), 0)::bigint AS offsets, count(*) AS segments
FROM ledger.unpublished_segments
"""

PARTITIONS = """
SELECT l.topic, l.partition, l.next_offset, l.log_start_offset, l.log_end_offset, l.lag_records, l.lag_seconds,
       nullif(l.retention_headroom_seconds, 'Infinity') AS headroom_seconds,
       coalesce(l.retention_headroom_seconds = 'Infinity', false) AS kept_for_ever,
       w.watermark, p.observed_at, l.stopped, left(p.stopped_reason, 2000) AS stopped_reason, p.stopped_at,
       count(*) OVER () AS of
FROM ledger.lag l JOIN ledger.partitions p USING (topic_id, partition)
LEFT JOIN ledger.watermarks w USING (topic_id, partition)
ORDER BY l.stopped IS NULL, l.topic, l.partition LIMIT 200
"""

BATCH = """
SELECT b.batch_id, b.state, b.attempt AS attempts, b.created_at, b.published_at,
       b.planned, b.landed, b.absent, b.lost, b.planned - b.landed - b.absent - b.lost AS offsets_missing,
       b.accepted, b.duplicate, b.late, b.rejected,
       b.landed - b.accepted - b.duplicate - b.late - b.rejected AS records_missing,
       extract(epoch FROM a.created_at - b.created_at)::float8 AS queue_seconds,
       extract(epoch FROM b.published_at - a.created_at)::float8 AS spark_seconds,
       extract(epoch FROM b.written_at - b.published_at)::float8 AS publish_seconds,
       extract(epoch FROM b.written_at - b.created_at)::float8 AS total_seconds,
       coalesce(a.dag_run_id, b.dag_run_id) AS dag_run_id
FROM ledger.batches b LEFT JOIN ledger.attempts a USING (batch_id, attempt)
"""
NEWEST_BATCHES = f"{BATCH} ORDER BY b.batch_id DESC LIMIT 20"
ONE_BATCH = f"{BATCH} WHERE b.batch_id = %(batch_id)s"

ATTEMPTS = """
SELECT attempt, state, created_at, dag_run_id FROM ledger.attempts
WHERE batch_id = %(batch_id)s ORDER BY attempt DESC LIMIT 20
"""

SEGMENTS = """
SELECT p.topic, s.partition, s.first_offset, s.end_offset, s.records, s.absent, s.lost, s.first_record_at,
       s.last_record_at, s.path, s.bytes, a.dag_run_id, count(*) OVER () AS of
FROM ledger.segments s JOIN ledger.partitions p USING (topic_id, partition)
LEFT JOIN ledger.attempts a ON a.attempt_id = s.attempt_id
WHERE s.batch_id = %(batch_id)s ORDER BY p.topic, s.partition, s.first_offset LIMIT 200
"""

REJECTED = """
SELECT reason, records FROM ledger.rejected_counts WHERE batch_id = %(batch_id)s ORDER BY records DESC, reason
"""

DRAINS = """
SELECT d.drain_id, d.planned_at, p.topic, r.partition, r.first_offset, r.end_offset,
       s.end_offset AS landed_end, s.records, s.absent, s.path, s.bytes, s.batch_id,
       (SELECT count(*) FROM ledger.attempts a WHERE a.drain_id = d.drain_id) AS attempts, count(*) OVER () AS of
FROM ledger.drains d JOIN ledger.drain_ranges r USING (drain_id) JOIN ledger.partitions p USING (topic_id, partition)
LEFT JOIN ledger.segments s
    ON (s.topic_id, s.partition, s.first_offset) = (r.topic_id, r.partition, r.first_offset)
WHERE d.dag_run_id = %(drain_run)s ORDER BY d.drain_id DESC, p.topic, r.partition LIMIT 200
"""

WINDOWS = """
SELECT window_start, window_minutes, events, status, revision, batch_id FROM analytics.traffic_by_window
WHERE window_start > date_trunc('hour', now(), 'UTC') - interval '6 hours'
  AND window_start <= now() + interval '5 minutes' AND window_minutes IN (5, 60)
ORDER BY window_start DESC, window_minutes LIMIT 100
"""

OVERDUE = """
SELECT count(*) AS windows, min(window_start) AS oldest FROM (
    SELECT window_start FROM analytics.traffic_by_window
    WHERE status = 'provisional' AND window_start + (window_minutes + 12) * interval '1 minute' < now()
    ORDER BY window_start LIMIT 1000) w
"""

LOSSES = """
SELECT p.topic, l.partition, l.first_offset, l.end_offset, left(l.reason, 500) AS reason, l.declared_at
FROM (SELECT * FROM ledger.losses ORDER BY loss_id DESC LIMIT 20) l JOIN ledger.partitions p USING (topic_id, partition)
WHERE l.declared_at > now() - interval '24 hours' AND l.end_offset > l.first_offset ORDER BY l.loss_id DESC
"""

# A day has at most a batch for each drain, every minute, and one for each tick of the aggregation's own cron.
REJECTS = """
WITH day AS (
    SELECT batch_id, landed FROM (SELECT * FROM ledger.batches ORDER BY batch_id DESC LIMIT 2000) b
    WHERE published_at > now() - interval '24 hours'
), rejected AS (
    SELECT reason, sum(records)::bigint AS records, max(batch_id) AS newest
    FROM ledger.rejected_counts JOIN day USING (batch_id) GROUP BY reason)
SELECT t.label AS reason, t.value AS ever, coalesce(r.records, 0) AS day,
       (SELECT coalesce(sum(landed), 0)::bigint FROM day) AS landed_day, coalesce(e.examples, '[]') AS examples
FROM ledger.totals t LEFT JOIN rejected r ON r.reason = t.label
CROSS JOIN LATERAL (SELECT jsonb_agg(to_jsonb(m)) AS examples FROM (
    SELECT p.topic, m.partition, m."offset", m.batch_id, m.record_at, left(m.detail, 200) AS detail,
           left(m.excerpt, 300) AS excerpt
    FROM ledger.masked_rejections m JOIN ledger.partitions p USING (topic_id, partition)
    WHERE m.batch_id = r.newest AND m.reason = r.reason LIMIT 3) m) e
WHERE t.metric = 'rejected' ORDER BY coalesce(r.records, 0) DESC, t.value DESC, t.label LIMIT 50
"""

CHECKS = """
SELECT component, checked_at, status, latency_seconds, left(reason, 2000) AS reason, dag_run_id
FROM ledger.health ORDER BY CASE status WHEN 'down' THEN 0 WHEN 'degraded' THEN 1 ELSE 2 END, component LIMIT 100
"""

AUDIT = """
SELECT audited_at, check_name, value, unaccounted FROM ledger.audits
WHERE audited_at = (SELECT max(audited_at) FROM ledger.audits) ORDER BY unaccounted = 0, check_name LIMIT 100
"""


def read(conn: Connection[Any], *, batch_id: int | None = None, drain_run: str | None = None) -> Overview:
    """Read everything in one read-only snapshot.

    Args:
        conn: Connection outside of a transaction.
        batch_id: A batch to look into.
        drain_run: The id of a run of `drain_clickstream` to look into.

    Raises:
        psycopg.Error: The ledger can't be read, or a statement took longer than `STATEMENT_TIMEOUT_MS`.
    """
    asked = {"batch_id": batch_id, "drain_run": drain_run}
    with snapshot(conn, statement_timeout_ms=STATEMENT_TIMEOUT_MS), conn.cursor(row_factory=dict_row) as cursor:

        def rows(query: str) -> list[Row]:
            return cursor.execute(query, asked).fetchall()

        (progress,), (waiting,), (overdue,) = map(rows, (PROGRESS, WAITING, OVERDUE))
        found = rows(ONE_BATCH) if batch_id is not None else []
        return Overview(
            **progress,
            waiting=waiting,
            partitions=rows(PARTITIONS),
            batches=rows(NEWEST_BATCHES),
            windows=rows(WINDOWS),
            overdue=overdue,
            losses=rows(LOSSES),
            rejects=rows(REJECTS),
            checks=rows(CHECKS),
            audit=rows(AUDIT),
            batch={**found[0], "tries": rows(ATTEMPTS), "segments": rows(SEGMENTS), "rejects": rows(REJECTED)}
            if found
            else None,
            drains=rows(DRAINS) if drain_run is not None else [],
        )
