"""The whole pipeline as Airflow runs it: a burst, runs cleared and run again, and processes that are killed."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from infra.local import credentials, demo, lifecycle
from infra.local.airflow_api import AirflowApi
from infra.local.demo import make_burst, wait_until_published
from infra.local.errors import StackError
from infra.local.lineage import lineage
from infra.local.session import session_members
from infra.local.stack import Stack
from infra.local.supervision import Supervisor
from infra.local.tables import show
from tests import oracle
from tests.kit.dags import DAGS, pause
from tests.kit.metrics import NAMES
from tests.kit.pipeline import Pipeline
from tests.kit.services import superuser
from tests.kit.waiting import wait_for

SUBMIT = "org.apache.spark.deploy.SparkSubmit"


@pytest.fixture(scope="module")
def running(stack: Stack, template: str) -> Iterator[Stack]:  # noqa: ARG001 - the template is copied before data come
    """The stack with both DAGs on their schedules."""
    pause(stack, paused=False)
    yield stack
    pause(stack, paused=True)


@pytest.fixture
def published(running: Stack) -> Iterator[Pipeline]:
    """A view on what the stack's own DAGs publish."""
    view = Pipeline.of(running)
    yield view
    view.close()


def members(stack: Stack) -> list[psutil.Process]:
    return session_members(int((stack.folder / "run" / "supervisord.pid").read_text(encoding="ascii")))


def spark_at_work(stack: Stack) -> tuple[psutil.Process, psutil.Process] | None:
    """Spark's JVM and its Python driver, which is but one of the JVM's children."""
    for process in members(stack):
        with suppress(psutil.Error):
            words = process.cmdline()
            if SUBMIT in words and "org.apache.spark.launcher.Main" not in words:
                for child in process.children():
                    with suppress(psutil.Error):
                        words = child.cmdline()
                        if SUBMIT not in words and any(word.endswith("aggregate_windows.py") for word in words):
                            return process, child
    return None


def burst_and_drain(stack: Stack) -> dict[str, Any]:
    """A burst, and a run of the drain without waiting for the minute."""
    burst = make_burst(stack, events=200)
    with AirflowApi(stack) as api:
        api.trigger("drain_clickstream")
    return burst


def published_exactly(view: Pipeline, burst: dict[str, Any]) -> None:
    with view.connect() as conn:
        conn.autocommit = True
        wait_until_published(view.stack, conn, burst)
    view.assert_equals_oracle(view.log())


def test_the_demo_balances_and_what_it_shows_equals_the_oracle(
    published: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, shown = io.StringIO(), dict[str, list[dict[str, Any]]]()

    def remember(conn: Any, console: Console, query: str, **values: object) -> list[dict[str, Any]]:
        shown[query] = show(conn, console, query, **values)
        return shown[query]

    monkeypatch.setattr("infra.local.demo.show", remember)
    pause(published.stack, paused=False, dags=["check_health"])
    assert demo.demo(published.stack, Console(file=printed, width=200))
    pause(published.stack, paused=True, dags=["check_health"])  # the tests below stop what the drain would wait for
    well = {
        row["component"]
        for row in shown[demo.HEALTH]
        if row["status"] == "ok" or row["reason"].startswith("Slow: ")  # with all at once on few cores
    }
    assert well >= {"kafka", "postgresql", "ledger", "storage", "spark"}, shown[demo.HEALTH]
    assert "Balanced: 0 offsets or records unaccounted for" in printed.getvalue()
    expected = oracle.fold(published.log())
    sessions = shown[demo.SESSIONS]
    assert len(sessions) == 10
    for row in sessions:
        of = expected.sessions[row["session"]]
        for name in ("events", "purchases", "device", "region", "entry_page", "exit_page", "bounced"):
            assert row[name] == of[name]
        assert (row["views"], row["carts"]) == (of["page_views"], of["add_to_carts"])
        assert row["session"] in printed.getvalue()
    assert shown[demo.WINDOWS]
    assert [start_of(row) for row in shown[demo.FUNNEL]] == [start_of(row) for row in shown[demo.WINDOWS]]
    for row in shown[demo.FUNNEL]:
        numbers = expected.funnel[start_of(row), row["minutes"]]
        assert {name: row[name] for name in numbers} == numbers
    pages = shown[demo.TOP_PAGES]
    hour = start_of(pages[0])
    of_hour = {page: row for (start, minutes, page), row in expected.pages.items() if (start, minutes) == (hour, 60)}
    best = sorted(of_hour, key=lambda page: (-of_hour[page]["views"], page.encode()))[:10]
    assert [row["page"] for row in pages] == best
    assert [{name: row[name] for name in of_hour[row["page"]]} for row in pages] == [of_hour[page] for page in best]
    for row in shown[demo.REVENUE]:
        of = expected.revenue[start_of(row), row["minutes"], row["currency"]]
        assert {"purchases": row["purchases"], "amount": row["amount"]} == of


@pytest.mark.needs("prometheus")
def test_soon_after_the_demo_prometheus_has_every_metric(running: Stack) -> None:
    only_in_trouble = {"clickstream_partition_stopped"}
    series = {
        name: f"{name}_bucket" if kind == "histogram" else name
        for name, (kind, *_) in NAMES.items()
        if name not in only_in_trouble
    }

    def missing() -> set[str]:
        try:
            answer = httpx.get(f"{running.prometheus_url}/api/v1/label/__name__/values", timeout=30).json()
        except httpx.TransportError:
            return set(series)
        return {name for name, sample in series.items() if sample not in answer["data"]}

    wait_for(lambda: None if missing() else True, f"sample of {missing()}", seconds=90)


def start_of(row: dict[str, Any]) -> int:
    return int(datetime.strptime(f"{row['window']} +0000", "%Y-%m-%d %H:%M %z").timestamp())


def test_lineage_leads_from_a_window_to_its_raw_files_and_runs(published: Pipeline) -> None:
    printed = io.StringIO()
    published_exactly(published, burst_and_drain(published.stack))
    lineage(published.stack, Console(file=printed, width=1000), None, 60)
    batches, paths, runs = published.conn.execute(
        "SELECT array_agg(DISTINCT batch_id), array_agg(raw_file), array_agg(DISTINCT drain_run) FROM ledger.lineage"
        " WHERE window_minutes = 60 AND window_start ="
        " (SELECT max(window_start) FROM analytics.traffic_by_window WHERE window_minutes = 60)"
    ).fetchone() or ([], [], [])
    assert batches
    assert all(Path(path.removeprefix("file://")).is_file() and path in printed.getvalue() for path in paths)
    with AirflowApi(published.stack) as api:
        for run in runs:
            assert api.call("GET", f"/dags/drain_clickstream/dagRuns/{run}")["dag_run_id"] in printed.getvalue()
    with pytest.raises(StackError, match="no window of 5 minutes that starts at 2001-01-01T00:00Z"):
        lineage(published.stack, Console(file=printed), "2001-01-01", 5)


def test_old_runs_cleared_and_run_again_and_a_minute_refilled_change_no_number(published: Pipeline) -> None:
    burst = burst_and_drain(published.stack)
    published_exactly(published, burst)
    before = published.traffic()
    with AirflowApi(published.stack) as api:
        for dag_id in DAGS:
            runs = api.call("GET", f"/dags/{dag_id}/dagRuns", params={"state": "success", "limit": 2})["dag_runs"]
            for run in runs:
                api.call("POST", f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}/clear", json={"dry_run": False})
            for run in runs:
                api.wait_for_run(dag_id, run["dag_run_id"])
    assert {key: published.traffic()[key] for key in before} == before
    duplicates = published.dispositions()["duplicate"]
    refill(published.stack, burst, dry_run=True)
    refill(published.stack, burst, dry_run=False)
    published_exactly(published, burst_and_drain(published.stack))
    assert published.dispositions()["duplicate"] - duplicates == burst["events"]


def refill(stack: Stack, burst: dict[str, Any], *, dry_run: bool) -> None:
    span = {"from_minute": burst["minute"], "to_minute": burst["minute"], "producer": burst["producerId"]}
    with AirflowApi(stack) as api:
        api.wait_for_dag("refill_from_archive")
        api.call("PATCH", "/dags/refill_from_archive", json={"is_paused": False})
        run_id = api.trigger("refill_from_archive", span | {"dry_run": dry_run})
        assert api.wait_for_run("refill_from_archive", run_id) == "success"


@pytest.mark.parametrize(
    ("dag_id", "conf", "reason"),
    [
        ("declare_loss", {"partition": 0}, "Nothing is lost in partition 0"),
        ("release_batch", {"batch_id": 1}, "Batch 1 is not open"),
        ("erase_user", {"user_id": "ann", "confirm": "anne", "dry_run": False}, "user_id and confirm differ"),
        (
            "refill_from_archive",
            {"from_minute": "2001-01-01T00:00:00Z", "to_minute": "2001-01-01T00:09:00Z"},
            "The archive has no file of 2001-01-01T00:00Z to 2001-01-01T00:09Z",
        ),
    ],
)
def test_a_remedy_without_need_is_refused_with_the_reason(
    running: Stack, dag_id: str, conf: dict[str, Any], reason: str
) -> None:
    with AirflowApi(running) as api:
        api.wait_for_dag(dag_id)
        api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        assert api.wait_for_run(dag_id, api.trigger(dag_id, conf)) == "failed"
    logs = (running.folder / "airflow" / "logs" / f"dag_id={dag_id}").rglob("*.log")
    assert any(reason in log.read_text(encoding="utf-8") for log in logs)


def test_a_user_is_looked_for_and_no_log_names_anybody(published: Pipeline) -> None:
    user = published.one("SELECT user_id FROM analytics.sessions LIMIT 1")
    with AirflowApi(published.stack) as api:
        api.wait_for_dag("erase_user")
        api.call("PATCH", "/dags/erase_user", json={"is_paused": False})
        run_id = api.trigger("erase_user", {"user_id": user, "confirm": user, "dry_run": True})
        assert api.wait_for_run("erase_user", run_id) == "success"
        path = f"/dags/erase_user/dagRuns/{quote(run_id)}/taskInstances/erase/xcomEntries/return_value"
        counts = api.call("GET", path)["value"]
        triggered = api.call("GET", "/eventLogs", params={"dag_id": "erase_user", "event": "trigger_dag_run"})
    assert "***" in str(triggered)
    assert user not in str(triggered)
    assert dict(json.loads(counts) if isinstance(counts, str) else counts)["events"] > 0
    logs = list((published.stack.folder / "airflow" / "logs" / "dag_id=erase_user").rglob("*.log"))
    assert logs
    assert not [log for log in logs if user in log.read_text(encoding="utf-8")]
    assert published.one("SELECT count(*) FROM analytics.sessions WHERE user_id = %s", user) > 0


def test_maintenance_changes_no_number(published: Pipeline) -> None:
    before = published.traffic()
    with AirflowApi(published.stack) as api:
        for dag_id in ("compact_events", "maintain_storage"):
            api.wait_for_dag(dag_id)
            api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
            try:
                run_id = api.trigger(dag_id, {"dry_run": False})
                assert api.wait_for_run(dag_id, run_id) == "success"
            finally:
                api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": True})
    assert {key: published.traffic()[key] for key in before} == before
    assert published.unaccounted() == {}


def test_a_drain_that_cannot_reach_kafka_fails_and_the_next_one_catches_up(published: Pipeline) -> None:
    stack = published.stack
    with AirflowApi(stack) as api:
        Supervisor(stack).stop_program("kafka")
        try:
            assert api.wait_for_run("drain_clickstream", api.trigger("drain_clickstream")) == "failed"
        finally:
            lifecycle.up(stack)
    published_exactly(published, burst_and_drain(stack))


def test_spark_holds_no_secret_and_nothing_listens_beyond_loopback(published: Pipeline) -> None:
    stack = published.stack
    secrets = [file.read_text(encoding="utf-8").strip() for file in stack.secrets.iterdir() if file.suffix == ""]
    burst = burst_and_drain(stack)
    jvm, driver = wait_for(lambda: spark_at_work(stack), "Spark")
    for process in (jvm, driver):
        seen = " ".join([*process.cmdline(), *(f"{key}={value}" for key, value in process.environ().items())])
        assert not [secret for secret in secrets if secret in seen]
        assert not [name for name in process.environ() if name.startswith(("AIRFLOW", "CLICKSTREAM", "PG"))]
    while jvm.is_running():
        listening = [c for p in members(stack) for c in _listening(p)]
        assert listening
        assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} <= {"127.0.0.1", "::1"}
        time.sleep(0.2)
    published_exactly(published, burst)


def _listening(process: psutil.Process) -> list[Any]:
    try:
        return [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


def kill_spark(stack: Stack, jvm: psutil.Process) -> list[psutil.Process]:  # noqa: ARG001 - the form of all kills
    return [jvm]


def kill_task(stack: Stack, jvm: psutil.Process) -> list[psutil.Process]:  # noqa: ARG001
    task = jvm.parent()
    assert task is not None
    return [task]


def kill_worker(stack: Stack, jvm: psutil.Process) -> list[psutil.Process]:  # noqa: ARG001
    task = jvm.parent()
    worker = task.parent() if task else None
    assert worker is not None
    return [worker]


def kill_scheduler(stack: Stack, jvm: psutil.Process) -> list[psutil.Process]:  # noqa: ARG001
    return [psutil.Process(Supervisor(stack).process("airflow-scheduler")["pid"])]


@pytest.mark.parametrize("victims", [kill_spark, kill_task, kill_worker, kill_scheduler])
def test_whatever_is_killed_no_process_outlives_it_and_the_numbers_are_right(
    published: Pipeline, victims: Callable[[Stack, psutil.Process], list[psutil.Process]]
) -> None:
    stack = published.stack
    burst = burst_and_drain(stack)
    jvm, _ = wait_for(lambda: spark_at_work(stack), "Spark")
    family = [jvm, *jvm.children(recursive=True)]
    for victim in victims(stack, jvm):
        victim.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    published_exactly(published, burst)


def counters(stack: Stack) -> dict[tuple[str, ...], float]:
    """Every counter that Prometheus would scrape now, by name and label values in the order of their names."""
    token = credentials.token(stack, "metrics_token")
    answer = httpx.get(stack.metrics_url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    answer.raise_for_status()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }


def test_a_killed_task_is_one_failure_and_what_airflow_forgets_stays_counted(published: Pipeline) -> None:
    stack = published.stack
    failures = ("airflow_task_instances_finished_total", "aggregate_clickstream", "failed", "aggregate")
    burst = burst_and_drain(stack)
    jvm, _ = wait_for(lambda: spark_at_work(stack), "Spark")
    before = counters(stack)
    (task,) = kill_task(stack, jvm)
    task.send_signal(signal.SIGKILL)
    published_exactly(published, burst)
    after = counters(stack)
    assert after[failures] == before[failures] + 1
    assert [key for key in before if after[key] < before[key]] == []
    with superuser(stack, "airflow") as conn:
        gone = conn.execute("DELETE FROM dag_run WHERE state IN ('success', 'failed')").rowcount
    assert gone > 0
    lifecycle.restart(stack, "airflow-api-server")
    now = counters(stack)
    assert [key for key in after if now[key] < after[key]] == []


def test_the_supervisor_is_killed_and_up_brings_the_stack_back(published: Pipeline) -> None:
    stack = published.stack
    burst = burst_and_drain(stack)
    wait_for(lambda: spark_at_work(stack), "Spark")
    before = members(stack)
    leader = int((stack.folder / "run" / "supervisord.pid").read_text(encoding="ascii"))
    os.kill(leader, signal.SIGKILL)
    _, alive = psutil.wait_procs(before, timeout=60)
    assert alive == []
    lifecycle.up(stack)
    published.conn = published.connect()
    published_exactly(published, burst)


def test_no_log_holds_a_secret(running: Stack) -> None:
    secrets = {file.name: file.read_bytes().strip() for file in running.secrets.iterdir() if file.suffix == ""}
    logs = [*running.logs.rglob("*"), *(running.folder / "airflow" / "logs").rglob("*.log")]
    texts = {path: path.read_bytes() for path in logs if path.is_file()}
    assert any(b"spark-submit" in text for text in texts.values())
    assert not [(path, name) for path, text in texts.items() for name, secret in secrets.items() if secret in text]


def test_a_task_links_to_its_batch_offsets_and_log_and_other_dags_tasks_do_not(published: Pipeline) -> None:
    stack = published.stack
    published_exactly(published, burst_and_drain(stack))
    batch_id, aggregate_run = published.conn.execute(
        "SELECT b.batch_id, a.dag_run_id FROM ledger.batches b JOIN ledger.attempts a USING (batch_id, attempt)"
        " WHERE b.state = 'published' ORDER BY batch_id DESC LIMIT 1"
    ).fetchone() or (0, "")
    drain_run = published.one(
        "SELECT a.dag_run_id FROM ledger.segments s JOIN ledger.attempts a USING (attempt_id)"
        " WHERE s.batch_id = %s LIMIT 1",
        batch_id,
    )
    page = f"{stack.airflow_url}/plugin/pipeline-health/clickstream/health"
    batch = {"Batch": f"{page}?batch={batch_id}"}
    log = f"{stack.airflow_url}/dags/aggregate_clickstream/runs/{quote(aggregate_run, safe='')}/tasks/aggregate"
    offsets = {"Offset range": f"{page}?{urlencode({'drain_run': drain_run})}"}
    with AirflowApi(stack) as api:

        def links(dag_id: str, run: str, task_id: str, index: int = -1) -> dict[str, str]:
            path = f"/dags/{dag_id}/dagRuns/{quote(run)}/taskInstances/{task_id}/links"
            return dict(api.call("GET", path, params={"map_index": index})["extra_links"])

        # A task's links come just after its end.
        wait_for(lambda: links("aggregate_clickstream", aggregate_run, "publish")["Batch"], "link of publish")
        for task_id in ("claim", "publish"):
            assert links("aggregate_clickstream", aggregate_run, task_id) == batch
        found = links("aggregate_clickstream", aggregate_run, "aggregate")
        assert found.pop("Spark log").startswith(f"{log}?try_number=")
        assert found == batch
        assert links("drain_clickstream", drain_run, "land", 0) == offsets
        assert links("drain_clickstream", drain_run, "commit") == offsets
        assert links("drain_clickstream", drain_run, "plan") == {}
        # Its state is the one that the page shows, and the address that of the task.
        state = api._client.get("/clickstream/health/state", params={"batch": batch_id, "drain_run": drain_run}).json()
        assert state["batch"]["batch_id"] == batch_id
        assert {one["batch_id"] for one in state["drains"]} == {batch_id}


def test_xcom_carries_only_ids_and_links_to_this_stack(running: Stack) -> None:
    secrets = [file.read_text(encoding="utf-8").strip() for file in running.secrets.iterdir() if file.suffix == ""]
    with AirflowApi(running) as api:
        for dag_id in DAGS:
            entries = api.call("GET", f"/dags/{dag_id}/dagRuns/~/taskInstances/~/xcomEntries", params={"limit": 200})[
                "xcom_entries"
            ]
            links = [entry for entry in entries if entry["key"].startswith("_link_")]
            assert {entry["key"] for entry in entries if entry not in links} <= {"return_value"}
            assert links
            for entry in links[:20]:
                path = f"/dags/{dag_id}/dagRuns/{quote(entry['run_id'])}/taskInstances/{entry['task_id']}"
                one = api.call("GET", f"{path}/xcomEntries/{entry['key']}", params={"map_index": entry["map_index"]})[
                    "value"
                ]
                assert one == "" or one.startswith(
                    (f"{running.airflow_url}/plugin/pipeline-health/", f"{running.airflow_url}/dags/")
                )
                assert not [secret for secret in secrets if secret in one]
