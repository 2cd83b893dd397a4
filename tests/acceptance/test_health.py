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
from tests.kit.dags import switched_on
from tests.kit.services import superuser
from tests.kit.waiting import wait_for

COMPONENTS = {
    "kafka", "kafka_canary", "postgresql", "ledger", "spark", "storage", "airflow_scheduler", "airflow_dag_processor",
    "airflow",
}  # fmt: skip


@pytest.fixture
def api(stack: Stack) -> Iterator[AirflowApi]:
    """Airflow with check_health on, of which only the triggered runs matter."""
    with switched_on(stack, "check_health") as api:
        yield api


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
    watched = prometheus.find_binary() is not None
    if watched:
        targets = f"{stack.prometheus_url}/api/v1/targets"
        wait_for(lambda: "down" not in httpx.get(targets, timeout=30).text, "scrape of every target")
    rows, run = dict[str, dict[str, Any]](), dict[str, Any]()

    def is_well() -> bool:  # what other tests do to this host at the same time makes it slow, and that is degraded
        nonlocal rows, run
        _, rows, run = check(api, writer)
        return {row["status"] for row in rows.values()} == {"ok"} and run["duration"] < 20

    wait_for(is_well, lambda: f"run in which all is well, but {rows}, {run}")
    assert set(rows) == COMPONENTS | ({"prometheus"} if watched else set())
    assert run["state"] == "success"
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
        # Of a bundle that the DAG processor doesn't know, so that it never removes the row.
        conn.execute(
            "INSERT INTO import_error (timestamp, filename, bundle_name, stacktrace)"
            " VALUES (now(), 'broken.py', 'planted', 'SyntaxError')"
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


def waiting_runs(api: AirflowApi) -> list[str]:
    """The drain's runs that wait; one at most, triggered or of the schedule."""
    path = "/dags/drain_clickstream/dagRuns/~/taskInstances"
    found = api.call("GET", path, params={"task_id": "wait_for_health", "state": "up_for_reschedule"})
    return [str(one["dag_run_id"]) for one in found["task_instances"]]


def test_the_drain_waits_on_a_fresh_outage_and_says_why(
    stack: Stack, writer: psycopg.Connection[dict[str, Any]]
) -> None:
    note(writer, "storage", "down", 6)
    note(writer, "storage", "down", 1)
    since = writer.execute("SELECT min(checked_at) AS at FROM ledger.health_checks").fetchone()
    assert since is not None
    with switched_on(stack, "drain_clickstream") as api:
        api.trigger("drain_clickstream")
        (run_id,) = wait_for(lambda: waiting_runs(api), "run that waits")
        note(writer, "storage", "ok", 0)
        assert api.wait_for_run("drain_clickstream", run_id) == "success"
    log = log_of(stack, "drain_clickstream", run_id, "wait_for_health")
    assert f"Waiting, because storage is down since {since['at']:%Y-%m-%d %H:%M:%S} UTC (checked at " in log
    assert "The disk is gone. Mount it." in log
