"""The metrics say what the ledger says, to those who may see it and to nobody else."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from pyspark.sql import SparkSession

from clickstream.ledger import batches
from clickstream.ledger import metrics as figures
from clickstream.metrics import ledger_families
from clickstream.metrics.collector import Exporter
from clickstream.metrics.families import gauge
from infra.local import credentials
from infra.local.airflow_api import AirflowApi
from infra.local.stack import Stack
from tests.conftest import superuser
from tests.integration.test_drain_and_aggregate import at, values
from tests.pipeline import Pipeline
from tests.records import event
from tests.waiting import eventually

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")

LABELS_OF_PARTITION = ("partition", "topic")
NAMES = {  # type, and labels in the order of their names
    "clickstream_batches_total": ("counter", "outcome"),
    "clickstream_records_total": ("counter", "disposition"),
    "clickstream_rejected_records_total": ("counter", "reason"),
    "clickstream_batch_duration_seconds": ("histogram", "stage"),
    "clickstream_last_success_timestamp_seconds": ("gauge", "dag_id"),
    "clickstream_watermark_timestamp_seconds": ("gauge",),
    "clickstream_unpublished_records": ("gauge",),
    "clickstream_open_batch_age_seconds": ("gauge",),
    "clickstream_open_batch_attempts": ("gauge",),
    "clickstream_committed_offset": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_log_start_offset": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_log_end_offset": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_lag_records": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_lag_seconds": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_retention_headroom_seconds": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_partition_stopped": ("gauge", "partition", "reason", "topic"),
    "clickstream_unaccounted_records": ("gauge",),
    "clickstream_audit_timestamp_seconds": ("gauge",),
    "clickstream_canary_roundtrip_seconds": ("gauge",),
    "clickstream_component_up": ("gauge", "component"),
    "clickstream_component_degraded": ("gauge", "component"),
    "clickstream_disk_free_bytes": ("gauge", "volume"),
    "clickstream_disk_size_bytes": ("gauge", "volume"),
    "airflow_task_instances_finished_total": ("counter", "dag_id", "state", "task_id"),
    "airflow_task_duration_seconds": ("histogram", "dag_id", "task_id"),
    "airflow_task_queued_seconds": ("histogram", "dag_id", "task_id"),
    "airflow_dag_runs_finished_total": ("counter", "dag_id", "state"),
    "airflow_pool_slots": ("gauge", "pool", "state"),
    "airflow_scheduler_heartbeat_timestamp_seconds": ("gauge",),
    "airflow_dag_import_errors": ("gauge",),
    "exporter_scrape_success": ("gauge",),
    "build_info": ("gauge", "airflow", "python", "revision", "version"),
}
NO_REJECTS = {
    ("clickstream_rejected_records_total", reason): 0
    for reason in (
        "null_value", "too_large", "not_utf8", "not_json", "not_an_object", "unsupported_schema_version",
        "missing_field", "wrong_type", "forbidden_character", "unknown_event_type", "bad_event_time",
        "future_event_time",
    )
}  # fmt: skip

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Each sample by its name and the values of its labels, in the order of the labels' names."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_key = {(s.name, *(s.labels[label] for label in sorted(s.labels))): s.value for s in found}
    assert len(by_key) == len(found)
    return by_key


def read_ledger(connect: Callable[[], psycopg.Connection[Any]]) -> list[Metric]:
    with connect() as conn:
        return list(ledger_families.families(figures.read(conn)))


def scrape(pipeline: Pipeline) -> Samples:
    """The ledger's metrics, without those that say what is deployed and how long batches took."""
    exporter = Exporter({"ledger": lambda: read_ledger(pipeline.connect)}, revision="test")
    found = samples(generate_latest(exporter).decode())
    return {key: value for key, value in found.items() if "duration" not in key[0] and key[0] != "build_info"}


# The numbers


def test_an_empty_ledger_has_zeros_and_no_watermark(pipeline: Pipeline) -> None:
    assert scrape(pipeline) == NO_REJECTS | {
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
    for step in (
        pipeline.plan,
        pipeline.drain,
        pipeline.plan,
        lambda: pipeline.attempt(spark),
        pipeline.plan,
        lambda: pipeline.aggregate(spark),
        pipeline.plan,
    ):
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


def test_no_counter_falls_when_retention_removes_what_it_counted(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.create_topic()
    pipeline.produce([*values(10), (0, b"{")])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    before = {key: value for key, value in scrape(pipeline).items() if key[0].endswith("_total")}
    assert before["clickstream_records_total", "accepted"] == 10
    with superuser(pipeline.stack, pipeline.settings.topic) as conn:
        conn.execute("SET session_replication_role = replica")
        for table in ("rejected_counts", "rejections", "event_files", "segments", "attempts", "batches"):
            conn.execute(f"DELETE FROM ledger.{table}")
    assert {key: value for key, value in scrape(pipeline).items() if key[0].endswith("_total")} == before


def test_the_time_of_each_stage_is_counted_once_a_batch(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.create_topic()
    for records in (values(10), values(20)[10:]):
        pipeline.produce(records)
        pipeline.drain_all()
        batch_id = pipeline.claim()
        assert batch_id is not None
        pipeline.conn.execute("UPDATE ledger.batches SET created_at = now() - interval '100 s' WHERE state = 'open'")
        attempt_id = pipeline.begin(batch_id)
        pipeline.transform(spark, attempt_id)
        assert pipeline.publish(attempt_id)
        assert not pipeline.publish(attempt_id)
    exporter = Exporter({"ledger": lambda: read_ledger(pipeline.connect)}, revision="test")
    found = samples(generate_latest(exporter).decode())
    name = "clickstream_batch_duration_seconds"
    for stage in ("queue", "spark", "publish", "total"):
        assert found[f"{name}_count", stage] == 2
        assert found[f"{name}_bucket", "+Inf", stage] == 2
    assert found[f"{name}_sum", "queue"] == pytest.approx(200, abs=10)
    assert found[f"{name}_bucket", "90.0", "queue"] == 0
    assert found[f"{name}_bucket", "120.0", "queue"] == 2
    stages = sum(found[f"{name}_sum", stage] for stage in ("queue", "spark", "publish"))
    assert found[f"{name}_sum", "total"] == pytest.approx(stages, abs=0.1)
    bounds = sorted(float(key[1]) for key in found if key[0] == f"{name}_bucket" and key[2] == "queue")
    assert tuple(bounds) == ledger_families.STAGE_BOUNDS


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


def test_a_scrape_gives_up_on_a_locked_ledger_before_prometheus_does(pipeline: Pipeline) -> None:
    with pipeline.connect() as writer, writer.transaction():
        writer.execute("LOCK TABLE ledger.batches IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        assert scrape(pipeline) == {("exporter_scrape_success",): 0}
        assert time.monotonic() - began < 5


def test_an_unreachable_ledger_is_logged_and_gives_no_number(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable() -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(pipeline.dsn.replace(f":{pipeline.stack.ports.postgres}/", ":1/"))

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


# The route


def get(stack: Stack, token: str | None = None, path: str = "/metrics") -> httpx.Response:
    headers = {} if token is None else {b"Authorization": f"Bearer {token}".rstrip().encode("latin-1")}
    return httpx.get(f"{stack.airflow_url}/clickstream{path}", headers=headers, timeout=30)


@contextmanager
def content(file: Path, text: str | None) -> Iterator[None]:
    """Replace what a file holds, or remove it, for a while."""
    before = file.read_text(encoding="utf-8")
    file.unlink() if text is None else file.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")
        file.chmod(0o600)


@pytest.fixture
def token(stack: Stack) -> str:
    return credentials.token(stack, "metrics_token")


def test_strangers_are_refused(stack: Stack, token: str) -> None:
    assert get(stack).status_code == 401
    for wrong in (token[:-1], f"{token}x", token.swapcase(), "é", "x" * 10_000):
        assert get(stack, wrong).status_code == 403, wrong
    assert httpx.get(stack.metrics_url, params={"token": token}, timeout=30).status_code == 401
    assert httpx.get(stack.metrics_url, auth=("admin", token), timeout=30).status_code == 401
    assert "clickstream_" not in get(stack).text + get(stack, "x").text


def test_nothing_else_is_served_beside_the_metrics(stack: Stack, token: str) -> None:
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/metrics/"):
        assert get(stack, token, path).status_code in {307, 404}, path
    assert httpx.post(stack.metrics_url, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code == 405


def test_the_token_of_the_scrape_opens_it(stack: Stack, token: str) -> None:
    answer = get(stack, token)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert samples(answer.text)["exporter_scrape_success",] == 1
    declared = dict(line.split()[2:] for line in answer.text.splitlines() if line.startswith("# TYPE"))
    assert declared == {name: kind for name, (kind, *_) in NAMES.items()}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            name = family.name if family.type != "counter" else f"{family.name}_total"
            assert sorted(set(sample.labels) - {"le"}) == list(NAMES[name][1:])
    helped = {line.split()[2] for line in answer.text.splitlines() if line.startswith("# HELP")}
    assert helped == set(NAMES)


def test_a_login_to_airflow_opens_it(stack: Stack) -> None:
    with AirflowApi(stack) as api:
        jwt = str(api._client.headers["Authorization"]).removeprefix("Bearer ")
    assert get(stack, jwt).status_code == 200
    assert httpx.get(stack.metrics_url, cookies={"_token": jwt}, timeout=30).status_code == 200


def test_a_rotated_token_counts_at_once(stack: Stack, token: str) -> None:
    with content(stack.secrets / "metrics_token", "another\n"):
        assert get(stack, token).status_code == 403
        assert get(stack, "another").status_code == 200
    assert get(stack, token).status_code == 200


@pytest.mark.parametrize(("text", "reason"), [(None, "FileNotFoundError"), ("", "is empty"), ("\n", "is empty")])
def test_a_missing_or_empty_token_lets_nobody_in_and_says_why(
    stack: Stack, token: str, text: str | None, reason: str
) -> None:
    with content(stack.secrets / "metrics_token", text):
        for sent in (None, token, ""):
            answer = get(stack, sent)
            assert answer.status_code == 503
            assert "CLICKSTREAM_METRICS_TOKEN_FILE" in answer.text
            assert reason in answer.text
            assert str(stack.secrets) not in answer.text
    assert str(stack.secrets / "metrics_token") in stack.log("airflow-api-server").read_text(encoding="utf-8")


def test_an_unreadable_ledger_is_a_scrape_that_says_so(stack: Stack, token: str) -> None:
    with superuser(stack, "clickstream") as conn:
        conn.execute("REVOKE USAGE ON SCHEMA ledger FROM clickstream_writer")
        try:
            answer = get(stack, token)
        finally:
            conn.execute("GRANT USAGE ON SCHEMA ledger TO clickstream_writer")
    assert answer.status_code == 200
    found = samples(answer.text)
    assert found["exporter_scrape_success",] == 0
    assert not [key for key in found if key[0] == "clickstream_batches_total"]
    assert found["airflow_dag_import_errors",] == 0
    log = stack.log("airflow-api-server").read_text(encoding="utf-8")
    assert "permission denied for schema ledger" in log
    assert credentials.token(stack, "clickstream_writer") not in log
    assert samples(get(stack, token).text)["exporter_scrape_success",] == 1


# Prometheus


@needs_promtool
def test_promtool_finds_nothing_to_say_about_the_metrics(stack: Stack, token: str) -> None:
    assert PROMTOOL
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=get(stack, token).text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_promtool
def test_prometheus_is_configured_for_it_and_scrapes_it(stack: Stack) -> None:
    assert PROMTOOL
    file = stack.folder / "prometheus" / "prometheus.yml"
    checked = subprocess.run([PROMTOOL, "check", "config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr

    def scraped() -> bool:
        query = {"query": 'exporter_scrape_success{job="clickstream"}'}
        answer = httpx.get(f"{stack.prometheus_url}/api/v1/query", params=query, timeout=30).json()
        return [one["value"][1] for one in answer["data"]["result"]] == ["1"]

    assert eventually(scraped, seconds=240)
