"""Kafka's volume is lost: what was landed stays, what was not comes back from the archive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession

from infra.local import kafka, lifecycle
from infra.local.java import find_java
from infra.local.stack import Stack
from infra.local.supervision import Supervisor
from tests import oracle
from tests.kit.archive import archive, refill_as_told
from tests.kit.events import values
from tests.kit.pipeline import TABLES, Pipeline
from tests.kit.stopped import declare, stopped


@contextmanager
def lost_volume(stack: Stack) -> Iterator[None]:
    """Kafka begins anew with an empty volume; the old one comes back for the tests that follow."""
    data = stack.folder / "kafka" / "data"
    aside = data.with_name("aside")
    Supervisor(stack).stop_program("kafka")
    data.rename(aside)
    try:
        java = find_java()
        kafka.prepare(stack, java, kafka.fetch_jars(java))
        lifecycle.restart(stack, "kafka")
        yield
    finally:
        Supervisor(stack).stop_program("kafka")
        shutil.rmtree(data, ignore_errors=True)
        aside.rename(data)
        lifecycle.restart(stack, "kafka")


@pytest.mark.long
def test_a_lost_volume_loses_no_event_that_was_archived(pipeline: Pipeline, spark: SparkSession) -> None:
    made = values(70)
    pipeline.create_topic()
    pipeline.produce(made[:20])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.produce(made[20:30])
    pipeline.drain_all()  # landed, but not aggregated yet
    landed = pipeline.log()
    pipeline.produce(made[30:50])
    pipeline.plan()  # seen, but not landed
    archive(pipeline, made[:50])
    with lost_volume(pipeline.stack):
        archive(pipeline, made[50:60])  # by a Lambda that could not deliver them
        pipeline.create_topic()
        pipeline.produce(made[60:])
        pipeline.drain_all()
        assert stopped(pipeline) == {0: "recreated", 1: "recreated"}
        assert [(loss.range.first_offset, loss.range.end_offset) for loss in declare(pipeline)] == [(15, 25)] * 2
        refill_as_told(pipeline, "kafka-volume-lost")
        pipeline.drain_all()
        pipeline.aggregate_all(spark)
        pipeline.assert_equals_oracle([*landed, *pipeline.log()])
    now = int(datetime.now(UTC).timestamp() * 1000)
    everything = oracle.fold(oracle.Record("", 0, n, now, None, value, ()) for n, (_, value) in enumerate(made))
    for name in TABLES:
        assert pipeline.table(name) == getattr(everything, name), name
    assert pipeline.dispositions() == {"accepted": 70, "duplicate": 30}
