"""Maintenance that is killed anywhere, run twice, or run beside all else ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from clickstream.errors import ClickstreamError, StaleBase
from clickstream.maintenance import archive, compaction, hours, rows, sweep, zones
from tests import aging, oracle
from tests.faults.maintenance_victim import kill
from tests.integration.test_maintenance import LONG_AGO, MOMENTS, again, oracle_historic, written
from tests.oracle import Record
from tests.pipeline import RUN, Pipeline

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["written"]

STEPS: list[Callable[..., object]] = [
    hours.retire_hours, zones.retire_raw, zones.retire_rejected, zones.retire_attempts, archive.retire_archive,
    rows.fold_ledger, zones.sweep_dead, sweep.sweep,
]  # fmt: skip

KILLS = [
    ("compact", "ledger.rewrites.register", "after"),
    ("compact", "maintenance.compaction._write", "after"),
    ("compact", "ledger.removals.decide", "before"),
    ("compact", "ledger.removals.decide", "after"),
    ("compact", "ledger.rewrites.swap", "after"),
    ("retire_hours", "ledger.retirement.aged_days", "after"),
    ("retire_hours", "ledger.retirement.retire_day", "after"),
    ("retire_raw", "ledger.retirement.retire_raw_files", "before"),
    ("retire_raw", "ledger.retirement.retire_raw_files", "after"),
    ("retire_rejected", "ledger.retirement.retire_rejected", "after"),
    ("retire_attempts", "ledger.retirement.retire_attempts", "after"),
    ("fold_ledger", "ledger.folding.fold", "after"),
    ("fold_ledger", "ledger.folding.forget_drains", "after"),
    ("sweep_dead", "ledger.removals.decide", "after"),
    ("sweep_dead", "ledger.retirement.mark_swept", "after"),
    ("sweep", "ledger.removals.due", "after"),
    ("sweep", "ledger.removals.forget", "before"),
    ("sweep", "ledger.removals.forget", "after"),
]


@pytest.fixture
def history(written: tuple[Pipeline, list[Record]]) -> Iterator[tuple[Pipeline, list[Record]]]:
    """Five batches, two of them of one hour of long ago, and an attempt at a sixth that is dead."""
    pipeline = aging.copy(written[0], f"t_{uuid4().hex[:12]}")
    records = [*written[1], *aging.batch_at(MOMENTS[-1], len(written[1]), minutes=(1, 2))]
    pipeline.land_records(records[len(written[1]) :])
    yield pipeline, records
    aging.drop(pipeline)


def dead_attempt(pipeline: Pipeline, spark: SparkSession) -> None:
    batch_id = pipeline.claim()
    assert batch_id
    pipeline.transform(spark, pipeline.begin(batch_id))
    pipeline.conn.execute("UPDATE ledger.attempts SET state = 'dead' WHERE state = 'open'")


def maintain(pipeline: Pipeline) -> None:
    """A daily run, and one after the grace."""
    compaction.compact(pipeline.conn, pipeline.settings, RUN, dry_run=False)
    for _ in range(2):
        for step in STEPS:
            step(pipeline.conn, pipeline.settings, dry_run=False)
        pipeline.conn.execute("UPDATE ledger.rewrites SET created_at = now() - interval '60 days'")
        aging.let_grace_pass(pipeline)


def assert_as_if_nothing_had_happened(pipeline: Pipeline, records: list[Record]) -> None:
    """The oracle's numbers, no file missing, no litter."""
    assert pipeline.one("SELECT count(*) FROM ledger.removals") == 0
    aging.assert_files_are_as_named(pipeline)
    kept = {
        str(one) for (one,) in pipeline.conn.execute("SELECT attempt_id FROM ledger.attempts WHERE state = 'committed'")
    }
    for zone in ("rejected", "batches"):
        assert {url.split(f"/{zone}/")[1].split("/")[0] for url in aging.files(pipeline, zone)} <= kept, zone
    assert pipeline.unaccounted() == {}
    expected = oracle.fold(records)
    assert pipeline.dispositions() == +expected.dispositions
    assert pipeline.reasons() == +expected.reasons
    for name in ("traffic", "pages", "audience", "funnel", "revenue", "sessions"):
        assert pipeline.table(name) == getattr(expected, name), name


@pytest.mark.parametrize(("step", "function", "moment"), KILLS)
def test_killed(
    history: tuple[Pipeline, list[Record]], spark: SparkSession, step: str, function: str, moment: str
) -> None:
    pipeline, records = history
    if step in {"sweep_dead", "sweep"}:
        dead_attempt(pipeline, spark)
    if step in {"fold_ledger", "sweep"}:
        again(pipeline)
    aging.let_grace_pass(pipeline)
    kill(pipeline, step, function, moment)
    assert pipeline.unaccounted() == {}
    assert aging.named(pipeline) <= aging.files(pipeline, "raw") | aging.files(pipeline, "events")
    pipeline.aggregate_all(spark)
    maintain(pipeline)
    assert_as_if_nothing_had_happened(pipeline, records)


def test_run_twice(history: tuple[Pipeline, list[Record]], spark: SparkSession) -> None:
    pipeline, records = history
    pipeline.aggregate_all(spark)
    maintain(pipeline)
    maintain(pipeline)
    assert_as_if_nothing_had_happened(pipeline, records)


def test_beside_batches_and_beside_each_other(history: tuple[Pipeline, list[Record]], spark: SparkSession) -> None:
    """Two daily runs and two compactions, again and again, while batches publish into the hours they rewrite."""
    pipeline, records = history
    pipeline.conn.execute("UPDATE analytics.traffic_by_window SET published_at = now()")  # the hours stay for now
    busy = True

    def repeatedly(steps: list[Callable[..., object]]) -> int:
        turns = 0
        with pipeline.connect() as conn:
            while busy:
                for step in steps:
                    step(conn, pipeline.settings, dry_run=False)
                turns += 1
        return turns

    def compact(conn: object, settings: object, *, dry_run: bool) -> object:
        return compaction.compact(conn, settings, RUN, dry_run=dry_run)  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        beside = [pool.submit(repeatedly, steps) for steps in (STEPS, STEPS, [compact], [compact])]
        try:
            for number in range(4):
                offset = len(records)
                late = [
                    Record("t", 0, one.offset, records[14].timestamp_ms, one.key, one.value, oracle_historic())
                    for one in aging.batch_at(LONG_AGO, offset, minutes=(10 + number, 20 + number, 30 + number))
                ]
                records += late
                pipeline.land_records(late)
                publish(pipeline, spark)
        finally:
            busy = False
        assert all(one.result() for one in beside)
    aging.backdate(pipeline)
    aging.mark_days_published(pipeline)
    maintain(pipeline)
    assert pipeline.one("SELECT count(*) FROM ledger.retired_hours") == 48
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
