"""Metrics of the pipeline, from the ledger."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from clickstream.metrics.families import counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from clickstream.ledger.metrics import Figures

STAGE_BOUNDS = (1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 600, 1800, inf)  # as in ledger.add_duration

TOTALS = {  # of ledger.totals
    "batches": ("clickstream_batches_total", "Batches by outcome (batches).", "outcome"),
    "records": (
        "clickstream_records_total",
        "Records of published batches by disposition (records).",
        "disposition",
    ),
    "rejected": (
        "clickstream_rejected_records_total",
        "Rejected records of published batches by reason (records).",
        "reason",
    ),
}

PARTITION_GAUGES = {  # name without prefix, which is the field of PartitionFigures too
    "committed_offset": "Next offset to land (an offset); all before it are in the ledger.",
    "log_start_offset": "First offset in Kafka's log (an offset) when the last drain planned.",
    "log_end_offset": "End of Kafka's log (an offset, exclusive) when the last drain planned.",
    "lag_records": "Records (offsets) from the next one to land to the end of the log when the last drain planned.",
    "lag_seconds": "Time since which a record may wait to be landed (seconds); grows while no drain runs.",
    "retention_headroom_seconds": "Time until Kafka deletes the oldest record that may not be landed (seconds).",
}


def families(figures: Figures) -> Iterator[Metric]:
    """Every metric that the ledger tells."""
    for metric, (name, meaning, label) in TOTALS.items():
        counts = figures.totals.get(metric, {})
        yield counter(name, meaning, [label], (([value], count) for value, count in counts.items()))
    yield histogram(
        "clickstream_batch_duration_seconds",
        "Time that published batches took (seconds) by stage: queue (from the claim to the last attempt), spark,"
        " publish, and total.",
        ["stage"],
        STAGE_BOUNDS,
        (((b.stage,), b.at_most, b.batches, b.seconds) for b in figures.durations),
    )
    yield gauge(
        "clickstream_watermark_timestamp_seconds",
        "Time up to which all partitions are published (seconds since the epoch); absent while one has none.",
        [],
        [([], figures.watermark)],
    )
    yield gauge(
        "clickstream_unpublished_records",
        "Records that are landed but not published (records).",
        [],
        [([], figures.unpublished_records)],
    )
    yield gauge(
        "clickstream_open_batch_age_seconds",
        "Time since the open batch was claimed (seconds); 0 when none is open.",
        [],
        [([], figures.open_batch.age_seconds)],
    )
    yield gauge(
        "clickstream_open_batch_attempts",
        "Attempts at the open batch so far (attempts); 0 when none is open.",
        [],
        [([], figures.open_batch.attempts)],
    )
    yield from _checks(figures)
    yield from _partitions(figures)


def _checks(figures: Figures) -> Iterator[Metric]:
    audit = figures.audit
    yield gauge(
        "clickstream_unaccounted_records",
        "What the ledger's equations missed, summed over them (records or offsets), in the newest audit; 0 when all"
        " hold. Absent when that is older than 15 minutes.",
        [],
        [([], audit.unaccounted if audit else None)],
    )
    yield gauge(
        "clickstream_audit_timestamp_seconds",
        "When the ledger's equations were checked last (seconds since the epoch).",
        [],
        [([], audit.audited_at if audit else None)],
    )
    yield gauge(
        "clickstream_component_up",
        "Whether a component did its work in its newest check (boolean). Absent when that is older than 15 minutes.",
        ["component"],
        (([check.component], check.status != "down") for check in figures.checks),
    )
    yield gauge(
        "clickstream_component_degraded",
        "Whether a component works but needs attention (boolean). Absent when its check is older than 15 minutes.",
        ["component"],
        (([check.component], check.status == "degraded") for check in figures.checks),
    )
    yield gauge(
        "clickstream_canary_roundtrip_seconds",
        "Time from producing a canary record to consuming it (seconds) in the newest check; absent when it failed.",
        [],
        (([], c.latency_seconds) for c in figures.checks if c.component == "kafka_canary" and c.status != "down"),
    )


def _partitions(figures: Figures) -> Iterator[Metric]:
    for field, meaning in PARTITION_GAUGES.items():
        yield gauge(
            f"clickstream_{field}",
            meaning,
            ["topic", "partition"],
            (([one.topic, str(one.partition)], getattr(one, field)) for one in figures.partitions),
        )
    yield gauge(
        "clickstream_partition_stopped",
        "Partition that can't be drained until a person acts (boolean: 1); absent where all is well.",
        ["topic", "partition", "reason"],
        (([one.topic, str(one.partition), one.stopped], 1) for one in figures.partitions if one.stopped),
    )
