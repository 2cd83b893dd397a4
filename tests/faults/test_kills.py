"""Steps that are killed, repeated, or answered late end in the oracle's numbers without repair by hand."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import psutil
import psycopg
import pytest
from pyspark.sql import SparkSession

from clickstream.errors import RemedyRefused, StaleAttempt
from clickstream.ledger import batches
from infra.local import lifecycle
from infra.local.stack import Stack
from tests.kit import spark_task
from tests.kit.events import values
from tests.kit.open_batch import OpenBatch
from tests.kit.pipeline import Pipeline, in_order
from tests.kit.proxy import LosesTheAnswerToCommit
from tests.kit.victims import kill
from tests.kit.waiting import eventually
from tests.oracle import Record


@pytest.fixture(scope="module")
def filled(services: Stack, template: str) -> Iterator[tuple[Pipeline, list[Record]]]:
    """Two hundred records of which a tenth are duplicates, in Kafka, with the log that holds them; to be copied."""
    with Pipeline.new(services, template) as pipeline:
        pipeline.create_topic()
        fresh = values(180)
        pipeline.produce([*fresh, *fresh[:20]])
        pipeline.close()
        yield pipeline, pipeline.log()


@pytest.fixture
def waiting(filled: tuple[Pipeline, list[Record]]) -> Iterator[Pipeline]:
    """A pipeline that has still to drain them."""
    with filled[0].copied() as pipeline:
        yield pipeline


def finish_drains(pipeline: Pipeline, log: list[Record]) -> None:
    """The next run of the drain, and the proof: the raw zone is the log, each record once."""
    pipeline.drain_all()
    assert pipeline.landed() == in_order(log)
    assert pipeline.unaccounted() == {}


def raw_files(pipeline: Pipeline) -> int:
    return len(list(pipeline.folder.rglob("*.parquet")))


def test_the_drain_killed_at_each_of_its_steps(
    filled: tuple[Pipeline, list[Record]], waiting: Pipeline, spark: SparkSession
) -> None:
    (drain_id, *_) = waiting.plan()
    for number, point in enumerate(("in the middle of a raw file", "after landing, before the report"), 1):
        kill(waiting, point, drain_id)
        assert raw_files(waiting) == number
    attempts = [waiting.land(drain_id) for drain_id in waiting.plan()]
    kill(waiting, "just before the drain's COMMIT", attempts[0])
    assert waiting.one("SELECT count(*) FROM ledger.segments") == 0
    kill(waiting, "just after the drain's COMMIT", attempts[0])
    assert waiting.one("SELECT count(*) FROM ledger.segments") == 1
    assert waiting.commit(attempts) == len(attempts)  # the task's retry: what is recorded already is success
    assert waiting.commit(attempts) == len(attempts)
    finish_drains(waiting, filled[1])
    waiting.aggregate_all(spark)
    assert waiting.dispositions() == {"accepted": 180, "duplicate": 20}
    waiting.assert_equals_oracle(filled[1])


@pytest.mark.parametrize("point", ["just before the publish's COMMIT", "just after the publish's COMMIT"])
def test_publish_killed_around_its_commit(batch: OpenBatch, spark: SparkSession, point: str) -> None:
    pipeline = batch.pipeline
    kill(pipeline, point, batch.newer)
    published = point.startswith("just after")
    assert pipeline.one("SELECT count(*) FROM ledger.batches WHERE state = 'published'") == int(published)
    assert pipeline.publish(batch.newer) is not published  # the task's retry
    assert pipeline.publish(batch.newer) is False
    batch.finish(spark)


def test_spark_killed_in_the_middle_of_a_batch(batch: OpenBatch, spark: SparkSession) -> None:
    pipeline = batch.pipeline
    attempt_id = pipeline.begin(batch.batch_id)
    killed = pipeline.one("SELECT attempt FROM ledger.batches WHERE batch_id = %s", batch.batch_id)
    home = pipeline.folder / "batches" / str(attempt_id)
    os.mkfifo(home / "report.json.partial")  # which nobody reads, so that the job can't end before it is killed
    submitted = subprocess.Popen(
        spark_task.command(pipeline, attempt_id),
        env=spark_task.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family = psutil.Process(submitted.pid)

    def has_begun_to_write() -> bool:
        assert submitted.poll() is None
        return (pipeline.folder / "events" / str(attempt_id)).exists()

    assert eventually(has_begun_to_write)
    children = family.children(recursive=True)
    submitted.kill()  # the wrapper has become the JVM
    assert submitted.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert not (home / "report.json").exists()
    batch.finish(spark)
    assert pipeline.one("SELECT attempt FROM ledger.batches WHERE batch_id = %s", batch.batch_id) == killed + 1


def test_of_two_attempts_alive_at_once_only_the_newer_publishes(batch: OpenBatch, spark: SparkSession) -> None:
    pipeline = batch.pipeline
    with pytest.raises(StaleAttempt, match="newer attempt"):
        pipeline.publish(batch.older)
    assert pipeline.traffic() == {}
    assert pipeline.publish(batch.newer)
    before = pipeline.traffic()
    with pytest.raises(StaleAttempt):
        pipeline.publish(batch.older)
    assert pipeline.traffic() == before
    batch.finish(spark)


def test_two_attempts_at_one_drain_land_once(filled: tuple[Pipeline, list[Record]], waiting: Pipeline) -> None:
    drain_ids = waiting.plan()
    zombies = [waiting.land(drain_id) for drain_id in drain_ids]
    assert waiting.commit([waiting.land(drain_id) for drain_id in drain_ids]) == 2
    with pytest.raises(StaleAttempt, match="no longer stands at 0"):
        waiting.commit(zombies)
    assert waiting.land(drain_ids[0]) is None  # an old run, cleared and run again
    finish_drains(waiting, filled[1])


def test_overlapping_plans_land_once(pipeline: Pipeline) -> None:
    made = values(64)
    pipeline.create_topic()
    pipeline.produce(made[:60])
    first = pipeline.plan()
    pipeline.produce([(0, value) for _, value in made[60:]])
    second = pipeline.plan()
    later = [pipeline.land(drain_id) for drain_id in second]
    assert pipeline.commit([pipeline.land(drain_id) for drain_id in first]) == 2
    with pytest.raises(StaleAttempt):
        pipeline.commit(later)
    assert pipeline.one("SELECT sum(records)::int FROM ledger.segments") == 60
    finish_drains(pipeline, pipeline.log())


def lose_the_answer(pipeline: Pipeline, step: Callable[[], object]) -> None:
    """Do a step over a connection that dies after its COMMIT has been carried out, before the answer."""
    real, port = pipeline.conn, pipeline.stack.ports.postgres
    with LosesTheAnswerToCommit(port) as proxy:
        pipeline.conn = psycopg.connect(pipeline.dsn.replace(f":{port}/", f":{proxy.port}/"), autocommit=True)
        with pytest.raises(psycopg.OperationalError):
            step()
        assert proxy.cut.is_set()
    pipeline.conn = real


def test_the_connection_is_lost_just_after_the_drain_s_commit(
    filled: tuple[Pipeline, list[Record]], waiting: Pipeline
) -> None:
    attempt_id = waiting.land(waiting.plan()[0])
    lose_the_answer(waiting, lambda: waiting.commit([attempt_id]))
    assert waiting.one("SELECT count(*) FROM ledger.segments") == 1
    assert waiting.commit([attempt_id]) == 1  # the retry sees that it is recorded
    assert waiting.one("SELECT count(*) FROM ledger.segments") == 1
    finish_drains(waiting, filled[1])


def test_the_connection_is_lost_just_after_the_publish_s_commit(batch: OpenBatch, spark: SparkSession) -> None:
    pipeline = batch.pipeline
    lose_the_answer(pipeline, lambda: pipeline.publish(batch.newer))
    before = pipeline.traffic()
    assert before
    assert pipeline.publish(batch.newer) is False  # the retry sees that it is published
    assert pipeline.traffic() == before
    batch.finish(spark)


def test_broker_and_database_restart_in_the_middle(
    filled: tuple[Pipeline, list[Record]], waiting: Pipeline, batch: OpenBatch, spark: SparkSession
) -> None:
    drain_ids = waiting.plan()
    lifecycle.restart(waiting.stack, "kafka")
    attempts = [waiting.land(drain_id) for drain_id in drain_ids]
    lifecycle.restart(waiting.stack, "postgres")
    with pytest.raises(psycopg.OperationalError):
        waiting.commit(attempts)
    with pytest.raises(psycopg.OperationalError):
        batch.pipeline.publish(batch.newer)
    for pipeline in (waiting, batch.pipeline):
        pipeline.conn = pipeline.connect()
    assert waiting.commit(attempts) == 2
    assert batch.pipeline.publish(batch.newer)
    finish_drains(waiting, filled[1])
    batch.finish(spark)


def test_a_released_batch_is_claimed_in_smaller_parts(batch: OpenBatch, spark: SparkSession) -> None:
    pipeline = batch.pipeline
    shown = batches.release(pipeline.conn, batch.batch_id, dry_run=True)
    assert pipeline.claim() == batch.batch_id
    assert batches.release(pipeline.conn, batch.batch_id, dry_run=False) == shown
    assert shown == batches.Release(batch_id=batch.batch_id, attempts=2, segments=8, offsets=200, next_limit=100)
    with pytest.raises(StaleAttempt):
        pipeline.publish(batch.newer)
    with pytest.raises(RemedyRefused, match="not open"):
        batches.release(pipeline.conn, batch.batch_id, dry_run=False)
    batch.finish(spark)
    sizes = pipeline.conn.execute(
        "SELECT planned FROM ledger.batches WHERE state = 'published' ORDER BY batch_id"
    ).fetchall()
    assert sizes == [(100,), (100,)]
