"""Ledger SQL of the metrics: what one scrape reads, as of one moment, at the same cost however long the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, scalar_row

from clickstream.ledger.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Connection

STATEMENT_TIMEOUT_MS = 1_500  # the first statement that a lock holds up ends the reading


@dataclass(frozen=True, kw_only=True)
class PartitionFigures:
    """A partition's row of `ledger.lag`; offsets of the log as the last plan saw them, None what is not known yet."""

    topic: str
    partition: int
    committed_offset: int
    log_start_offset: int
    log_end_offset: int
    lag_records: int
    lag_seconds: float | None
    retention_headroom_seconds: float | None
    stopped: str | None


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Published batches whose stage took more than the bucket before, and at most `at_most` seconds."""

    stage: str
    at_most: float
    batches: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class OpenBatch:
    """The open batch: its age in seconds, its attempts so far; both 0 when none is open."""

    age_seconds: float
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The newest audit that still counts: seconds since the epoch, and what its equations miss."""

    audited_at: float
    unaccounted: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """The newest check of a component that still counts."""

    component: str
    status: str
    latency_seconds: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the ledger says of the whole pipeline.

    Attributes:
        totals: Counts since the beginning by label, for each of `batches`, `records` and `rejected`.
        durations: How long published batches took, by stage and bucket, in order; not cumulative.
        watermark: The least watermark of all partitions in seconds since the epoch, None while one has none.
        unpublished_records: Landed in segments that are not published.
        open_batch: The open batch.
        audit: The newest audit, None where none is young enough.
        checks: One for each component that was checked lately.
        partitions: One for each partition of an incarnation that isn't closed.
    """

    totals: Mapping[str, Mapping[str, int]]
    durations: list[Bucket]
    watermark: float | None
    unpublished_records: int
    open_batch: OpenBatch
    audit: Audit | None
    checks: list[Check]
    partitions: list[PartitionFigures]


TOTALS = "SELECT metric, jsonb_object_agg(label, value ORDER BY label) FROM ledger.totals GROUP BY metric"

DURATIONS = "SELECT stage, at_most, batches, seconds FROM ledger.stage_durations ORDER BY stage, at_most"

WATERMARK = """
SELECT extract(epoch FROM min(watermark))::float8 FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL)
"""

UNPUBLISHED = "SELECT coalesce(sum(records), 0)::bigint FROM ledger.unpublished_segments"

OPEN_BATCH = """
SELECT coalesce(max(extract(epoch FROM now() - created_at)), 0)::float8 AS age_seconds,
       coalesce(max(attempt), 0) AS attempts
FROM ledger.batches WHERE state = 'open'
"""

# An audit or check older than 15 minutes, three intervals, says nothing about now.
AUDIT = """
SELECT extract(epoch FROM audited_at)::float8 AS audited_at, sum(unaccounted)::bigint AS unaccounted FROM ledger.audits
WHERE audited_at = (SELECT max(audited_at) FROM ledger.audits) AND audited_at > now() - interval '15 minutes'
GROUP BY audited_at
"""

CHECKS = """
SELECT component, status, latency_seconds FROM ledger.health
WHERE checked_at > now() - interval '15 minutes' ORDER BY component
"""

PARTITIONS = """
SELECT topic, partition, next_offset AS committed_offset, log_start_offset, log_end_offset, lag_records, lag_seconds,
       retention_headroom_seconds, stopped
FROM ledger.lag ORDER BY topic, partition
"""


def read(conn: Connection[Any]) -> Figures:
    """Read all figures in one read-only snapshot.

    Args:
        conn: Connection outside of a transaction.

    Raises:
        psycopg.Error: The ledger can't be read, or a statement took longer than `STATEMENT_TIMEOUT_MS`.
    """
    with snapshot(conn, statement_timeout_ms=STATEMENT_TIMEOUT_MS):
        single = conn.cursor(row_factory=scalar_row)
        return Figures(
            totals=dict(conn.execute(TOTALS).fetchall()),
            durations=conn.cursor(row_factory=class_row(Bucket)).execute(DURATIONS).fetchall(),
            watermark=single.execute(WATERMARK).fetchone(),
            unpublished_records=single.execute(UNPUBLISHED).fetchone() or 0,
            open_batch=conn.cursor(row_factory=class_row(OpenBatch)).execute(OPEN_BATCH).fetchall()[0],
            audit=conn.cursor(row_factory=class_row(Audit)).execute(AUDIT).fetchone(),
            checks=conn.cursor(row_factory=class_row(Check)).execute(CHECKS).fetchall(),
            partitions=conn.cursor(row_factory=class_row(PartitionFigures)).execute(PARTITIONS).fetchall(),
        )
