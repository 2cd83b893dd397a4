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
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pyspark.sql import SparkSession

from clickstream.metrics import LedgerCollector
from infra.local import credentials
from infra.local.airflow_api import AirflowApi
from infra.local.stack import Stack
from tests.conftest import superuser
from tests.integration.test_drain_and_aggregate import at, values
from tests.pipeline import Pipeline
from tests.records import event

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")

NAMES = {
    "clickstream_batches_total": "counter",
    "clickstream_records_total": "counter",
    "clickstream_rejected_records_total": "counter",
    "clickstream_watermark_timestamp_seconds": "gauge",
    "clickstream_unaccounted_records": "gauge",
    "clickstream_committed_offset": "gauge",
    "clickstream_log_start_offset": "gauge",
    "clickstream_log_end_offset": "gauge",
    "clickstream_lag_records": "gauge",
    "clickstream_partition_stopped": "gauge",
    "exporter_scrape_success": "gauge",
}

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Each sample by its name and the values of its labels, in the order of the labels' names."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_key = {(s.name, *(s.labels[label] for label in sorted(s.labels))): s.value for s in found}
    assert len(by_key) == len(found)
    return by_key


def scrape(pipeline: Pipeline) -> Samples:
    return samples(generate_latest(LedgerCollector(pipeline.connect)).decode())


def eventually(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


# The numbers


def test_an_empty_ledger_has_zeros_and_no_watermark(pipeline: Pipeline) -> None:
    assert scrape(pipeline) == {
        ("clickstream_batches_total", "published"): 0,
        ("clickstream_batches_total", "released"): 0,
        ("clickstream_records_total", "accepted"): 0,
        ("clickstream_records_total", "duplicate"): 0,
        ("clickstream_records_total", "late"): 0,
        ("clickstream_records_total", "rejected"): 0,
        ("clickstream_unaccounted_records",): 0,
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
    assert ("clickstream_watermark_timestamp_seconds",) not in scrape(pipeline)
    before = time.time()
    pipeline.aggregate_all(spark)
    pipeline.produce(values(50)[40:])
    pipeline.use(drain_max_offsets=2)
    pipeline.drain()
    found = scrape(pipeline)
    watermark = found.pop(("clickstream_watermark_timestamp_seconds",))
    assert found == {
        ("clickstream_batches_total", "published"): 1,
        ("clickstream_batches_total", "released"): 0,
        ("clickstream_records_total", "accepted"): 40,
        ("clickstream_records_total", "duplicate"): 6,
        ("clickstream_records_total", "late"): 1,
        ("clickstream_records_total", "rejected"): 3,
        ("clickstream_rejected_records_total", "null_value"): 1,
        ("clickstream_rejected_records_total", "not_json"): 2,
        ("clickstream_unaccounted_records",): 0,
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


def test_a_released_batch_a_stopped_partition_and_a_broken_equation_show(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce(values(10))
    pipeline.drain_all()
    assert pipeline.claim()
    pipeline.conn.execute("UPDATE ledger.batches SET state = 'released'")
    pipeline.conn.execute(
        "UPDATE ledger.partitions SET stopped = 'truncated', stopped_reason = 'test', stopped_at = now(),"
        " log_end_offset = 3, next_offset = next_offset + 7 WHERE partition = 1"
    )
    found = scrape(pipeline)
    assert found["clickstream_batches_total", "released"] == 1
    assert found["clickstream_partition_stopped", "1", "truncated", pipeline.settings.topic] == 1
    assert [key for key in found if key[0] == "clickstream_partition_stopped"] == [
        ("clickstream_partition_stopped", "1", "truncated", pipeline.settings.topic)
    ]
    assert found["clickstream_lag_records", "1", pipeline.settings.topic] == 0
    assert found["clickstream_unaccounted_records",] == 7


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
        text = generate_latest(LedgerCollector(unreachable)).decode()
    assert samples(text) == {("exporter_scrape_success",): 0}
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
    assert httpx.get(stack.metrics_url, params={"token": token}).status_code == 401
    assert httpx.get(stack.metrics_url, auth=("admin", token)).status_code == 401
    assert "clickstream_" not in get(stack).text + get(stack, "x").text


def test_nothing_else_is_served_beside_the_metrics(stack: Stack, token: str) -> None:
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/metrics/"):
        assert get(stack, token, path).status_code in {307, 404}, path
    assert httpx.post(stack.metrics_url, headers={"Authorization": f"Bearer {token}"}).status_code == 405


def test_the_token_of_the_scrape_opens_it(stack: Stack, token: str) -> None:
    answer = get(stack, token)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert samples(answer.text)["exporter_scrape_success",] == 1
    declared = dict(line.split()[2:] for line in answer.text.splitlines() if line.startswith("# TYPE"))
    assert declared == NAMES
    helped = {line.split()[2] for line in answer.text.splitlines() if line.startswith("# HELP")}
    assert helped == set(NAMES)


def test_a_login_to_airflow_opens_it(stack: Stack) -> None:
    with AirflowApi(stack) as api:
        jwt = str(api._client.headers["Authorization"]).removeprefix("Bearer ")
    assert get(stack, jwt).status_code == 200
    assert httpx.get(stack.metrics_url, cookies={"_token": jwt}).status_code == 200


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
    assert samples(answer.text) == {("exporter_scrape_success",): 0}
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
        answer = httpx.get(f"{stack.prometheus_url}/api/v1/query", params=query).json()
        return [one["value"][1] for one in answer["data"]["result"]] == ["1"]

    assert eventually(scraped, seconds=45)
