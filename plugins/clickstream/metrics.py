"""The pipeline's metrics: every name with its unit and meaning, filled from the ledger at each scrape."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickstream.ledger import metrics as ledger_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from psycopg import Connection

    from clickstream.ledger.metrics import Figures, PartitionFigures

log = logging.getLogger(__name__)

# Of a partition: name, field of PartitionFigures, meaning.
PARTITION_GAUGES = (
    (
        "clickstream_committed_offset",
        "committed_offset",
        "Next offset to land (an offset); all before it are in the ledger.",
    ),
    (
        "clickstream_log_start_offset",
        "log_start_offset",
        "First offset in Kafka's log (an offset) when the last drain planned.",
    ),
    (
        "clickstream_log_end_offset",
        "log_end_offset",
        "End of Kafka's log (an offset, exclusive) when the last drain planned.",
    ),
    (
        "clickstream_lag_records",
        "lag_records",
        "Records (offsets) from the next one to land to the end of the log when the last drain planned.",
    ),
)


class LedgerCollector(Collector):
    """Reads the ledger at each scrape, so that no restart of any process changes a counter.

    A ledger that can't be read is logged and shown by `exporter_scrape_success` 0, without any other metric: an
    old or partial number would look like a healthy one.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Connection[Any]]]) -> None:
        """Take what opens a connection that may read the ledger."""
        self._connect = connect

    def collect(self) -> Iterable[Metric]:
        """Yield every metric of one scrape."""
        try:
            with self._connect() as conn:
                figures = ledger_metrics.read(conn)
        except Exception:
            log.exception("The ledger can't be read, so this scrape has no metrics. Check connection and database.")
            yield _scrape_success(succeeded=False)
            return
        yield from _families(figures)
        yield _scrape_success(succeeded=True)


def _scrape_success(*, succeeded: bool) -> Metric:
    return GaugeMetricFamily(
        "exporter_scrape_success",
        "Whether this scrape could read its sources (boolean: 1 yes, 0 no, and then no other metric is there).",
        value=int(succeeded),
    )


def _families(figures: Figures) -> Iterator[Metric]:
    yield _counter("clickstream_batches_total", "Batches by outcome (batches).", "outcome", figures.batches)
    yield _counter(
        "clickstream_records_total",
        "Records of published batches by disposition (records).",
        "disposition",
        figures.records,
    )
    yield _counter(
        "clickstream_rejected_records_total",
        "Rejected records of published batches by reason (records).",
        "reason",
        figures.rejected,
    )
    watermark = GaugeMetricFamily(
        "clickstream_watermark_timestamp_seconds",
        "Time up to which all partitions are published (seconds since the epoch); absent while one has none.",
    )
    if figures.watermark is not None:
        watermark.add_metric([], figures.watermark)
    yield watermark
    yield GaugeMetricFamily(
        "clickstream_unaccounted_records",
        "What the ledger's equations miss, summed over them (records or offsets); 0 when all hold.",
        value=figures.unaccounted,
    )
    yield from _partition_families(figures.partitions)


def _counter(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _partition_families(partitions: Iterable[PartitionFigures]) -> Iterator[Metric]:
    for name, field, meaning in PARTITION_GAUGES:
        family = GaugeMetricFamily(name, meaning, labels=["topic", "partition"])
        for one in partitions:
            family.add_metric([one.topic, str(one.partition)], getattr(one, field))
        yield family
    stopped = GaugeMetricFamily(
        "clickstream_partition_stopped",
        "Partition that can't be drained until a person acts (boolean: 1); absent where all is well.",
        labels=["topic", "partition", "reason"],
    )
    for one in partitions:
        if one.stopped is not None:
            stopped.add_metric([one.topic, str(one.partition), one.stopped], 1)
    yield stopped
