"""Ledger SQL of the metrics: what one scrape reads, as of one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, dict_row, scalar_row

if TYPE_CHECKING:
    from psycopg import Connection

STATEMENT_TIMEOUT_MS = 1_500  # each of a scrape's five statements; Prometheus gives up after 10 s


@dataclass(frozen=True, kw_only=True)
class PartitionFigures:
    """A partition's offsets; those of the log as the last plan saw them."""

    topic: str
    partition: int
    committed_offset: int
    log_start_offset: int
    log_end_offset: int
    lag_records: int
    stopped: str | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the ledger says of the whole pipeline.

    Attributes:
        batches: Batches by outcome, `published` and `released`.
        records: Records of published batches by disposition.
        rejected: Rejected records by reason; only reasons that occurred.
        watermark: The least watermark of all partitions in seconds since the epoch, None while one has none.
        unaccounted: Sum over the checks of `ledger.conservation`; 0 when all hold.
        partitions: One for each partition of an incarnation that isn't closed.
    """

    batches: dict[str, int]
    records: dict[str, int]
    rejected: dict[str, int]
    watermark: float | None
    unaccounted: int
    partitions: list[PartitionFigures]


BATCHES = """
SELECT count(*) FILTER (WHERE state = 'published') AS published, count(*) FILTER (WHERE state = 'released') AS released
FROM ledger.batches
"""

RECORDS = """
SELECT coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(duplicate), 0)::bigint AS duplicate,
       coalesce(sum(late), 0)::bigint AS late, coalesce(sum(rejected), 0)::bigint AS rejected
FROM ledger.batches WHERE state = 'published'
"""

REJECTED = "SELECT reason, sum(records)::bigint FROM ledger.rejected_counts GROUP BY reason ORDER BY reason"

WATERMARK = """
SELECT extract(epoch FROM min(watermark))::float8 FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL)
"""

UNACCOUNTED = "SELECT coalesce(sum(unaccounted), 0)::bigint AS records FROM ledger.conservation"

PARTITIONS = """
SELECT topic, partition, next_offset AS committed_offset, log_start_offset, log_end_offset,
       greatest(log_end_offset - next_offset, 0) AS lag_records, stopped
FROM ledger.partitions WHERE closed_at IS NULL ORDER BY topic, partition
"""


def read(conn: Connection[Any]) -> Figures:
    """Read all figures in one read-only snapshot.

    Args:
        conn: Connection outside of a transaction.

    Raises:
        psycopg.Error: The ledger can't be read, or a statement took longer than `STATEMENT_TIMEOUT_MS`.
    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        conn.execute("SELECT set_config('statement_timeout', %s, true)", [str(STATEMENT_TIMEOUT_MS)])
        counts = conn.cursor(row_factory=dict_row)
        return Figures(
            batches=counts.execute(BATCHES).fetchone() or {},
            records=counts.execute(RECORDS).fetchone() or {},
            rejected=dict(conn.execute(REJECTED).fetchall()),
            watermark=conn.cursor(row_factory=scalar_row).execute(WATERMARK).fetchone(),
            unaccounted=(counts.execute(UNACCOUNTED).fetchone() or {})["records"],
            partitions=conn.cursor(row_factory=class_row(PartitionFigures)).execute(PARTITIONS).fetchall(),
        )
