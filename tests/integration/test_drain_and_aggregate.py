"""Records through real Kafka, Parquet, Spark and PostgreSQL come out as the contract says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from kafka import KafkaProducer, TopicPartition
from kafka.admin import NewPartitions

from clickstream import broker
from clickstream.ledger.windows import complete_windows
from tests.kit.events import at, values
from tests.kit.pipeline import Pipeline, in_order
from tests.kit.records import HISTORIC, event
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_what_is_produced_is_published_exactly_and_bad_input_is_counted_and_stops_nothing(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    pipeline.create_topic()
    now = datetime.now(UTC)
    fresh = values(300)
    produce_in_transactions(pipeline, (True, fresh[:100]), (False, values(6)))
    pipeline.produce([*fresh[100:], *fresh[:20]])
    old = at(now - timedelta(days=3))
    pipeline.produce([(0, json.dumps(event(eventId="old", eventTime=old)).encode())])
    pipeline.produce([(1, json.dumps(event(eventId="loaded", eventTime=old)).encode())], headers=HISTORIC)
    bad: list[bytes | None] = [
        None,
        b"",
        b"\xff\xfe",
        b"{",
        b"[1]",
        b'{"a": NaN}',
        json.dumps(event(eventId=None)).encode(),
        json.dumps(event(sequence="1")).encode(),
        json.dumps(event(page="a\0b")).encode(),
        json.dumps(event(eventType="JUMP")).encode(),
        json.dumps(event(eventTime="yesterday")).encode(),
        json.dumps(event(eventTime=at(now + timedelta(days=400)))).encode(),
        json.dumps(event(eventTime="1999-12-31T23:59:59Z")).encode(),
        json.dumps(event(eventTime="2001-01-01T00:00:00Z")).encode(),
        json.dumps(event(schemaVersion=2)).encode(),
        json.dumps(event(page="x" * 1_000_000)).encode(),
    ]
    pipeline.produce([(0, value) for value in bad])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert pipeline.one("SELECT absent FROM ledger.batches") == 6 + 2 * 2  # what was aborted, and the markers
    assert pipeline.dispositions() == {"accepted": 301, "duplicate": 20, "late": 2, "rejected": 15}
    assert pipeline.reasons() == {
        "null_value": 1,
        "not_json": 3,
        "not_utf8": 1,
        "not_an_object": 1,
        "missing_field": 1,
        "wrong_type": 1,
        "forbidden_character": 1,
        "unknown_event_type": 1,
        "bad_event_time": 2,
        "future_event_time": 1,
        "unsupported_schema_version": 1,
        "too_large": 1,
    }
    pipeline.assert_equals_oracle(pipeline.log())


def test_neither_splits_into_drains_and_batches_nor_the_session_s_time_zone_change_a_number(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    pipeline.conn.execute("SET TimeZone = 'Europe/Berlin'")
    pipeline.create_topic()
    made = values(120)
    pipeline.produce([*made[:110], *made[:10]])
    pipeline.use(drain_max_offsets=17, batch_max_offsets=60)
    pipeline.drain_all()
    assert pipeline.one("SELECT count(*) FROM ledger.segments") == 8
    pipeline.aggregate_all(spark)
    assert pipeline.one("SELECT count(*) FROM ledger.batches WHERE state = 'published'") == 3
    assert pipeline.dispositions() == {"accepted": 110, "duplicate": 10}
    pipeline.assert_equals_oracle(pipeline.log())


def test_the_raw_zone_holds_the_records_verbatim(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce([(0, None), (0, b"\x00\xff"), (0, "naïve 😀".encode())], headers=[("a", b"1"), ("a", b"2")])
    pipeline.drain()
    path, size = pipeline.conn.execute("SELECT path, bytes FROM ledger.segments").fetchone() or ("", 0)
    rows = pq.read_table(path.removeprefix("file://")).to_pylist()
    assert [row["value"] for row in rows] == [None, b"\x00\xff", "naïve 😀".encode()]
    assert [row["key"] for row in rows] == [b"k"] * 3
    assert rows[0]["headers"] == [{"key": "a", "value": b"1"}, {"key": "a", "value": b"2"}]
    assert [row["offset"] for row in rows] == [0, 1, 2]
    assert {row["timestamp_type"] for row in rows} == {broker.LOG_APPEND_TIME}
    assert size > 0


def produce_in_transactions(pipeline: Pipeline, *transactions: tuple[bool, list[tuple[int, bytes | None]]]) -> None:
    """Produce (partition, value) pairs in transactions that are committed or not."""
    producer = KafkaProducer(
        bootstrap_servers=pipeline.settings.kafka_bootstrap_servers, transactional_id=pipeline.settings.topic
    )
    producer.init_transactions()
    for commit, batch in transactions:
        producer.begin_transaction()
        for partition, value in batch:
            producer.send(pipeline.settings.topic, value=value, partition=partition)
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
    producer.close()


def test_transaction_markers_are_absent_offsets_and_aborted_records_never_land(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    produce_in_transactions(pipeline, (True, values(10)), (False, values(6)), (True, values(30)[20:]))
    pipeline.drain_all()
    assert pipeline.one("SELECT sum(records)::int FROM ledger.segments") == 20
    assert pipeline.one("SELECT sum(absent)::int FROM ledger.segments") == 6 + 3 * 2
    assert pipeline.landed() == in_order(pipeline.log())
    assert pipeline.unaccounted() == {}


def test_partitions_that_are_added_later_are_drained_from_their_start(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    made = values(60)
    pipeline.produce(made[:20])
    pipeline.drain()
    pipeline.produce(made[20:30])
    drain_ids = pipeline.plan()
    add_partition(pipeline)
    pipeline.produce([(number % 3, value) for number, (_, value) in enumerate(made[20:50])])  # ten of them again
    pipeline.commit([pipeline.land(drain_id) for drain_id in drain_ids])  # planned when there were two
    pipeline.drain_all()
    assert pipeline.one("SELECT first_offset FROM ledger.partitions WHERE partition = 2") == 0
    pipeline.produce([(2, value) for _, value in made[50:]])
    pipeline.drain_all()
    log = in_order(pipeline.log())
    assert len(log) == 70
    assert pipeline.landed() == log
    assert pipeline.unaccounted() == {}


def add_partition(pipeline: Pipeline) -> None:
    pipeline.partitions += 1
    with broker.admin_of(pipeline.settings) as admin:
        admin.create_partitions({pipeline.settings.topic: NewPartitions(pipeline.partitions)})

        def are_there() -> bool:
            return len(admin.describe_topics([pipeline.settings.topic])[0]["partitions"]) == pipeline.partitions

        assert eventually(are_there)
        admin.wait_for_topics([pipeline.settings.topic])


def test_empty_partitions_keep_no_window_open_and_an_empty_run_completes_what_the_watermark_passes(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    pipeline.create_topic()
    recent = at(datetime.now(UTC))
    passed = at(datetime.now(UTC) - timedelta(hours=3))
    pipeline.produce([(0, json.dumps(event(eventId=t, eventTime=t)).encode()) for t in (recent, passed)])
    add_partition(pipeline)
    pipeline.drain()
    pipeline.aggregate(spark)
    assert pipeline.one("SELECT next_offset FROM ledger.partitions WHERE partition = 2") == 0
    query = "SELECT string_agg(DISTINCT status, ',') FROM analytics.traffic_by_window WHERE window_start %s %s"
    cutoff = "now() - interval '90 minutes'"
    # Partitions 1 and 2 are empty and seen to be so by the plan, so they don't hold the old windows open.
    assert pipeline.one(query % ("<", cutoff)) == "complete"
    assert pipeline.one(query % (">", cutoff)) == "provisional"
    pipeline.conn.execute("UPDATE ledger.partitions SET observed_at = now() + interval '2 hours'")
    assert complete_windows(pipeline.conn) == 2
    assert pipeline.one(query % (">", cutoff)) == "complete"


def test_kafka_group_offsets_follow_the_ledger(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce(values(10))
    pipeline.drain()
    with broker.admin_of(pipeline.settings) as admin:
        offsets = admin.list_group_offsets({broker.GROUP: None})[broker.GROUP]
    assert [offsets[TopicPartition(pipeline.settings.topic, p)].offset for p in (0, 1)] == [5, 5]
