"""Expired offsets, a recreated topic, a truncated log and producer timestamps: the partition stops, others go on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from pyspark.sql import SparkSession

from clickstream import broker
from clickstream.drain import land
from clickstream.drain.plan import report_stops
from clickstream.errors import PartitionsStopped, RemedyRefused
from clickstream.settings import Settings
from tests.kit.events import values
from tests.kit.pipeline import Pipeline, in_order
from tests.kit.stopped import declare, expire, stopped
from tests.oracle import Record


def assert_landed(pipeline: Pipeline, records: Iterable[Record], *, lost: int) -> None:
    """These records make the next batch, each once, and so many offsets are written down as lost."""
    assert pipeline.landed() == in_order(records)
    assert pipeline.unaccounted() == {}
    batch_id = pipeline.claim()
    assert pipeline.one("SELECT lost FROM ledger.batches WHERE batch_id = %s", batch_id) == lost


@pytest.mark.parametrize("when", ["before the plan", "between plan and landing"])
def test_expired_offsets_stop_their_partition_until_declared_lost(pipeline: Pipeline, when: str) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    pipeline.drain()
    landed = pipeline.log()
    pipeline.produce(values(60)[20:])
    if when == "before the plan":
        expire(pipeline, 0, 15)
        pipeline.drain()
    else:
        drain_ids = pipeline.plan()
        expire(pipeline, 0, 15)
        pipeline.commit([pipeline.land(drain_id) for drain_id in drain_ids])
    assert stopped(pipeline) == {0: "expired"}
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 1") == 30
    with pytest.raises(PartitionsStopped, match=r"offsets 10 to 15 .* 5 records are lost. Run declare_loss"):
        report_stops(pipeline.conn, pipeline.settings)
    pipeline.drain()
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 0") == 10

    [lost] = declare(pipeline)
    assert (lost.range.first_offset, lost.range.end_offset, lost.kind) == (10, 15, "expired")
    pipeline.drain_all()
    report_stops(pipeline.conn, pipeline.settings)
    kept = {(record.partition, record.offset): record for record in [*landed, *pipeline.log()]}
    assert_landed(pipeline, kept.values(), lost=5)
    with pytest.raises(RemedyRefused, match="Nothing is lost"):
        declare(pipeline)


def test_retention_that_overtakes_the_reader_leaves_what_was_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.create_topic()
    # Ten megabytes, so that the consumer has to ask the broker again after the first records were deleted.
    pipeline.produce([(partition, value) for _, value in values(40, pad="x" * 250_000) for partition in (0, 1)])
    everything = pipeline.log()
    drain_ids = pipeline.plan()
    write = land.SegmentFile.write

    def write_while_records_expire(segment: land.SegmentFile, records: list[Any]) -> None:
        write(segment, records)
        if segment._constants[1] == 0:
            expire(pipeline, 0, 39)

    monkeypatch.setattr(land.SegmentFile, "write", write_while_records_expire)
    pipeline.commit([pipeline.land(drain_id) for drain_id in drain_ids])
    monkeypatch.undo()
    landed = pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 0")
    assert 0 < landed < 39
    assert stopped(pipeline) == {0: "expired"}
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 1") == 40
    declare(pipeline)
    pipeline.drain_all()
    kept = [record for record in everything if not (record.partition == 0 and landed <= record.offset < 39)]
    assert_landed(pipeline, kept, lost=39 - landed)


def test_a_plan_that_was_overtaken_stops_nothing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    describe = broker.describe

    def stall(settings: Settings) -> broker.TopicState:
        state = describe(settings)
        monkeypatch.undo()
        pipeline.produce(values(40)[20:])
        pipeline.drain()  # another run does everything meanwhile
        return state

    monkeypatch.setattr(broker, "describe", stall)
    pipeline.drain()
    pipeline.drain()
    assert stopped(pipeline) == {}
    assert pipeline.one("SELECT sum(records)::int FROM ledger.segments") == 40


def test_what_a_new_incarnation_lost_before_its_first_drain_is_accounted(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    pipeline.drain()
    pipeline.delete_topic()
    pipeline.create_topic()
    pipeline.produce(values(20))
    expire(pipeline, 0, 4)
    pipeline.drain()
    declare(pipeline)
    pipeline.drain()
    assert stopped(pipeline) == {0: "expired"}
    [lost] = declare(pipeline)
    assert (lost.range.first_offset, lost.range.end_offset) == (0, 4)


def test_a_recreated_topic_stops_until_the_old_incarnation_is_closed(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    pipeline.drain()
    old = pipeline.log()
    pipeline.produce(values(30)[20:])
    pipeline.plan()  # sees the ten records that are gone with the topic
    pipeline.delete_topic()
    pipeline.create_topic()
    pipeline.produce(values(50)[10:])
    pipeline.drain()
    assert stopped(pipeline) == {0: "recreated", 1: "recreated"}
    with pytest.raises(PartitionsStopped, match="deleted and created again"):
        report_stops(pipeline.conn, pipeline.settings)
    assert [(item.range.first_offset, item.range.end_offset, item.close) for item in declare(pipeline)] == [
        (10, 15, True),
        (10, 15, True),
    ]
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle([*old, *pipeline.log()])
    assert pipeline.one("SELECT sum(lost)::int FROM ledger.batches WHERE state = 'published'") == 10


def test_a_topic_recreated_between_plan_and_landing_lands_nothing(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    drain_ids = pipeline.plan()
    pipeline.delete_topic()
    pipeline.create_topic()
    pipeline.produce(values(40))
    pipeline.commit([pipeline.land(drain_id) for drain_id in drain_ids])
    assert stopped(pipeline) == {0: "recreated", 1: "recreated"}
    assert pipeline.one("SELECT count(*) FROM ledger.segments") == 0


def test_a_truncated_log_stops_and_stays_stopped_when_it_grows_again(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    pipeline.drain()
    # A broker can't be made to lose acknowledged records here, so the ledger remembers more than the log has.
    pipeline.conn.execute("UPDATE ledger.partitions SET log_end_offset = 12 WHERE partition = 1")
    pipeline.drain()
    assert stopped(pipeline) == {1: "truncated"}
    pipeline.produce(values(40)[20:])
    pipeline.drain()
    assert stopped(pipeline) == {1: "truncated"}
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 0") == 20
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 1") == 10
    with pytest.raises(RemedyRefused, match="create it again"):
        declare(pipeline)


def test_a_topic_with_producer_timestamps_stops_until_it_is_mended(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    landed = pipeline.log()
    pipeline.alter_topic(**{"message.timestamp.type": "CreateTime"})
    pipeline.produce([(0, value) for _, value in values(26)[20:]])
    pipeline.drain()
    assert stopped(pipeline) == {0: "create_time", 1: "create_time"}
    with pytest.raises(RemedyRefused, match="LogAppendTime"):
        declare(pipeline)
    pipeline.alter_topic(**{"message.timestamp.type": "LogAppendTime"})
    pipeline.produce(values(40)[26:])
    pipeline.drain()
    assert stopped(pipeline) == {0: "create_time"}  # six records with the producer's time are in the way
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 0") == 10
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 1") == 17
    [lost] = declare(pipeline, partition=0)
    assert (lost.range.first_offset, lost.range.end_offset) == (10, 16)
    pipeline.drain_all()
    good = [r for r in pipeline.log() if not (r.partition == 0 and 10 <= r.offset < 16)]
    assert len(good) == len(landed) + 14
    assert_landed(pipeline, good, lost=6)
