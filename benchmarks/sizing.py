"""What an event costs at each stage, and what rates of events therefore need: the figures of docs/sizing.md.

Minutes of the generator's own events at 1,000 a second go through a real broker, the drain, a warm Spark session with
two cores and PostgreSQL. Costs that grow with the records of a batch, and with those of the hour that it reads again,
are told apart by batches of different sizes. No limit: the figures are for planning, and differ by machine.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.batch_cost import spark_session
from benchmarks.measure import output, show
from benchmarks.postgres import new_database
from clickstream_source.delivery import Record, deliver
from clickstream_source.minute import events_of_minute
from clickstream_source.settings import KafkaSettings
from clickstream_source.visitors import Shape
from infra.local import lifecycle
from infra.local.stack import Stack
from tests.kit.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyspark.sql import SparkSession

PER_SECOND = 1_000
MINUTES = 5
SMALL = 1_000
PARTITIONS = 4
CORES = 2
SPARK_START_SECONDS = 6.5  # of spark-submit before the first stage, measured apart: docs/sizing.md
DRAIN_SHARE = 0.6  # of each minute, the rest is room for catching up
BUSY_SHARE = 0.8  # of its interval that a batch may take, as the alert BatchSlow has it
RATES = (10, 100, 1_000, 5_000, 10_000)
INTERVALS = (60, 300, 900)
RESULTS = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Unit costs; seconds are of one process, of Spark with two cores.

    Attributes:
        make: Seconds to make an event.
        send: Seconds to produce one.
        land: Seconds to drain one.
        batch: Seconds of a batch whatever it brings, without Spark's start.
        new: Seconds of a new record in a batch.
        again: Seconds of a record of the same hour that an earlier batch accepted.
        publish: Seconds of publishing for each new record.
        kafka: Bytes of a record in the log, of one replica.
        raw: Bytes in the raw zone.
        events: Bytes in the events zone.
        database: Bytes in PostgreSQL, indexes included.
    """

    make: float
    send: float
    land: float
    batch: float
    new: float
    again: float
    publish: float
    kafka: float
    raw: float
    events: float
    database: float


class Course:
    """A pipeline that gets one lot of events after the other."""

    def __init__(self, pipeline: Pipeline, spark: SparkSession) -> None:
        self.pipeline = pipeline
        self.spark = spark

    def send(self, events: Sequence[Record]) -> None:
        """Produce events, each acknowledged."""
        settings = KafkaSettings.load(
            KAFKA_BOOTSTRAP_SERVERS=self.pipeline.settings.kafka_bootstrap_servers, TOPIC=self.pipeline.settings.topic
        )
        deliver(events, total=len(events), settings=settings, remedy="")

    def batch(self) -> tuple[float, float]:
        """Aggregate all that is landed as one batch; returns the seconds of the transformation and of publishing."""
        batch_id = self.pipeline.claim()
        if batch_id is None:
            raise AssertionError
        attempt_id = self.pipeline.begin(batch_id)
        transform = seconds(lambda: self.pipeline.transform(self.spark, attempt_id))
        return transform, seconds(lambda: self.pipeline.publish(attempt_id))


def seconds(work: Callable[[], object]) -> float:
    """Do the work and return how long it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure, print unit costs and what rates need."""
    logging.disable(logging.INFO)
    with _stack() as stack, spark_session(stack.folder) as spark:
        pipeline = _pipeline(stack)
        costs = _measure(Course(pipeline, spark))
        if pipeline.unaccounted():
            raise AssertionError(pipeline.unaccounted())
        pipeline.close()
    _show(costs)


def _measure(course: Course) -> Costs:
    pipeline = course.pipeline
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    course.send(_events(hour - timedelta(hours=1), SMALL))  # everything is warm after it
    pipeline.drain_all()
    course.batch()
    course.send(_events(hour - timedelta(hours=2), SMALL))
    pipeline.drain_all()
    alone, _ = course.batch()

    began = time.perf_counter()
    lots = [_events(hour + timedelta(minutes=minute), PER_SECOND * 60) for minute in range(MINUTES)]
    make = (time.perf_counter() - began) / sum(map(len, lots))
    rest = _events(hour + timedelta(minutes=MINUTES), SMALL)
    stored = _sizes(pipeline)
    first = [record for lot in lots for record in lot]
    send = seconds(lambda: course.send(first)) / len(first)
    land = seconds(pipeline.drain_all) / len(first)
    whole, publish = course.batch()
    grown = {name: (size - stored[name]) / len(first) for name, size in _sizes(pipeline).items()}
    course.send(rest)
    pipeline.drain_all()
    after, _ = course.batch()
    return Costs(
        make=make,
        send=send,
        land=land,
        batch=alone,
        new=(whole - alone) / len(first),
        again=(after - alone) / len(first),
        publish=publish / len(first),
        **grown,
    )


def _events(minute: datetime, events_per_minute: float) -> list[Record]:
    shape = Shape(seed=1, users=500_000, view_to_cart_rate=0.18, cart_to_purchase_rate=0.45)
    events = events_of_minute(
        shape=shape,
        producer_id="sizing",
        minute=minute,
        events_per_minute=events_per_minute,
        day_night_amplitude=0,
    )
    return [Record(event.key, event.to_json()) for event in events]


def _sizes(pipeline: Pipeline) -> dict[str, float]:
    """Bytes of everything that is kept."""
    storage = Path(pipeline.settings.storage_url.removeprefix("file://"))
    log = pipeline.stack.folder / "kafka" / "data"
    topic = pipeline.settings.topic
    return {
        "kafka": sum(file.stat().st_size for file in log.glob(f"{topic}-*/*.log")),
        "raw": sum(file.stat().st_size for file in storage.glob("raw/**/*.parquet")),
        "events": sum(file.stat().st_size for file in storage.glob("events/**/*.parquet")),
        "database": float(pipeline.one(f"{RESULTS} WHERE nspname IN ('analytics', 'ledger') AND relkind = 'r'")),
    }


def _show(costs: Costs) -> None:
    show(
        f"One process, Spark with {CORES} cores, warm",
        ("", "a second", "microseconds an event"),
        [
            (label, f"{1 / value:,.0f}", f"{value * 1e6:,.1f}")
            for label, value in (
                ("make events (Lambda)", costs.make),
                ("produce (Lambda)", costs.send),
                ("drain, one group", costs.land),
                ("transform, new records", costs.new),
                ("transform, records of the hour read again", costs.again),
                ("publish", costs.publish),
            )
        ],
    )
    output.print(
        f"A batch takes {costs.batch:.1f} s whatever it brings, and spark-submit {SPARK_START_SECONDS} s before."
    )
    show(
        "Bytes an event",
        ("", "bytes", "GB a day at 1,000 a second"),
        [
            (name, f"{getattr(costs, name):,.0f}", f"{getattr(costs, name) * 86.4e6 / 1e9:,.1f}")
            for name in ("kafka", "raw", "events", "database")
        ],
    )
    show(
        "What a rate needs; Spark's cores by interval of the batches, at the end of an hour",
        ("events a second", "drain groups", *(f"cores, every {interval // 60} min" for interval in INTERVALS)),
        [
            (f"{rate:,}", math.ceil(rate * costs.land / DRAIN_SHARE), *(_cores(costs, rate, i) for i in INTERVALS))
            for rate in RATES
        ],
    )


def _cores(costs: Costs, rate: float, interval: float) -> int:
    """Cores with which a batch takes at most the share of its interval that it may, in the last minutes of an hour."""
    free = BUSY_SHARE * interval - SPARK_START_SECONDS - costs.batch - costs.publish * rate * interval
    work = costs.new * rate * interval + costs.again * rate * 3600
    return max(1, math.ceil(CORES * work / free)) if free > 0 else -1


def _pipeline(stack: Stack) -> Pipeline:
    database = new_database(stack)
    storage = stack.folder / "sizing"
    storage.mkdir()
    pipeline = Pipeline.create(stack, database=database, topic=f"sizing-{uuid4().hex[:8]}", storage=storage)
    pipeline.partitions = PARTITIONS
    pipeline.use(drain_max_offsets=10_000_000, drain_groups=1, batch_max_offsets=100_000_000)
    pipeline.create_topic()
    return pipeline


@contextmanager
def _stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="clickstream-benchmark-"))
    stack = Stack.create(folder, dags_paused=True, with_generator=False, with_prometheus=False)
    try:
        lifecycle.up(stack)
        yield stack
    finally:
        lifecycle.down(stack)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
