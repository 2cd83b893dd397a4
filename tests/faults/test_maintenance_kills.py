"""Maintenance that is killed anywhere, run twice, or run beside all else ends as if nothing had happened."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable
from psycopg import sql

from clickstream.errors import ClickstreamError, StaleBase
from clickstream.maintenance import compaction, days, steps
from clickstream.retention import Retention
from tests import oracle
from tests.kit import aging
from tests.kit.aging import LONG_AGO, MOMENTS, again, partition
from tests.kit.pipeline import RUN, Pipeline
from tests.kit.records import HISTORIC
from tests.kit.victims import kill_maintenance
from tests.oracle import Record

if TYPE_CHECKING:
    from psycopg import Connection
    from pyspark.sql import SparkSession

    from clickstream.settings import Settings

# Of long ago are two days, whose events, 5-minute windows and sessions are past their time.
RETENTION = Retention(events_days=30, windows_5_days=30, sessions_days=30)
ONE_DAY_LESS = RETENTION.model_copy(update={"published_days": 99})
OLD_DAYS = (LONG_AGO, LONG_AGO + aging.DAY)

KILLS = [  # one in each step
    ("compact", "maintenance.compaction._write", "after"),
    ("add_partitions", "ledger.partitions.add", "after"),
    ("publish_days", "ledger.published_days.record", "before"),
    ("retire_hours", "ledger.retirement.retire_day", "after"),
    ("retire_raw", "ledger.retirement.retire_raw_files", "after"),
    ("retire_rejected", "ledger.retirement.retire_rejected", "after"),
    ("retire_attempts", "ledger.retirement.retire_attempts", "after"),
    ("retire_archive", "ledger.removals.decide", "after"),
    ("remove_windows", "maintenance.results._drop_windows", "after"),
    ("remove_sessions", "ledger.partitions.remove_sessions_of", "after"),
    ("remove_days", "maintenance.days._delete", "after"),
    ("fold_ledger", "ledger.folding.fold", "after"),
    ("sweep_dead", "ledger.removals.decide", "after"),
    ("sweep", "ledger.removals.forget", "before"),
]
MORE_KILLS = [
    ("compact", "ledger.rewrites.register", "after"),
    ("compact", "ledger.removals.decide", "before"),
    ("compact", "ledger.removals.decide", "after"),
    ("compact", "ledger.rewrites.swap", "after"),
    ("add_partitions", "ledger.partitions.analyze", "before"),
    ("publish_days", "maintenance.days._create", "after"),
    ("publish_days", "storage.sync", "before"),
    ("publish_days", "ledger.published_days.record", "after"),
    ("retire_hours", "ledger.retirement.aged_days", "after"),
    ("retire_raw", "ledger.retirement.retire_raw_files", "before"),
    ("remove_windows", "ledger.partitions.drop", "after"),
    ("remove_windows", "ledger.partitions.remove_rest_of_windows", "after"),
    ("remove_windows", "maintenance.results._in_chunks", "after"),
    ("remove_sessions", "maintenance.results._drop_hours", "after"),
    ("remove_sessions", "ledger.partitions.remove_rest_of_sessions", "after"),
    ("remove_sessions", "maintenance.results._in_chunks", "after"),
    ("remove_days", "ledger.published_days.forget", "after"),
    ("remove_days", "storage.remove_if_empty", "before"),
    ("fold_ledger", "ledger.folding.forget_drains", "after"),
    ("sweep_dead", "ledger.retirement.mark_swept", "after"),
    ("sweep", "ledger.removals.due", "after"),
    ("sweep", "ledger.removals.forget", "after"),
]
NEEDS_RETIRED = {"remove_windows", "remove_sessions", "remove_days", "fold_ledger", "sweep"}
NEEDS_PARTITIONS = {"drop", "_drop_windows", "remove_sessions_of", "_drop_hours"}
MEETS_BATCHES = [  # one of each step that changes what a batch reads
    ("compact", "ledger.rewrites.register", "after"),
    ("retire_hours", "ledger.retirement.retire_day", "after"),
    ("fold_ledger", "ledger.folding.fold", "after"),
]
SIXTH = 4  # records of the sixth batch


@pytest.fixture(scope="module")
def aged(written: tuple[Pipeline, list[Record]]) -> Iterator[tuple[Pipeline, list[Record]]]:
    """Five batches, two of them of one hour of long ago, two published days, a dead attempt at a sixth batch."""
    pipeline, records = written[0].copied(), written[1]
    pipeline.use(retention=RETENTION)
    pipeline.conn.execute("DELETE FROM ledger.published_days")  # which say so of days without a table
    days.publish_days(pipeline.conn, pipeline.settings, dry_run=False)
    sixth = aging.batch_at(MOMENTS[-1], len(records), minutes=range(SIXTH - 2))
    pipeline.land_records(sixth)
    batch_id = pipeline.claim()
    assert batch_id
    dead = pipeline.begin(batch_id)
    committed = pipeline.one("SELECT attempt_id FROM ledger.attempts WHERE batch_id = %s", batch_id - 1)
    for zone in ("events", "rejected"):
        shutil.copytree(pipeline.folder / zone / str(committed), pipeline.folder / zone / str(dead))
    pipeline.conn.execute("UPDATE ledger.attempts SET state = 'dead' WHERE state = 'open'")
    for day in (aging.TODAY - 401 * aging.DAY, aging.TODAY):
        archived = root(pipeline) / f"archive/clickstream/{day:%Y/%m/%d/%H}/00-p.json"
        archived.parent.mkdir(parents=True)
        archived.write_bytes(b"{}\n")
    pipeline.close()
    yield pipeline, [*records, *sixth]
    pipeline.drop()


@pytest.fixture
def history(aged: tuple[Pipeline, list[Record]]) -> Iterator[tuple[Pipeline, list[Record]]]:
    """A copy of it for each test."""
    pipeline = aged[0].copied()
    pipeline.use(retention=RETENTION)
    yield pipeline, aged[1]
    pipeline.drop()


def root(pipeline: Pipeline) -> Path:
    return Path(pipeline.settings.storage_url.removeprefix("file://"))


def settings_of(pipeline: Pipeline, step: str) -> Settings:
    """The settings; for published days without a grace, as Delta knows what time it really is."""
    if step != "remove_days":
        return pipeline.settings
    at_once = pipeline.settings.retention.model_copy(update={"grace_hours": 0})
    return pipeline.settings.model_copy(update={"retention": at_once})


def maintain(pipeline: Pipeline) -> None:
    """A daily run, and one after the grace."""
    compaction.compact(pipeline.conn, pipeline.settings, RUN, dry_run=False)
    for _ in range(2):
        for step in steps.STEPS:
            steps.run(step, pipeline.conn, settings_of(pipeline, step), dry_run=False)
        pipeline.conn.execute("UPDATE ledger.rewrites SET created_at = now() - interval '60 days'")
        aging.let_grace_pass(pipeline)


def published(pipeline: Pipeline) -> dict[date, int]:
    """Rows of each day of the published table, as its files have them."""
    return {
        day: sum(batch.num_rows for batch in days.batches_of(pipeline.settings, day, ["event_id"]))
        for day in days.days_of(pipeline.settings)
    }


def assert_days_are_published(pipeline: Pipeline) -> None:
    """The table and its rows in the ledger have the events of each old day within its period, and no other day."""
    since = datetime.now(UTC).date() - timedelta(days=pipeline.settings.retention.published_days)
    events = dict(
        pipeline.conn.execute(
            "SELECT (hour AT TIME ZONE 'UTC')::date AS day, sum(events)::int FROM ("
            " SELECT hour, records AS events FROM ledger.event_files WHERE live UNION ALL"
            " SELECT hour, events FROM ledger.retired_hours) e GROUP BY day"
        ).fetchall()
    )
    expected = {day: number for day, number in events.items() if since <= day <= OLD_DAYS[-1].date()}
    assert published(pipeline) == expected
    assert dict(pipeline.conn.execute("SELECT day, events FROM ledger.published_days").fetchall()) == expected


def assert_as_if_nothing_had_happened(pipeline: Pipeline, records: list[Record]) -> None:
    """The oracle's numbers without what is past its time, no file missing, no litter."""
    aging.assert_no_litter(pipeline)
    assert [url.rsplit("/archive/clickstream/")[1][:10] for url in aging.files(pipeline, "archive")] == [
        f"{aging.TODAY:%Y/%m/%d}"
    ]
    assert_days_are_published(pipeline)
    table = root(pipeline) / "published" / "events"
    assert {path.name for path in table.glob("day=*/*")} == {
        uri.rsplit("/", 1)[1] for uri in DeltaTable(table).file_uris()
    }
    assert pipeline.unaccounted() == {}
    assert pipeline.one("SELECT count(*) FROM ledger.retired_hours") == 24 * len(OLD_DAYS)
    expected = oracle.fold(records)
    assert pipeline.dispositions() == +expected.dispositions
    assert pipeline.reasons() == +expected.reasons
    end = OLD_DAYS[-1].replace(hour=0) + aging.DAY
    for name in ("traffic", "pages", "audience", "funnel", "revenue"):
        windows = getattr(expected, name).items()
        kept_windows = {key: row for key, row in windows if key[1] == 60 or key[0] >= end.timestamp()}
        assert pipeline.table(name) == kept_windows, name
    assert pipeline.table("sessions") == {key: row for key, row in expected.sessions.items() if row["ended_at"] >= end}


def partitions_ahead(pipeline: Pipeline) -> set[str]:
    rows = pipeline.conn.execute("SELECT partition FROM ledger.result_partitions WHERE since > now()")
    return {name for (name,) in rows}


def prepare(pipeline: Pipeline, step: str, function: str) -> None:
    """Give the step something to do at this function."""
    if step == "publish_days":
        pipeline.conn.execute("DELETE FROM ledger.published_days")
        shutil.rmtree(root(pipeline) / "published")
    if step == "remove_days":
        pipeline.use(retention=ONE_DAY_LESS)
    if step == "add_partitions":
        with pipeline.superuser() as conn:
            for name in partitions_ahead(pipeline):
                conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("analytics", name)))
    if step in NEEDS_RETIRED:
        again(pipeline)
    if function.rsplit(".", 1)[1] in NEEDS_PARTITIONS:
        partition(pipeline, *{one.replace(day=1, hour=0) for one in OLD_DAYS})
    aging.let_grace_pass(pipeline)


@pytest.mark.parametrize(
    ("step", "function", "moment"), [*KILLS, *(pytest.param(*kill, marks=pytest.mark.long) for kill in MORE_KILLS)]
)
def test_killed(history: tuple[Pipeline, list[Record]], step: str, function: str, moment: str) -> None:
    pipeline, records = history
    ahead = partitions_ahead(pipeline)
    kill_in(pipeline, step, function, moment)
    maintain(pipeline)
    assert ahead <= partitions_ahead(pipeline)
    assert_as_if_nothing_had_happened(pipeline, records[:-SIXTH])


@pytest.mark.long
@pytest.mark.parametrize(("step", "function", "moment"), MEETS_BATCHES)
def test_a_batch_after_a_kill(
    history: tuple[Pipeline, list[Record]], spark: SparkSession, step: str, function: str, moment: str
) -> None:
    pipeline, records = history
    kill_in(pipeline, step, function, moment)
    pipeline.aggregate_all(spark)
    maintain(pipeline)
    assert_as_if_nothing_had_happened(pipeline, records)


def kill_in(pipeline: Pipeline, step: str, function: str, moment: str) -> None:
    prepare(pipeline, step, function)
    kill_maintenance(pipeline, settings_of(pipeline, step), step, function, moment)
    assert pipeline.unaccounted() == {}
    assert aging.named(pipeline) <= aging.files(pipeline, "raw") | aging.files(pipeline, "events")


def test_run_twice(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, records = history
    maintain(pipeline)
    maintain(pipeline)
    assert_as_if_nothing_had_happened(pipeline, records[:-SIXTH])


@pytest.mark.long
def test_beside_batches_and_beside_each_other(history: tuple[Pipeline, list[Record]], spark: SparkSession) -> None:
    """Two daily runs and two compactions, again and again, while batches publish into the hours they rewrite."""
    pipeline, records = history
    pipeline.conn.execute("UPDATE analytics.traffic_by_window SET published_at = now()")  # the hours stay for now
    busy = True

    def daily(conn: Connection[Any]) -> None:
        for step in steps.STEPS:
            steps.run(step, conn, pipeline.settings, dry_run=False)

    def compact(conn: Connection[Any]) -> None:
        compaction.compact(conn, pipeline.settings, RUN, dry_run=False)

    def repeatedly(run: Callable[[Connection[Any]], None]) -> int:
        turns = 0
        with pipeline.connect() as conn:
            while busy:
                run(conn)
                turns += 1
                time.sleep(0.01)  # most turns find nothing to do, and would only take the processor from the batches
        return turns

    with ThreadPoolExecutor(4) as pool:
        beside = [pool.submit(repeatedly, run) for run in (daily, daily, compact, compact)]
        try:
            for number in range(3):
                offset = len(records)
                late = [
                    Record("t", 0, one.offset, records[14].timestamp_ms, one.key, one.value, HISTORIC)
                    for one in aging.batch_at(LONG_AGO, offset, minutes=(10 + number, 20 + number, 30 + number))
                ]
                records = [*records, *late]
                pipeline.land_records(late)
                publish(pipeline, spark)
        finally:
            busy = False
        assert all(one.result() for one in beside)
    aging.backdate(pipeline)
    maintain(pipeline)
    assert_as_if_nothing_had_happened(pipeline, records)


def publish(pipeline: Pipeline, spark: SparkSession) -> None:
    """Runs of the aggregation until one publishes, as its DAG's next runs would."""
    for _ in range(10):
        try:
            pipeline.aggregate_all(spark)
        except StaleBase:
            continue
        except ClickstreamError as error:
            raise AssertionError from error
        return
    raise AssertionError
