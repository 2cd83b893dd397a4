"""The metrics say what the ledger says, to those who may see it and to nobody else."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import psycopg
import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from pyspark.sql import SparkSession

from clickstream.ledger import batches
from clickstream.ledger import metrics as figures
from clickstream.metrics import ledger_families
from clickstream.metrics.collector import Exporter
from clickstream.metrics.families import gauge
from tests import oracle
from tests.kit import aging
from tests.kit.events import at, values
from tests.kit.metrics import Samples, samples
from tests.kit.pipeline import Pipeline
from tests.kit.records import event
from tests.oracle import Record

NO_REJECTS = {
    ("clickstream_rejected_records_total", reason): 0
    for reason in (
        "null_value", "too_large", "not_utf8", "not_json", "not_an_object", "unsupported_schema_version",
        "missing_field", "wrong_type", "forbidden_character", "unknown_event_type", "bad_event_time",
        "future_event_time",
    )
}  # fmt: skip


def read_ledger(connect: Callable[[], psycopg.Connection[Any]]) -> list[Metric]:
    with connect() as conn:
        return list(ledger_families.families(figures.read(conn)))


def scrape(pipeline: Pipeline) -> Samples:
    """The ledger's metrics, without those that say what is deployed and how long batches took."""
    exporter = Exporter({"ledger": lambda: read_ledger(pipeline.connect)}, revision="test")
    found = samples(generate_latest(exporter).decode())
    return {key: value for key, value in found.items() if "duration" not in key[0] and key[0] != "build_info"}


# The numbers


def test_an_empty_ledger_has_zeros_and_no_watermark(shared: Pipeline) -> None:
    assert scrape(shared) == NO_REJECTS | {
        ("clickstream_batches_total", "published"): 0,
        ("clickstream_batches_total", "released"): 0,
        ("clickstream_records_total", "accepted"): 0,
        ("clickstream_records_total", "duplicate"): 0,
        ("clickstream_records_total", "late"): 0,
        ("clickstream_records_total", "rejected"): 0,
        ("clickstream_unpublished_records",): 0,
        ("clickstream_open_batch_age_seconds",): 0,
        ("clickstream_open_batch_attempts",): 0,
        ("exporter_scrape_success",): 1,
    }


def test_the_numbers_are_those_of_what_was_produced(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.create_topic()
    topic = pipeline.settings.topic
    fresh = values(40)
    old = json.dumps(event(eventId="old", eventTime=at(datetime.now(UTC) - timedelta(days=3)))).encode()
    pipeline.produce([*fresh, *fresh[:6], (0, old), (0, None), (1, b"{"), (1, b"{")])
    pipeline.drain_all()
    assert scrape(pipeline)["clickstream_records_total", "accepted"] == 0
    assert scrape(pipeline)["clickstream_unpublished_records",] == 50
    waiting = pipeline.one(
        "SELECT extract(epoch FROM max(first))::float8 FROM (SELECT min(first_record_at) AS first"
        " FROM ledger.segments GROUP BY partition) s"
    )
    assert scrape(pipeline)["clickstream_watermark_timestamp_seconds",] <= waiting
    before = time.time()
    pipeline.aggregate_all(spark)
    pipeline.produce(values(50)[40:])
    pipeline.use(drain_max_offsets=2)
    pipeline.drain()
    found = scrape(pipeline)
    watermark = found.pop(("clickstream_watermark_timestamp_seconds",))
    for partition in ("0", "1"):
        lag = found.pop(("clickstream_lag_seconds", partition, topic))
        headroom = found.pop(("clickstream_retention_headroom_seconds", partition, topic))
        assert 0 <= lag < 60
        assert lag + headroom == pytest.approx(7 * 24 * 3600)
    assert found == NO_REJECTS | {
        ("clickstream_batches_total", "published"): 1,
        ("clickstream_batches_total", "released"): 0,
        ("clickstream_records_total", "accepted"): 40,
        ("clickstream_records_total", "duplicate"): 6,
        ("clickstream_records_total", "late"): 1,
        ("clickstream_records_total", "rejected"): 3,
        ("clickstream_rejected_records_total", "null_value"): 1,
        ("clickstream_rejected_records_total", "not_json"): 2,
        ("clickstream_unpublished_records",): 4,
        ("clickstream_open_batch_age_seconds",): 0,
        ("clickstream_open_batch_attempts",): 0,
        ("clickstream_committed_offset", "0", topic): 27,
        ("clickstream_committed_offset", "1", topic): 27,
        ("clickstream_log_start_offset", "0", topic): 0,
        ("clickstream_log_start_offset", "1", topic): 0,
        ("clickstream_log_end_offset", "0", topic): 30,
        ("clickstream_log_end_offset", "1", topic): 30,
        ("clickstream_lag_records", "0", topic): 3,
        ("clickstream_lag_records", "1", topic): 3,
        ("exporter_scrape_success",): 1,
    }
    assert watermark == pytest.approx(
        pipeline.one("SELECT extract(epoch FROM min(watermark))::float8 FROM ledger.watermarks")
    )
    assert before - 60 < watermark < before


def test_a_record_on_an_idle_partition_does_not_set_the_watermark_back(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.create_topic()
    pipeline.produce(values(4))
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.conn.execute("UPDATE ledger.segments SET last_record_at = last_record_at - interval '3 hours'")

    def watermark() -> float:
        return scrape(pipeline)["clickstream_watermark_timestamp_seconds",]

    pipeline.plan()
    seen = [watermark()]
    assert seen[0] == pytest.approx(time.time(), abs=60)
    pipeline.produce([(0, value) for _, value in values(5)[4:]])
    for step in (pipeline.plan, pipeline.drain, pipeline.plan):
        step()
        seen.append(watermark())
    attempt_id = pipeline.attempt(spark)
    assert attempt_id
    seen.append(watermark())
    for step in (pipeline.plan, lambda: pipeline.publish(attempt_id), pipeline.plan):
        step()
        seen.append(watermark())
    assert seen == sorted(seen)
    landed = pipeline.one("SELECT extract(epoch FROM max(first_record_at))::float8 FROM ledger.segments")
    assert max(seen[:-2]) <= landed < seen[-1]


def test_a_released_batch_an_open_one_and_a_stopped_partition_show(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    topic = pipeline.settings.topic
    pipeline.produce(values(10))
    pipeline.drain_all()
    first = pipeline.claim()
    assert first is not None
    batches.release(pipeline.conn, first, dry_run=False)
    second = pipeline.claim()
    assert second is not None
    pipeline.begin(second)
    pipeline.begin(second)
    pipeline.conn.execute("UPDATE ledger.batches SET created_at = now() - interval '100 s' WHERE state = 'open'")
    pipeline.conn.execute(
        "UPDATE ledger.partitions SET stopped = 'truncated', stopped_reason = 'test', stopped_at = now(),"
        " log_end_offset = 3 WHERE partition = 1"
    )
    found = scrape(pipeline)
    assert found["clickstream_batches_total", "released"] == 1
    assert found["clickstream_open_batch_age_seconds",] == pytest.approx(100, abs=30)
    assert found["clickstream_open_batch_attempts",] == 2
    assert [key for key in found if key[0] == "clickstream_partition_stopped"] == [
        ("clickstream_partition_stopped", "1", "truncated", topic)
    ]
    assert found["clickstream_lag_records", "1", topic] == 0


def test_the_lag_in_seconds_grows_from_what_was_landed_last_and_eats_the_headroom(pipeline: Pipeline) -> None:
    pipeline.create_topic(**{"retention.ms": "3600000"})
    topic = pipeline.settings.topic
    pipeline.produce(values(10))
    pipeline.drain()
    pipeline.plan()  # sees that all is landed
    caught_up = pipeline.one("SELECT observed_at FROM ledger.partitions WHERE partition = 0")
    lag = scrape(pipeline)["clickstream_lag_seconds", "0", topic]
    assert lag == pytest.approx((datetime.now(UTC) - caught_up).total_seconds(), abs=5)
    pipeline.produce(values(20)[10:])
    pipeline.plan()  # sees new records, which nobody lands
    pipeline.conn.execute(
        "UPDATE ledger.partitions SET caught_up_at = caught_up_at - interval '20 min',"
        " last_record_at = last_record_at - interval '30 min', observed_at = now()"
    )
    found = scrape(pipeline)
    assert found["clickstream_lag_seconds", "0", topic] == pytest.approx(lag + 1200, abs=15)
    headroom = found["clickstream_retention_headroom_seconds", "0", topic]
    assert headroom == pytest.approx(3600 - found["clickstream_lag_seconds", "0", topic])
    pipeline.drain_all()
    pipeline.plan()
    assert scrape(pipeline)["clickstream_lag_seconds", "0", topic] < 15


def test_a_topic_that_keeps_all_has_infinite_headroom(pipeline: Pipeline) -> None:
    pipeline.create_topic(**{"retention.ms": "-1"})
    pipeline.produce(values(4))
    pipeline.drain()
    assert scrape(pipeline)["clickstream_retention_headroom_seconds", "0", pipeline.settings.topic] == inf


def test_no_counter_falls_when_retention_removes_what_it_counted(written: tuple[Pipeline, list[Record]]) -> None:
    pipeline = written[0].copied()
    before = {key: value for key, value in scrape(pipeline).items() if key[0].endswith("_total")}
    assert before["clickstream_records_total", "accepted"] == oracle.fold(written[1]).dispositions["accepted"] > 0
    with pipeline.superuser() as conn:
        conn.execute("SET session_replication_role = replica")
        for table in ("rejected_counts", "rejections", "event_files", "segments", "attempts", "batches"):
            conn.execute(f"DELETE FROM ledger.{table}")
    assert {key: value for key, value in scrape(pipeline).items() if key[0].endswith("_total")} == before
    pipeline.drop()


def test_the_time_of_each_stage_is_counted_once_a_batch(
    written: tuple[Pipeline, list[Record]], spark: SparkSession
) -> None:
    pipeline = written[0].copied()
    exporter = Exporter({"ledger": lambda: read_ledger(pipeline.connect)}, revision="test")
    before = samples(generate_latest(exporter).decode())
    pipeline.land_records(aging.batch_at(aging.LONG_AGO, len(written[1])))
    batch_id = pipeline.claim()
    assert batch_id is not None
    pipeline.conn.execute("UPDATE ledger.batches SET created_at = now() - interval '100 s' WHERE state = 'open'")
    attempt_id = pipeline.begin(batch_id)
    pipeline.transform(spark, attempt_id)
    assert pipeline.publish(attempt_id)
    assert not pipeline.publish(attempt_id)
    after = samples(generate_latest(exporter).decode())
    name = "clickstream_batch_duration_seconds"
    found = {key: after[key] - before[key] for key in after if key[0].startswith(name)}
    for stage in ("queue", "spark", "publish", "total"):
        assert before[f"{name}_count", stage] == len(aging.MOMENTS)
        assert found[f"{name}_count", stage] == found[f"{name}_bucket", "+Inf", stage] == 1
    assert found[f"{name}_sum", "queue"] == pytest.approx(100, abs=10)
    assert found[f"{name}_bucket", "90.0", "queue"] == 0
    assert found[f"{name}_bucket", "120.0", "queue"] == 1
    stages = sum(found[f"{name}_sum", stage] for stage in ("queue", "spark", "publish"))
    assert found[f"{name}_sum", "total"] == pytest.approx(stages, abs=0.1)
    bounds = sorted(float(key[1]) for key in found if key[0] == f"{name}_bucket" and key[2] == "queue")
    assert tuple(bounds) == ledger_families.STAGE_BOUNDS
    pipeline.drop()


def check(pipeline: Pipeline, component: str, status: str, *, minutes_ago: int = 0) -> None:
    pipeline.conn.execute(
        "INSERT INTO ledger.health_checks VALUES (%s, now() - %s * interval '1 min', %s, 0.25, 'test', 'test')",
        [component, minutes_ago, status],
    )


def test_the_newest_check_of_each_component_counts_while_it_is_young(pipeline: Pipeline) -> None:
    check(pipeline, "storage", "down", minutes_ago=5)
    check(pipeline, "storage", "ok")
    check(pipeline, "spark", "degraded")
    check(pipeline, "kafka", "ok", minutes_ago=5)
    check(pipeline, "kafka", "down")
    check(pipeline, "kafka_canary", "ok", minutes_ago=1)
    check(pipeline, "postgresql", "ok", minutes_ago=16)
    found = scrape(pipeline)
    of = {key[1:]: value for key, value in found.items() if key[0] == "clickstream_component_up"}
    assert of == {("storage",): 1, ("spark",): 1, ("kafka",): 0, ("kafka_canary",): 1}
    degraded = {key[1] for key, value in found.items() if key[0] == "clickstream_component_degraded" and value}
    assert degraded == {"spark"}
    assert found["clickstream_canary_roundtrip_seconds",] == 0.25
    check(pipeline, "kafka_canary", "down")
    assert ("clickstream_canary_roundtrip_seconds",) not in scrape(pipeline)


def test_what_the_newest_audit_missed_shows_while_it_is_young(pipeline: Pipeline) -> None:
    audit = "INSERT INTO ledger.audits VALUES (now() - %s * interval '1 min', %s, 100, %s)"
    pipeline.conn.execute(audit, [16, "sessions", 0])
    assert ("clickstream_unaccounted_records",) not in scrape(pipeline)
    pipeline.conn.execute(audit, [10, "sessions", 9])
    with pipeline.conn.transaction():
        pipeline.conn.execute(audit, [5, "sessions", 3])
        pipeline.conn.execute(audit, [5, "windows", 4])
    found = scrape(pipeline)
    assert found["clickstream_unaccounted_records",] == 7
    assert found["clickstream_audit_timestamp_seconds",] == pytest.approx(time.time() - 300, abs=30)


def test_a_closed_incarnation_has_no_offsets(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce(values(4))
    pipeline.drain()
    pipeline.conn.execute("UPDATE ledger.partitions SET closed_at = now() WHERE partition = 0")
    assert [key[1] for key in scrape(pipeline) if key[0] == "clickstream_committed_offset"] == ["1"]


def test_a_scrape_gives_up_on_a_locked_ledger_before_prometheus_does(
    shared: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert figures.STATEMENT_TIMEOUT_MS < 5_000
    monkeypatch.setattr(figures, "STATEMENT_TIMEOUT_MS", 100)
    with shared.connect() as writer, writer.transaction():
        writer.execute("LOCK TABLE ledger.batches IN ACCESS EXCLUSIVE MODE")
        assert scrape(shared) == {("exporter_scrape_success",): 0}


def test_an_unreachable_ledger_is_logged_and_gives_no_number(
    shared: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable() -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(shared.dsn.replace(f":{shared.stack.ports.postgres}/", ":1/"))

    with caplog.at_level(logging.ERROR):
        healthy = gauge("healthy", "Another source.", [], [([], 1)])
        sources = {"The ledger": lambda: read_ledger(unreachable), "another": lambda: [healthy]}
        found = samples(generate_latest(Exporter(sources, revision="test")).decode())
    assert {key: value for key, value in found.items() if key[0] != "build_info"} == {
        ("healthy",): 1,
        ("exporter_scrape_success",): 0,
    }
    assert "refused" in caplog.text
    assert "The ledger can't be read" in caplog.text
