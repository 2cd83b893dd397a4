"""Who may scrape the metrics, what a scrape looks like, and that Prometheus does it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local import credentials
from infra.local.airflow_api import AirflowApi
from infra.local.stack import Stack
from tests.kit.metrics import NAMES, samples
from tests.kit.services import superuser
from tests.kit.waiting import wait_for


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


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_to_say_about_the_metrics(stack: Stack, token: str) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=get(stack, token).text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.needs("prometheus", "promtool")
def test_prometheus_is_configured_for_it_and_scrapes_it(stack: Stack) -> None:
    file = stack.folder / "prometheus" / "prometheus.yml"
    checked = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr

    def scraped() -> bool:
        query = {"query": 'exporter_scrape_success{job="clickstream"}'}
        answer = httpx.get(f"{stack.prometheus_url}/api/v1/query", params=query, timeout=30).json()
        return [one["value"][1] for one in answer["data"]["result"]] == ["1"]

    wait_for(scraped, "successful scrape")
