"""check_health and the gate of the drain, as Airflow runs them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from infra.local import credentials, lifecycle, prometheus
from infra.local.airflow_api import AirflowApi
from infra.local.stack import Stack
from infra.local.supervision import Supervisor
from tests.kit.services import superuser
from tests.kit.waiting import eventually

COMPONENTS = {
    "kafka", "kafka_canary", "postgresql", "ledger", "spark", "storage", "airflow_scheduler", "airflow_dag_processor",
    "airflow",
}  # fmt: skip
DAGS = ("check_health", "drain_clickstream")


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[AirflowApi]:
    """Airflow with both DAGs on, of which only the triggered runs matter."""
    with AirflowApi(stack) as api:
        for dag_id in DAGS:
            api.wait_for_dag(dag_id)
            api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        yield api
        for dag_id in DAGS:
            api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": True})


@pytest.fixture
def writer(stack: Stack) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    dsn = credentials.reader_url(stack).replace("grafana_reader", "clickstream_writer", 1)
    password = credentials.token(stack, "clickstream_writer")
    with psycopg.connect(dsn, password=password, autocommit=True, row_factory=dict_row) as conn:
        conn.execute("DELETE FROM ledger.health_checks")
        yield conn
        conn.execute("DELETE FROM ledger.health_checks")


def check(api: AirflowApi, conn: psycopg.Connection[dict[str, Any]]) -> tuple[str, dict[str, dict[str, Any]], Any]:
    """A run of check_health: its id, its rows by component, and the run as Airflow describes it."""
    run_id = api.trigger("check_health")
    api.wait_for_run("check_health", run_id)
    rows = conn.execute("SELECT * FROM ledger.health_checks WHERE dag_run_id = %s", [run_id]).fetchall()
    run = api.call("GET", f"/dags/check_health/dagRuns/{run_id}")
    return run_id, {row["component"]: row for row in rows}, run


def log_of(stack: Stack, dag_id: str, run_id: str, task_id: str) -> str:
    folder = stack.folder / "airflow" / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
    return "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.log"))


def test_everything_is_green_within_twenty_seconds(
    stack: Stack, api: AirflowApi, writer: psycopg.Connection[dict[str, Any]]
) -> None:
    watched = stack.with_prometheus and prometheus.find_binary() is not None
    if watched:
        targets = f"{stack.prometheus_url}/api/v1/targets"
        assert eventually(lambda: "down" not in httpx.get(targets, timeout=30).text)
    for _ in range(10):  # what other tests do to this host at the same time makes it slow, and that is degraded
        _, rows, run = check(api, writer)
        if {row["status"] for row in rows.values()} == {"ok"} and run["duration"] < 20:
            break
    assert {name: (row["status"], row["reason"]) for name, row in rows.items() if row["status"] != "ok"} == {}
    assert set(rows) == COMPONENTS | ({"prometheus"} if watched else set())
    assert run["state"] == "success"
    assert run["duration"] < 20
    assert writer.execute("SELECT sum(unaccounted) AS missing FROM ledger.audits").fetchone() == {"missing": 0}
    secrets = [file.read_text(encoding="utf-8").strip() for file in stack.secrets.iterdir() if file.suffix == ""]
    assert not [secret for secret in secrets for row in rows.values() if secret in row["reason"]]


@pytest.mark.needs("prometheus")
def test_a_run_with_something_down_fails_and_names_it(
    stack: Stack, api: AirflowApi, writer: psycopg.Connection[dict[str, Any]]
) -> None:
    Supervisor(stack).stop_program("prometheus")
    try:
        run_id, rows, run = check(api, writer)
    finally:
        lifecycle.restart(stack, "prometheus")
    assert run["state"] == "failed"
    assert rows["prometheus"]["status"] == "down"
    assert [name for name, row in rows.items() if row["status"] == "down"] == ["prometheus"]
    log = log_of(stack, "check_health", run_id, "report")
    assert f"1 of {len(rows)} components are down." in log
    assert "See whether Prometheus at CLICKSTREAM_PROMETHEUS_URL runs" in log


def test_the_exporter_tells_of_pools_and_import_errors(
    stack: Stack, api: AirflowApi, writer: psycopg.Connection[dict[str, Any]]
) -> None:
    with superuser(stack, "airflow") as conn:
        # Not a real file: every test's Airflow reads the same folder of DAGs.
        conn.execute(
            "INSERT INTO import_error (timestamp, filename, bundle_name, stacktrace)"
            " VALUES (now(), 'broken.py', 'dags-folder', 'SyntaxError')"
        )
        conn.execute("UPDATE slot_pool SET pool = 'hidden' WHERE pool = 'spark'")
        try:
            _, rows, _ = check(api, writer)
        finally:
            conn.execute("UPDATE slot_pool SET pool = 'spark' WHERE pool = 'hidden'")
            conn.execute("DELETE FROM import_error WHERE filename = 'broken.py'")
    assert rows["airflow"]["status"] == "down"
    assert "Pool spark is missing" in rows["airflow"]["reason"]
    assert "1 DAG files can't be imported" in rows["airflow"]["reason"]


def note(conn: psycopg.Connection[dict[str, Any]], component: str, status: str, minutes_ago: float) -> None:
    conn.execute(
        "INSERT INTO ledger.health_checks VALUES (%s, now() - %s, %s, 1, 'The disk is gone. Mount it.', 'by hand')",
        [component, timedelta(minutes=minutes_ago), status],
    )


@pytest.fixture
def unchecked(api: AirflowApi) -> Iterator[AirflowApi]:
    """No check_health of the schedule comes in between."""

    def pause(*, paused: bool) -> None:
        api.call("PATCH", "/dags/check_health", json={"is_paused": paused})

    def is_at_rest() -> bool:
        active = api.call("GET", "/dags/check_health/dagRuns", params={"state": ["queued", "running"]})
        return not active["dag_runs"]

    def rests_paused() -> bool:
        if is_at_rest():
            pause(paused=True)
            if is_at_rest():
                return True
            pause(paused=False)  # a run that has begun in between would not go on
        return False

    assert eventually(rests_paused)
    yield api
    pause(paused=False)


def waiting_runs(api: AirflowApi) -> list[str]:
    """The drain's runs that wait; one at most, triggered or of the schedule."""
    path = "/dags/drain_clickstream/dagRuns/~/taskInstances"
    found = api.call("GET", path, params={"task_id": "wait_for_health", "state": "up_for_reschedule"})
    return [str(one["dag_run_id"]) for one in found["task_instances"]]


def test_the_drain_waits_on_a_fresh_outage_and_says_why(
    stack: Stack, unchecked: AirflowApi, writer: psycopg.Connection[dict[str, Any]]
) -> None:
    api = unchecked
    note(writer, "storage", "down", 6)
    note(writer, "storage", "down", 1)
    api.trigger("drain_clickstream")
    assert eventually(lambda: bool(waiting_runs(api)))
    (run_id,) = waiting_runs(api)
    log = log_of(stack, "drain_clickstream", run_id, "wait_for_health")
    since = writer.execute("SELECT min(checked_at) AS at FROM ledger.health_checks").fetchone()
    assert since is not None
    assert f"Waiting, because storage is down since {since['at']:%Y-%m-%d %H:%M:%S} UTC (checked at " in log
    assert "The disk is gone. Mount it." in log
    note(writer, "storage", "ok", 0)
    assert api.wait_for_run("drain_clickstream", run_id) == "success"


def test_the_drain_does_not_wait_on_a_stale_outage_or_on_another_component(
    unchecked: AirflowApi, writer: psycopg.Connection[dict[str, Any]], stack: Stack
) -> None:
    api = unchecked
    for component in ("kafka", "postgresql", "storage"):
        note(writer, component, "down", 10.1)
    for component in ("kafka_canary", "ledger", "spark", "generator", "airflow", "prometheus"):
        note(writer, component, "down", 0)
    run_id = api.trigger("drain_clickstream")
    assert api.wait_for_run("drain_clickstream", run_id) == "success"
    assert "Waiting, because" not in log_of(stack, "drain_clickstream", run_id, "wait_for_health")
