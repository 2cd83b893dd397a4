"""An erasure that is killed anywhere is complete once it was run again, and may run beside everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count

import pytest
from pyspark.sql import SparkSession

from clickstream.errors import RemedyRefused, StaleAttempt, StaleBase
from clickstream.maintenance import compaction, steps
from tests import oracle
from tests.kit import aging, erasing, published
from tests.kit.aging import LONG_AGO
from tests.kit.erasing import USER, assert_gone, erased, mapped_log
from tests.kit.events import values
from tests.kit.own_topic import take_own_topic
from tests.kit.pipeline import RUN, Pipeline
from tests.kit.records import HISTORIC, event
from tests.kit.victims import kill

BEFORE = (
    "in the middle of files written anew",
    "before the erasure's transaction",
    "in the middle of the erasure's transaction",
    "just before the erasure's COMMIT",
)
AFTER = (
    "just after the erasure's COMMIT",
    "in the middle of the rejected zone",
    "between an excerpt and its record",
    "in the middle of the archive",
    "before the erasure is finished",
)
SHORT = ("just before the erasure's COMMIT", "between an excerpt and its record")
POINTS = [point if point in SHORT else pytest.param(point, marks=pytest.mark.long) for point in (*BEFORE, *AFTER)]


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_run_again(known: Pipeline, spark: SparkSession, point: str) -> None:
    before = known.traffic()
    kill(known, point, USER)
    committed = known.one("SELECT count(*) FROM ledger.erasures WHERE kind = 'user'")
    assert committed == (0 if point in BEFORE else 1)
    assert known.traffic() == before
    assert known.unaccounted() == {}
    token = known.one("SELECT token FROM ledger.erasures WHERE kind = 'user'")
    erased(known)
    assert token in {None, known.one("SELECT token FROM ledger.erasures WHERE kind = 'user'")}
    done = "SELECT count(*) FROM ledger.erasure_requests WHERE committed_at IS NOT NULL AND finished_at IS NOT NULL"
    assert known.one(done) == 2
    assert known.one("SELECT count(*) FROM ledger.rewrites WHERE state = 'open'") == 0
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    aging.sweep_after_grace(known)
    assert_as_if_nothing_had_happened(known, mapped_log(known))
    assert_gone(known)


@pytest.mark.long
def test_beside_drains_and_batches(known: Pipeline, spark: SparkSession) -> None:
    take_own_topic(known)
    failed: list[BaseException] = []

    def work() -> None:
        own = known.beside()
        try:
            for user in (USER, "u1", "u2", "u3"):
                erased(own, user)
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)
        finally:
            own.close()

    worker = threading.Thread(target=work)
    worker.start()
    stale = 0
    while worker.is_alive():
        known.produce([*erasing.spread(erasing.hers()[:8]), *values(10)])
        try:
            known.drain()
            known.aggregate(spark)
        except (StaleAttempt, StaleBase):
            stale += 1
    worker.join()
    assert failed == []
    with suppress(StaleAttempt):
        known.drain_all()
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known, [*erasing.IDS, '"u1"', '"u2"', '"u3"'])


PAUSE_SECONDS = 0.5  # most turns find nothing to do, and would only take the processor from the batches
ERASED = (USER, "user-ulla", "user-uwe")
USERS = (*ERASED, "user-one", "user-two")


def of_long_ago(number: int) -> erasing.Values:
    """Events of hours and days that are closed, of users who share their sessions."""
    return erasing.spread(
        event(
            eventId=f"old-{number}-{n}",
            userId=USERS[n % 5],
            sessionId=f"long-ago-{n % 3}",
            eventTime=aging.spelled(LONG_AGO + timedelta(minutes=50 * n + number)),
        )
        for n in range(30)
    )


def assert_as_if_nothing_had_happened(pipeline: Pipeline, records: list[oracle.Record]) -> None:
    """The oracle's numbers, no file missing, no litter."""
    aging.assert_no_litter(pipeline)
    assert pipeline.unaccounted() == {}
    expected = oracle.fold(records)
    assert pipeline.dispositions() == +expected.dispositions
    assert pipeline.reasons() == +expected.reasons
    for name in ("traffic", "pages", "audience", "funnel", "revenue", "sessions"):
        assert pipeline.table(name) == getattr(expected, name), name


def batch_of_all(pipeline: Pipeline, spark: SparkSession, number: int) -> None:
    """A batch of new and old events and rejected records, which counts as old at once: what is retired by age goes."""
    pipeline.produce(of_long_ago(number), headers=HISTORIC)
    pipeline.produce([*erasing.spread(erasing.hers()[:8]), *[(0, value) for value in erasing.rejected()]])
    with suppress(StaleAttempt, StaleBase):
        pipeline.drain()
        pipeline.aggregate(spark)
    pipeline.conn.execute(
        "UPDATE ledger.batches SET published_at = now() - interval '60 days' WHERE state = 'published'"
    )


def compact(pipeline: Pipeline) -> None:
    compaction.compact(pipeline.conn, pipeline.settings, RUN, dry_run=False)


def maintain(pipeline: Pipeline) -> None:
    """A daily run."""
    compact(pipeline)
    for name in steps.STEPS:
        steps.run(name, pipeline.conn, pipeline.settings, dry_run=False)


def erased_at_last(pipeline: Pipeline, user: str) -> None:
    """Erase, again where files came faster than they could be read: hour by hour, compaction makes many commits."""
    while True:
        try:
            erased(pipeline, user)
        except RemedyRefused as refused:
            if "faster than they could be read" not in str(refused):
                raise
        else:
            return


def beside(pipeline: Pipeline, work: Callable[[Pipeline], object], until: threading.Event | None = None) -> None:
    """Do some work over a connection of its own, once or again and again."""
    own = pipeline.beside()
    with own.conn:
        work(own)
        while until and not until.wait(PAUSE_SECONDS):
            work(own)


@pytest.mark.long
def test_beside_compaction_maintenance_batches_and_published_days(known: Pipeline, spark: SparkSession) -> None:
    take_own_topic(known)
    numbers = count()
    for _ in range(2):
        batch_of_all(known, spark, next(numbers))
    done = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(beside, known, work, done) for work in (maintain, compact)]
        try:
            for user in ERASED:
                eraser = pool.submit(beside, known, partial(erased_at_last, user=user))
                for _ in range(2):
                    batch_of_all(known, spark, next(numbers))
                eraser.result()
        finally:
            done.set()
        for one in others:
            one.result()
    known.drain_all()
    known.aggregate_all(spark)
    for _ in range(2):
        maintain(known)
        known.conn.execute("UPDATE ledger.rewrites SET created_at = now() - interval '60 days'")
        aging.let_grace_pass(known)
    assert_as_if_nothing_had_happened(known, mapped_log(known))
    published.assert_table_is(known, mapped_log(known), LONG_AGO.date(), (LONG_AGO + aging.DAY).date())
    published.table(known).vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert_gone(known, [*erasing.IDS, *ERASED])
    for happened in (
        "SELECT count(*) FROM ledger.segments WHERE file_retired_at IS NOT NULL",
        "SELECT count(*) FROM ledger.batches WHERE rejected_retired_at IS NOT NULL",
    ):
        assert known.one(happened) > 0
