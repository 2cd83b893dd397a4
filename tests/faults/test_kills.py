"""Steps that are killed, repeated, or answered late end in the oracle's numbers without repair by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from pyspark.sql import SparkSession

from clickstream.aggregate import attempt
from clickstream.errors import StaleAttempt
from infra.local import lifecycle
from tests.kit.events import values
from tests.kit.pipeline import Pipeline
from tests.kit.proxy import LosesTheAnswerToCommit
from tests.kit.victims import kill

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def landed(pipeline: Pipeline) -> Pipeline:
    """Two hundred records of which a tenth are duplicates, in Kafka."""
    pipeline.create_topic()
    fresh = values(180)
    pipeline.produce([*fresh, *fresh[:20]])
    return pipeline


def finish(pipeline: Pipeline, spark: SparkSession) -> None:
    """The next runs of both DAGs, and the proof."""
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert pipeline.dispositions() == {"accepted": 180, "duplicate": 20}
    pipeline.assert_equals_oracle(pipeline.log())


@pytest.mark.parametrize("point", ["in the middle of a raw file", "after landing, before the report"])
def test_the_drain_killed_while_it_lands(landed: Pipeline, spark: SparkSession, point: str) -> None:
    (drain_id, *_) = landed.plan()
    kill(landed, point, drain_id)
    assert list(Path(landed.settings.storage_url.removeprefix("file://")).rglob("*.parquet"))
    finish(landed, spark)


def test_the_drain_killed_just_before_its_commit(landed: Pipeline, spark: SparkSession) -> None:
    attempts = [landed.land(drain_id) for drain_id in landed.plan()]
    kill(landed, "just before the drain's COMMIT", attempts[0])
    assert landed.one("SELECT count(*) FROM ledger.segments") == 0
    finish(landed, spark)


def test_the_drain_killed_just_after_its_commit(landed: Pipeline, spark: SparkSession) -> None:
    attempts = [landed.land(drain_id) for drain_id in landed.plan()]
    kill(landed, "just after the drain's COMMIT", attempts[0])
    assert landed.commit(attempts) == len(attempts)  # the task's retry: what is recorded already is success
    assert landed.commit(attempts) == len(attempts)
    finish(landed, spark)


@pytest.mark.parametrize("point", ["just before the publish's COMMIT", "just after the publish's COMMIT"])
def test_publish_killed_around_its_commit(landed: Pipeline, spark: SparkSession, point: str) -> None:
    landed.drain_all()
    attempt_id = landed.attempt(spark)
    kill(landed, point, attempt_id)
    published = point.startswith("just after")
    assert landed.one("SELECT count(*) FROM ledger.batches WHERE state = 'published'") == int(published)
    assert attempt_id is not None
    assert landed.publish(attempt_id) is not published  # the task's retry
    assert landed.publish(attempt_id) is False
    finish(landed, spark)


def test_spark_killed_in_the_middle_of_a_batch(landed: Pipeline, spark: SparkSession) -> None:
    landed.drain_all()
    batch_id = landed.claim()
    assert batch_id is not None
    attempt_id = landed.begin(batch_id)
    root = Path(landed.settings.storage_url.removeprefix("file://"))
    submitted = subprocess.Popen(
        [
            str(REPOSITORY / "spark_apps" / "bin" / "spark-submit-alone"),
            *("--master", "local[2]", "--driver-memory", "1g"),
            *("--conf", f"spark.pyspark.driver.python={REPOSITORY / 'spark_apps' / 'bin' / 'python-with-parent'}"),
            *("--conf", f"spark.pyspark.python={sys.executable}", "--conf", "spark.ui.enabled=false"),
            *("--conf", "spark.driver.bindAddress=127.0.0.1", "--conf", "spark.driver.host=127.0.0.1"),
            str(REPOSITORY / "spark_apps" / "aggregate_windows.py"),
            *("--spec", str(attempt.folder(landed.settings, attempt_id) / "spec.json")),
        ],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not (root / "events" / str(attempt_id)).exists():
        assert submitted.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process(submitted.pid).children(recursive=True)
    submitted.kill()  # the wrapper has become the JVM
    assert submitted.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert not (attempt.folder(landed.settings, attempt_id) / "report.json").exists()
    finish(landed, spark)
    assert landed.one("SELECT attempt FROM ledger.batches WHERE batch_id = %s", batch_id) == 2


def test_of_two_attempts_alive_at_once_only_the_newer_publishes(landed: Pipeline, spark: SparkSession) -> None:
    landed.drain_all()
    batch_id = landed.claim()
    assert batch_id is not None
    older, newer = landed.begin(batch_id), landed.begin(batch_id)
    for attempt_id in (newer, older):
        landed.transform(spark, attempt_id)
    with pytest.raises(StaleAttempt, match="newer attempt"):
        landed.publish(older)
    assert landed.traffic() == {}
    assert landed.publish(newer)
    before = landed.traffic()
    with pytest.raises(StaleAttempt):
        landed.publish(older)
    assert landed.traffic() == before
    finish(landed, spark)


def test_two_attempts_at_one_drain_land_once(landed: Pipeline, spark: SparkSession) -> None:
    drain_ids = landed.plan()
    zombies = [landed.land(drain_id) for drain_id in drain_ids]
    assert landed.commit([landed.land(drain_id) for drain_id in drain_ids]) == 2
    with pytest.raises(StaleAttempt, match="no longer stands at 0"):
        landed.commit(zombies)
    assert landed.land(drain_ids[0]) is None  # an old run, cleared and run again
    finish(landed, spark)


def test_overlapping_plans_land_once(landed: Pipeline, spark: SparkSession) -> None:
    first = landed.plan()
    landed.produce([(0, value) for _, value in values(180)[:4]])
    second = landed.plan()
    later = [landed.land(drain_id) for drain_id in second]
    assert landed.commit([landed.land(drain_id) for drain_id in first]) == 2
    with pytest.raises(StaleAttempt):
        landed.commit(later)
    landed.drain_all()
    landed.aggregate_all(spark)
    landed.assert_equals_oracle(landed.log())


def lose_the_answer(pipeline: Pipeline, step: Callable[[], object]) -> None:
    """Do a step over a connection that dies after its COMMIT has been carried out, before the answer."""
    real, port = pipeline.conn, pipeline.stack.ports.postgres
    with LosesTheAnswerToCommit(port) as proxy:
        pipeline.conn = psycopg.connect(pipeline.dsn.replace(f":{port}/", f":{proxy.port}/"), autocommit=True)
        with pytest.raises(psycopg.OperationalError):
            step()
        assert proxy.cut.is_set()
    pipeline.conn = real


def test_the_connection_is_lost_just_after_the_drain_s_commit(landed: Pipeline, spark: SparkSession) -> None:
    attempt_id = landed.land(landed.plan()[0])
    lose_the_answer(landed, lambda: landed.commit([attempt_id]))
    assert landed.one("SELECT count(*) FROM ledger.segments") == 1
    assert landed.commit([attempt_id]) == 1  # the retry sees that it is recorded
    assert landed.one("SELECT count(*) FROM ledger.segments") == 1
    finish(landed, spark)


def test_the_connection_is_lost_just_after_the_publish_s_commit(landed: Pipeline, spark: SparkSession) -> None:
    landed.drain_all()
    attempt_id = landed.attempt(spark)
    assert attempt_id is not None
    lose_the_answer(landed, lambda: landed.publish(attempt_id))
    before = landed.traffic()
    assert before
    assert landed.publish(attempt_id) is False  # the retry sees that it is published
    assert landed.traffic() == before
    finish(landed, spark)


def test_broker_and_database_restart_in_the_middle(landed: Pipeline, spark: SparkSession) -> None:
    drain_ids = landed.plan()
    lifecycle.restart(landed.stack, "kafka")
    attempts = [landed.land(drain_id) for drain_id in drain_ids]
    lifecycle.restart(landed.stack, "postgres")
    with pytest.raises(psycopg.OperationalError):
        landed.commit(attempts)
    landed.conn = landed.connect()
    landed.commit(attempts)
    attempt_id = landed.attempt(spark)
    lifecycle.restart(landed.stack, "postgres")
    landed.conn = landed.connect()
    assert attempt_id is not None
    assert landed.publish(attempt_id)
    finish(landed, spark)


def test_a_released_batch_is_claimed_in_smaller_parts(landed: Pipeline, spark: SparkSession) -> None:
    from clickstream.errors import RemedyRefused
    from clickstream.ledger import batches

    landed.use(drain_max_offsets=25)
    landed.drain_all()
    zombie = landed.attempt(spark)
    batch_id = landed.claim()
    assert zombie is not None
    assert batch_id is not None
    shown = batches.release(landed.conn, batch_id, dry_run=True)
    assert landed.claim() == batch_id
    assert batches.release(landed.conn, batch_id, dry_run=False) == shown
    assert shown == batches.Release(batch_id=batch_id, attempts=1, segments=8, offsets=200, next_limit=100)
    with pytest.raises(StaleAttempt):
        landed.publish(zombie)
    with pytest.raises(RemedyRefused, match="not open"):
        batches.release(landed.conn, batch_id, dry_run=False)
    finish(landed, spark)
    sizes: list[Any] = landed.conn.execute(
        "SELECT planned FROM ledger.batches WHERE state = 'published' ORDER BY batch_id"
    ).fetchall()
    assert [size for (size,) in sizes] == [100, 100]
