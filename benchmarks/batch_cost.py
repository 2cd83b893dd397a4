"""What a batch costs doesn't depend on how many came before: 10 or 1,000 older batches, at most 1.1 times as much.

The batch brings 600 events, a minute at the default rate, in nine 5-minute windows of one hour: ten windows. The
hour has one batch already; the older ones lie in other hours, one in each, as ledger rows, results and event files.
A run is claim, begin, transform in a warm Spark session, and publish. Two pipelines take turns.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import ClientCursor
from pyspark.sql import SparkSession

from benchmarks.measure import alternating, end, output, show
from benchmarks.postgres import new_database, server
from tests.kit.pipeline import Pipeline
from tests.kit.records import event, purchase
from tests.kit.services import superuser
from tests.oracle import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from clickstream_transform.protocol import Report
    from infra.local.stack import Stack

OLDER = (10, 1_000)
LIMIT = 1.1
ROUNDS = 15
WARM_UP = 3
EVENTS = 600
WINDOWS = 10
TOPIC_ID = "benchmark"
NOW = datetime(2026, 6, 1, tzinfo=UTC)  # the newest of the older batches lies in the hour before
HOUR = timedelta(hours=1)
STEPS = ("claim", "begin", "transform", "publish")

# Copies of the first batch, each an hour and so many offsets later; files and events are copied beside.
COPIES = """
INSERT INTO ledger.batches (batch_id, state, attempt, planned, landed, absent, lost, accepted, duplicate, late,
    rejected, id_conflicts, settings, created_at, published_at, dag_run_id)
OVERRIDING SYSTEM VALUE
SELECT batch_id + n, state, attempt, planned, landed, absent, lost, accepted, duplicate, late, rejected, id_conflicts,
       settings, created_at, published_at, dag_run_id
FROM ledger.batches, generate_series(1, %(copies)s) n;
SELECT setval(pg_get_serial_sequence('ledger.batches', 'batch_id'), max(batch_id)) FROM ledger.batches;

INSERT INTO ledger.attempts (batch_id, attempt, state, dag_run_id)
SELECT batch_id + n, attempt, state, dag_run_id FROM ledger.attempts, generate_series(1, %(copies)s) n
WHERE batch_id IS NOT NULL;

INSERT INTO ledger.batch_windows (batch_id, window_start, window_minutes)
SELECT batch_id + n, window_start + n * interval '1 hour', window_minutes
FROM ledger.batch_windows, generate_series(1, %(copies)s) n;

INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost, historic,
    first_record_at, last_record_at, path, bytes, batch_id, attempt_id, previous_end)
SELECT topic_id, partition, first_offset + n * %(events)s, end_offset + n * %(events)s, records, absent, lost, historic,
       first_record_at + n * interval '1 hour', last_record_at + n * interval '1 hour', path || '-' || n, bytes,
       batch_id + n, attempt_id, first_offset + n * %(events)s
FROM ledger.segments, generate_series(1, %(copies)s) n;

UPDATE ledger.partitions SET
    next_offset = next_offset + %(copies)s * %(events)s, log_end_offset = log_end_offset + %(copies)s * %(events)s,
    last_record_at = last_record_at + %(copies)s * interval '1 hour';
"""
SHIFTED = {
    "window_start": "window_start + n * interval '1 hour'",
    "hour": "hour + n * interval '1 hour'",
    "started_at": "started_at + n * interval '1 hour'",
    "ended_at": "ended_at + n * interval '1 hour'",
    "session_id": "session_id || '-' || n",
    "batch_id": "batch_id + n",
}


@dataclass
class Course:
    """A pipeline, and the batches that it gets one after the other, each in an hour that has one already.

    Attributes:
        offset: The next offset of its only partition.
        hour: The hour of the next batch.
        steps: Milliseconds of each step, in the order of the batches.
        report: Spark's report on the last batch.
    """

    pipeline: Pipeline
    spark: SparkSession
    offset: int = 0
    hour: datetime = NOW
    steps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    report: Report | None = None

    def run(self) -> float:
        """Land events, then measure the batch of them; returns milliseconds."""
        self.land()
        pipeline, marks = self.pipeline, [time.perf_counter()]
        batch_id = pipeline.claim()
        marks.append(time.perf_counter())
        if batch_id is None:
            raise AssertionError
        attempt_id = pipeline.begin(batch_id)
        marks.append(time.perf_counter())
        self.report = pipeline.transform(self.spark, attempt_id)
        marks.append(time.perf_counter())
        published = pipeline.publish(attempt_id)
        marks.append(time.perf_counter())
        for step, (began, ended) in zip(STEPS, pairwise(marks), strict=True):
            self.steps[step].append((ended - began) * 1_000)
        touched = pipeline.one("SELECT count(*) FROM ledger.batch_windows WHERE batch_id = %s", batch_id)
        if not published or touched != WINDOWS:
            raise AssertionError(published, touched)
        return (marks[-1] - marks[0]) * 1_000

    def land(self) -> None:
        """Land 600 events in nine 5-minute windows of the hour; the next ones come an hour later."""
        records = []
        for number in range(self.offset, self.offset + EVENTS):
            at = self.hour + timedelta(minutes=number % 9 * 5, milliseconds=number % 997)
            records.append(_record(number, at, self.hour + timedelta(minutes=50)))
        self.pipeline.land_records(records)
        self.offset += EVENTS
        self.hour += HOUR


def main() -> None:
    """Measure, print, end with 0 or 1."""
    logging.disable(logging.INFO)
    with server() as stack, _storage() as storage, spark_session(storage) as spark:
        courses = {f"{older:,} older batches": _course(stack, storage, spark, older) for older in OLDER}
        for course in list(courses.values()) * WARM_UP:
            course.run()
        for course in courses.values():
            course.steps.clear()
        times = alternating({name: course.run for name, course in courses.items()}, rounds=ROUNDS)
        few, many = times.values()
        show(
            f"A batch with 10 windows, medians of {ROUNDS} alternating runs in ms; limit {LIMIT}",
            ("", *STEPS, "all"),
            [
                *(
                    (name, *(median(one.steps[step][1:]) for step in STEPS), times[name])
                    for name, one in courses.items()
                ),
                ("ratio", *("" for _ in STEPS), f"{many / few:.3f}"),
            ],
        )
        show("What a batch read", ("", "hours", "files", "bytes", "live files there are", "without these"), [
            (name, *_read(course), _without_other_hours(course)) for name, course in courses.items()
        ])  # fmt: skip
        for course in courses.values():
            _check(course.pipeline)
            course.pipeline.close()
    end([f"a batch after 1,000 took {many / few:.3f} times one after 10"] * (many / few > LIMIT))


def _course(stack: Stack, storage: Path, spark: SparkSession, older: int) -> Course:
    """A pipeline with so many batches and one in each hour to come: the first is real, the others are copies."""
    database = new_database(stack)
    pipeline = Pipeline.create(stack, database=database, topic="benchmark", storage=storage / database)
    course = Course(pipeline, spark, hour=NOW - older * HOUR)
    course.land()
    pipeline.aggregate_all(spark)
    copies = older - 1 + WARM_UP + ROUNDS + 2
    with superuser(stack, database) as conn:
        _copy_rows(conn, copies)
        _copy_event_file(conn, hour=NOW - older * HOUR, copies=copies)
        conn.execute("VACUUM ANALYZE")
    raw = Path(pipeline.one("SELECT path FROM ledger.segments ORDER BY segment_id LIMIT 1").removeprefix("file://"))
    for number in range(1, copies + 1):
        shutil.copyfile(raw, f"{raw}-{number}")
    course.offset, course.hour = (copies + 1) * EVENTS, NOW
    _check(pipeline)
    output.print(f"{older:,} older batches: {pipeline.one('SELECT count(*) FROM ledger.event_files')} event files")
    return course


def _copy_rows(conn: Connection[Any], copies: int) -> None:
    ClientCursor(conn).execute(COPIES, {"copies": copies, "events": EVENTS})
    tables = conn.execute(
        "SELECT table_name, array_agg(column_name::text) FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'analytics' AND table_type = 'BASE TABLE' GROUP BY 1"
    ).fetchall()
    for table, columns in tables:
        values = ", ".join(SHIFTED.get(name, name) for name in columns)
        conn.execute(
            f"INSERT INTO analytics.{table} ({', '.join(columns)}) SELECT {values}"
            f" FROM analytics.{table}, generate_series(1, %s) n",
            [copies],
        )


def _copy_event_file(conn: Connection[Any], *, hour: datetime, copies: int) -> None:
    """Write copies of the only event file, each an hour and 600 offsets later, and register them."""
    ((path,),) = conn.execute("SELECT path FROM ledger.event_files").fetchall()
    source = Path(path.removeprefix("file://"))
    events = pq.ParquetFile(source).read()
    for number in range(1, copies + 1):
        start = hour + number * HOUR
        folder = source.parents[2] / str(uuid4()) / f"hour={start:%Y-%m-%dT%H}"
        folder.mkdir(parents=True)
        copy = folder / source.name
        pq.write_table(_later(events, number), copy, compression="zstd")
        conn.execute(
            "INSERT INTO ledger.event_files (path, hour, records, bytes, batch_id) VALUES (%s, %s, %s, %s, %s)",
            [f"file://{copy}", start, events.num_rows, copy.stat().st_size, 1 + number],
        )


def _later(events: pa.Table, number: int) -> pa.Table:
    """The same events, so many hours and batches later; identities are new."""
    changes = {
        "offset": lambda value: value + number * EVENTS,
        "record_time": lambda value: value + number * HOUR,
        "event_time": lambda value: value + number * HOUR,
        "event_id": lambda value: f"{value}-{number}",
        "session_id": lambda value: f"{value}-{number}",
        "fingerprint": lambda value: sha256(value + str(number).encode()).digest(),
    }
    for name, change in changes.items():
        column = events.schema.field(name)
        values = pa.array(map(change, events[name].to_pylist()), column.type)
        events = events.set_column(events.schema.get_field_index(name), column, values)
    return events


def _record(number: int, at: datetime, landed_at: datetime) -> Record:
    make = purchase if number % 20 == 0 else event
    value = make(
        eventId=f"e{number}",
        userId=f"u{number % 400}",
        sessionId=f"s{number // 6}",
        eventTime=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        page=f"/products/{number % 190}",
        device=("mobile", "desktop", "tablet")[number % 3],
        region=("eu-west", "us-east", "japan", "brazil")[number // 3 % 4],
    )
    landed = int(landed_at.timestamp() * 1_000)
    return Record(TOPIC_ID, 0, number, landed, value["sessionId"].encode(), json.dumps(value).encode())


def _read(course: Course) -> tuple[str, int, int, int]:
    if course.report is None:
        raise AssertionError
    report = course.report
    live = course.pipeline.one("SELECT count(*) FROM ledger.event_files WHERE live")
    return ", ".join(report.hours), report.hours_read.files, report.hours_read.bytes, live


def _without_other_hours(course: Course) -> str:
    """Take the files of all other hours away, raw ones and events, and publish a batch all the same."""
    paths = course.pipeline.conn.execute(
        "SELECT path FROM ledger.event_files WHERE hour <> %s UNION SELECT path FROM ledger.segments", [course.hour]
    )
    for (path,) in paths.fetchall():
        Path(path.removeprefix("file://")).unlink()
    course.run()
    return "published"


def _check(pipeline: Pipeline) -> None:
    wrong = pipeline.conn.execute("SELECT * FROM ledger.hour_checks WHERE expected <> found").fetchall()
    if wrong or pipeline.unaccounted():
        raise AssertionError(wrong, pipeline.unaccounted())


@contextmanager
def _storage() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="clickstream-benchmark-storage-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def spark_session(scratch: Path) -> Iterator[SparkSession]:
    """A session with the options of a submitted one, for more batches than one."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    options = {
        "spark.driver.memory": "1g",
        # One level of compilation alone would get 48 MiB for code, which some twenty batches fill.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(scratch / "spark"),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.python.sql.dataFrameDebugging.enabled": "false",
    }
    builder = SparkSession.builder.master("local[2]").appName("benchmark")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


if __name__ == "__main__":
    main()
