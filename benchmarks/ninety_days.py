"""After 90 simulated days at 1,440 batches a day a batch costs at most 1.1 times what it cost after one.

The days are made by SQL and by linked files (`benchmarks.simulated_days`); at the end of each, `compact_events` and all
steps of `maintain_storage` run, as they are. Periods are short enough for sizes to be steady from the middle on. After
some of the days the database is copied; at the end, batches are measured on these copies, which take turns.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks import simulated_days
from benchmarks.batch_cost import STEPS as STEPS_OF_A_BATCH
from benchmarks.batch_cost import TOPIC_ID, Course, spark_session
from benchmarks.measure import alternating, end, output, show
from benchmarks.postgres import new_database, server
from benchmarks.simulated_days import DAY, HOUR, Clock, Template
from clickstream.maintenance import compaction, steps
from clickstream.retention import Retention
from infra.local.stack import TOPIC
from infra.local.status import local_data
from tests.kit import aging
from tests.kit.pipeline import RUN, Pipeline
from tests.kit.services import superuser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from psycopg import Connection
    from pyspark.sql import SparkSession

    from clickstream.settings import Settings
    from infra.local.stack import Stack

LIMIT = 1.1
SIZE_LIMIT = 1.5
ROUNDS = 7
MINUTES_AFTER_MIDNIGHT = 83  # when maintain_storage is scheduled
RETENTION = Retention(
    kafka_days=2,
    raw_days=3,
    rejected_days=3,
    attempts_days=2,
    events_days=7,
    windows_5_days=14,
    windows_60_days=30,
    sessions_days=14,
    ledger_days=7,
    published_days=30,
    archive_days=10,
    grace_hours=24,
)
GROWING = "ledger.retired_hours"  # 24 rows a day for ever: an hour that is gone must never be computed again
DATABASE = "clickstream"  # whose sizes `make status` shows
RESULTS = "analytics."
MONTH = 31  # days of a partition of 5-minute windows or sessions, which goes as a whole
SPARE = 3  # days: of the grace, and of the day that is not over
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c
WHERE (c.relkind = 'p' OR c.relkind = 'r' AND NOT c.relispartition)
  AND c.relnamespace::regnamespace::text IN ('ledger', 'analytics') AND NOT EXISTS (
    SELECT FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid AND k.relkind = 'p' WHERE i.inhparent = c.oid)
ORDER BY 1
"""
SCHEMAS = """
SELECT c.relnamespace::regnamespace::text, sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
WHERE c.relkind IN ('r', 'm') AND c.relnamespace::regnamespace::text IN ('ledger', 'analytics') GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, kw_only=True)
class Zone:
    """What is below a folder of the storage; `fullest` is the most entries of a single folder."""

    files: int
    bytes: int
    fullest: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What there is after a day's maintenance.

    Attributes:
        rows: By table.
        zones: By name.
        schemas: Bytes with indexes, by schema.
        waiting: Files and folders that wait for their removal.
        unaccounted: By check, where it isn't 0.
    """

    rows: dict[str, int]
    zones: dict[str, Zone]
    schemas: dict[str, int]
    waiting: int
    unaccounted: dict[str, int]

    def figures(self) -> dict[str, int]:
        """Everything that must not grow from the middle on, by name; results have bounds of their own."""
        ledger = {name: rows for name, rows in self.rows.items() if name != GROWING and not name.startswith(RESULTS)}
        return {
            **{f"rows of {name}": rows for name, rows in ledger.items()},
            **{f"files of {name}/": zone.files for name, zone in self.zones.items()},
            **{f"bytes of {name}/": zone.bytes for name, zone in self.zones.items()},
            **{f"entries of the fullest folder in {name}/": zone.fullest for name, zone in self.zones.items()},
            "bytes of schema ledger": self.schemas["ledger"],
            "removals waiting": self.waiting,
        }


class TwiceAnHour(Course):
    """Batches of which each second one meets the files of another in its hour."""

    second: bool = False

    def land(self) -> None:
        """Land events; every second time in the hour of the time before."""
        if self.second:
            self.hour -= HOUR
        self.second = not self.second
        super().land()

    def pair(self) -> float:
        """Two batches of one hour; returns the milliseconds of the second."""
        self.run()
        return self.run()

    def medians(self) -> dict[str, float]:
        """Milliseconds of each step of the batches that were counted."""
        return {step: median(self.steps[step][1::2]) for step in STEPS_OF_A_BATCH}


@dataclass
class History:
    """A pipeline that lives through simulated days.

    Attributes:
        stack: The stack whose PostgreSQL and storage it has; its storage must be empty.
        database: Its database.
        retention: Its periods.
        first: Start of the first day.
        batches: Batches a day.
        seconds: What each day's steps took, by name.
        missing: Modules of steps that are not there.
        copies: Names of the databases that were copied, by number of days.
    """

    stack: Stack
    database: str
    template: Template
    retention: Retention
    first: datetime
    batches: int
    seconds: list[dict[str, float]] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    copies: dict[int, str] = field(default_factory=dict)
    conn: Connection[Any] = field(init=False)
    pipeline: Pipeline = field(init=False)
    clock: Clock = field(init=False)

    @classmethod
    def begin(cls, stack: Stack, spark: SparkSession, *, days: int, batches: int, retention: Retention) -> History:
        """A new history that will be of today after so many days; its files are like those of a real batch."""
        scratch = Path(tempfile.mkdtemp(dir=stack.folder))
        original = Pipeline.create(stack, database=new_database(stack), topic=TOPIC, storage=scratch / "real")
        first = simulated_days.midnight() - days * DAY
        records = aging.batch_at(first, 0, minutes=range(simulated_days.ACCEPTED))
        original.land_records(records)
        original.aggregate_all(spark)
        template = Template(original, scratch / "template")
        original.close()
        with superuser(stack) as conn:
            conn.execute(f"DROP DATABASE {DATABASE}")
            conn.execute(f"ALTER DATABASE {new_database(stack)} RENAME TO {DATABASE}")
        made = cls(stack, DATABASE, template, retention, first, batches)
        made.connect()
        simulated_days.prepare(
            made.conn, topic=TOPIC, topic_id=TOPIC_ID, kafka_days=retention.kafka_days, first=made.first
        )
        made.clock = Clock(first)
        made.clock.set(made.pipeline.conn, first)
        made.step("add_partitions")
        return made

    def connect(self) -> None:
        """Open the connections, of a superuser and of the pipeline."""
        self.conn = superuser(self.stack, self.database)
        self.pipeline = self.pipeline_of(self.database)

    def pipeline_of(self, database: str) -> Pipeline:
        """A pipeline on a database, with the storage that all share."""
        made = Pipeline.create(self.stack, database=database, topic=TOPIC, storage=self.stack.storage)
        made.use(retention=self.retention)
        return made

    def close(self) -> None:
        """Close them."""
        self.conn.close()
        self.pipeline.close()

    def live(self) -> None:
        """Live one more day, and let data age at its end."""
        number = len(self.seconds)
        day = self.first + number * DAY
        took: dict[str, float] = {}
        self.seconds.append(took)
        with _timed(took, "simulation"):
            files = self.template.of_day(day)
            before = number * self.batches
            simulated_days.add_rows(self.conn, self.pipeline, files, day=day, before=before, batches=self.batches)
            simulated_days.add_files(
                self.stack.storage, TOPIC, files, day=day, before=before, batches=self.batches
            )  # fmt: skip
            self.template.forget(day)
            self.clock.set(self.pipeline.conn, day + DAY)
            self.conn.execute("UPDATE ledger.partitions SET observed_at = %s, caught_up_at = %s", [day + DAY] * 2)
        # Autovacuum comes many times a day, which here lasts seconds.
        tables = ", ".join(name for (name,) in self.conn.execute(TABLES))
        with _timed(took, "vacuum"):
            self.conn.execute(f"ANALYZE {tables}")
        now = day + DAY + MINUTES_AFTER_MIDNIGHT * HOUR / 60
        self.clock.set(self.pipeline.conn, now)
        self.conn.execute("UPDATE ledger.partitions SET observed_at = %s, caught_up_at = %s", [now] * 2)
        with _timed(took, "compact"):
            compaction.compact(self.pipeline.conn, self.pipeline.settings, RUN, dry_run=False)
        for name in steps.STEPS:
            with _timed(took, name):
                self.step(name)
        self._age_published()
        with _timed(took, "vacuum"):
            self.conn.execute(f"VACUUM (ANALYZE) {tables}")

    def step(self, name: str) -> None:
        """Run a step of maintenance at the simulated time; one whose module isn't there is skipped, and said so."""
        module = f"clickstream.maintenance.{steps.STEPS[name]}"
        try:
            loaded = import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            if name not in self.missing:
                output.print(f"{name} is skipped: there is no {module}")
            self.missing.add(name)
            if name == "publish_days":
                aging.mark_days_published(self.pipeline)
            return
        with ExitStack() as patches:
            if hasattr(loaded, "datetime"):
                patches.enter_context(mock.patch.object(loaded, "datetime", self.clock.as_datetime()))
            steps.run(name, self.pipeline.conn, self._settings_of(name), dry_run=False)

    def _settings_of(self, step: str) -> Settings:
        """The settings; for published days without a grace, as Delta knows what time it really is."""
        if step != "remove_days":
            return self.pipeline.settings
        at_once = self.retention.model_copy(update={"grace_hours": 0})
        return self.pipeline.settings.model_copy(update={"retention": at_once})

    def _age_published(self) -> None:
        """Let a day pass for the files of published days, as Delta removes of its log what is old by their times."""
        for path in (self.stack.storage / "published").rglob("*"):
            modified = path.stat().st_mtime - DAY.total_seconds()
            os.utime(path, (modified, modified))

    def copy(self) -> None:
        """Copy the database as it is after the days that were lived."""
        days = len(self.seconds)
        self.close()
        self.copies[days] = f"{self.database}_{days}"
        with superuser(self.stack) as conn:
            conn.execute(f"CREATE DATABASE {self.copies[days]} OWNER clickstream_owner TEMPLATE {self.database}")
        self.connect()
        self.clock.set(self.pipeline.conn, self.clock.now)

    def sizes(self) -> Sizes:
        """Count everything."""
        one = self.pipeline.one
        tables = [name for (name,) in self.conn.execute(TABLES)]
        return Sizes(
            rows={name: int(one(f"SELECT count(*) FROM {name}")) for name in tables},
            zones={path.name: _zone(path) for path in sorted(self.stack.storage.iterdir())},
            schemas=dict(self.conn.execute(SCHEMAS).fetchall()),
            waiting=int(one("SELECT count(*) FROM ledger.removals")),
            unaccounted=self.pipeline.unaccounted(),
        )

    def courses(self, spark: SparkSession) -> dict[int, TwiceAnHour]:
        """What measures batches after each of the days that were copied, in the hours of the next."""
        made = {}
        for days, database in self.copies.items():
            pipeline = self.pipeline_of(database)
            tomorrow = self.first + days * DAY
            Clock(tomorrow).set(pipeline.conn, tomorrow + DAY / 2)
            offset = pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 0")
            made[days] = TwiceAnHour(pipeline, spark, offset=offset, hour=tomorrow)
        return made


def main() -> None:
    """Live through the days, measure, print, end with 0 or 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--batches", type=int, default=1_440, help="a day, at most 1,440")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with server() as stack, spark_session(stack.folder / "scratch") as spark:
        history = History.begin(stack, spark, days=options.days, batches=options.batches, retention=RETENTION)
        marks = sorted({1, options.days // 3, options.days // 2, options.days * 2 // 3, options.days} - {0})
        sizes = live_through(history, marks, [days for days in marks if days != options.days // 2])
        courses = history.courses(spark)
        costs = costs_of(courses, rounds=ROUNDS)
        missed = [
            *too_large(sizes, options.days),
            *too_many_results(sizes, RETENTION),
            *unaccounted(sizes, courses),
        ]
        print_sizes(sizes, history)
        print_costs(courses, costs)
        show("`make status`", ("", ""), local_data(stack))
        ratio = costs[options.days] / costs[1]
        if ratio > LIMIT:
            missed.append(f"a batch after {options.days} days took {ratio:.3f} times one after the first")
        for pipeline in (history.pipeline, *(course.pipeline for course in courses.values())):
            pipeline.close()
        history.conn.close()
    end(missed)


def live_through(history: History, marks: list[int], measured: list[int]) -> dict[int, Sizes]:
    """Live until the last of these days; returns the sizes after each, and copies the database after the measured."""
    sizes = {}
    began = time.perf_counter()
    for days in range(1, max(marks) + 1):
        history.live()
        if days in marks:
            sizes[days] = history.sizes()
        if days in measured:
            history.copy()
        if days % 10 == 0 or days == 1:
            took = sum(history.seconds[-1].values())
            output.print(f"{days} days after {time.perf_counter() - began:,.0f} s, the last one took {took:.1f} s")
    return sizes


def costs_of(courses: dict[int, TwiceAnHour], *, rounds: int) -> dict[int, float]:
    """Median milliseconds of a batch, by number of days; the courses take turns, and all are warm."""
    for course in courses.values():
        course.pair()
        course.steps.clear()
    times = alternating({f"{days:05}": course.pair for days, course in courses.items()}, rounds=rounds)
    return {int(days): cost for days, cost in times.items()}


def too_large(sizes: dict[int, Sizes], days: int) -> list[str]:
    """What grew from the middle of the days to their end, a line each."""
    before, after = sizes[max(days // 2, 1)].figures(), sizes[days].figures()
    return [
        f"{name}: {figure:,} after {days} days, {before.get(name, 0):,} after {days // 2}"
        for name, figure in after.items()
        if figure > SIZE_LIMIT * before.get(name, 0)
    ]


def too_many_results(sizes: dict[int, Sizes], retention: Retention) -> list[str]:
    """Tables of results with more than what comes in their period and the length of a partition, a line each.

    60-minute windows have no bound here: they go by the year, which is longer than what is lived.
    """
    found = []
    for name, a_day in sizes[1].rows.items():
        if not name.startswith(RESULTS) or name.endswith("_by_window_60"):
            continue
        kept = MONTH + (retention.windows_5_days if name.endswith("_by_window_5") else retention.sessions_days)
        most = max(one.rows[name] for one in sizes.values())
        if most > a_day * (kept + SPARE):
            found.append(f"rows of {name}: {most:,}, {a_day:,} a day are kept for at most {kept} days")
    return found


def unaccounted(sizes: dict[int, Sizes], courses: dict[int, TwiceAnHour]) -> list[str]:
    """What is unaccounted for, after the days and after the batches that were measured, a line each."""
    found = [(f"after {days} days", size.unaccounted) for days, size in sizes.items()]
    found += [(f"after {days} days and more batches", one.pipeline.unaccounted()) for days, one in courses.items()]
    return [f"{when} unaccounted: {what}" for when, what in found if what]


def print_sizes(sizes: dict[int, Sizes], history: History) -> None:
    """Print rows, files and bytes, and what maintenance took."""
    days = list(sizes)
    columns = ("", *(f"day {one}" for one in days))
    every = list(sizes.values())
    show("Rows", columns, [(name, *(f"{one.rows[name]:,}" for one in every)) for name in every[-1].rows])
    none = Zone(files=0, bytes=0, fullest=0)
    rows: list[tuple[object, ...]] = []
    for name in sorted({name for one in every for name in one.zones}):
        zones = [one.zones.get(name, none) for one in every]
        rows.append((f"{name}/: files", *(f"{zone.files:,}" for zone in zones)))
        rows.append((f"{name}/: MB", *(zone.bytes / 1e6 for zone in zones)))
        rows.append((f"{name}/: entries of the fullest folder", *(f"{zone.fullest:,}" for zone in zones)))
    rows += [(f"schema {name}: MB", *(one.schemas[name] / 1e6 for one in every)) for name in every[-1].schemas]
    rows.append(("removals waiting", *(f"{one.waiting:,}" for one in every)))
    rows.append(("unaccounted", *(f"{sum(one.unaccounted.values()):,}" for one in every)))
    show("Files and bytes", columns, rows)
    names = [name for name in history.seconds[-1] if name not in history.missing]
    show(
        "Seconds of the day's maintenance",
        columns,
        [
            *((name, *(f"{history.seconds[day - 1][name]:.2f}" for day in days)) for name in names),
            ("all", *(sum(history.seconds[day - 1].values()) for day in days)),
        ],
    )


def print_costs(courses: dict[int, TwiceAnHour], costs: dict[int, float]) -> None:
    """Print what batches cost."""
    rows = [
        (f"after day {days}", *courses[days].medians().values(), costs[days], f"{costs[days] / costs[1]:.3f}")
        for days in costs
    ]
    show(
        f"A batch with 10 windows, medians of {ROUNDS} runs that take turns, in ms; limit {LIMIT} times the first",
        ("", *STEPS_OF_A_BATCH, "all", "ratio"),
        rows,
    )


def _zone(root: Path) -> Zone:
    files = size = fullest = 0
    for folder, folders, names in os.walk(root):
        files += len(names)
        size += sum(Path(folder, name).stat().st_size for name in names)
        fullest = max(fullest, len(folders) + len(names))
    return Zone(files=files, bytes=size, fullest=fullest)


@contextmanager
def _timed(took: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    took[name] = took.get(name, 0) + time.perf_counter() - began


if __name__ == "__main__":
    main()
