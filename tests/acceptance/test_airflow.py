"""The whole pipeline as Airflow runs it: a burst, runs cleared and run again, and processes that are killed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psutil
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from infra.local import demo, lifecycle, prometheus
from infra.local.airflow_api import AirflowApi
from infra.local.demo import make_burst, wait_until_published
from infra.local.errors import StackError
from infra.local.lineage import lineage
from infra.local.stack import Stack
from infra.local.supervision import Supervisor
from tests import oracle
from tests.kit.dags import DAGS, switched_on
from tests.kit.demonstration import Demonstration
from tests.kit.metrics import NAMES, Samples, counters
from tests.kit.pipeline import Pipeline
from tests.kit.processes import family_of, kill, members, members_with_backends, supervisor_of
from tests.kit.services import superuser
from tests.kit.waiting import wait_for

SUBMIT = "org.apache.spark.deploy.SparkSubmit"
REMEDIES: dict[str, tuple[dict[str, Any], str]] = {  # without need, with the reason why they are refused
    "declare_loss": ({"partition": 0}, "Nothing is lost in partition 0"),
    "release_batch": ({"batch_id": 1}, "Batch 1 is not open"),
    "erase_user": ({"user_id": "ann", "confirm": "anne", "dry_run": False}, "user_id and confirm differ"),
    "refill_from_archive": (
        {"from_minute": "2001-01-01T00:00:00Z", "to_minute": "2001-01-01T00:09:00Z"},
        "The archive has no file of 2001-01-01T00:00Z to 2001-01-01T00:09Z",
    ),
}


@pytest.fixture
def running(stack: Stack, demonstration: Demonstration) -> Iterator[Stack]:  # noqa: ARG001 - begins with a batch
    """The stack with both DAGs on their schedules."""
    with switched_on(stack, *DAGS):
        yield stack


@pytest.fixture
def published(stack: Stack, demonstration: Demonstration) -> Iterator[Pipeline]:  # noqa: ARG001
    """A view on what the stack's own DAGs publish, at least the demo's burst."""
    view = Pipeline.of(stack)
    yield view
    view.close()


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
        wait_until_published(view.stack, conn, burst)
    view.assert_equals_oracle(view.log())


# The demo


def whereabouts(view: Pipeline, burst: dict[str, Any]) -> tuple[int, str, str]:
    """The batch that a burst ended in, the run that drained its end, and the run that aggregated it."""
    partition, offset = next(iter(burst["partitions"].items()))
    batch_id, drain_run, aggregate_run = view.conn.execute(
        "SELECT b.batch_id, drained.dag_run_id, aggregated.dag_run_id FROM ledger.segments s"
        " JOIN ledger.attempts drained USING (attempt_id) JOIN ledger.batches b ON b.batch_id = s.batch_id"
        " JOIN ledger.attempts aggregated ON aggregated.batch_id = b.batch_id AND aggregated.attempt = b.attempt"
        " WHERE s.partition = %(partition)s AND %(offset)s >= s.first_offset AND %(offset)s < s.end_offset",
        {"partition": int(partition), "offset": offset},
    ).fetchone() or (0, "", "")
    return batch_id, drain_run, aggregate_run


def test_the_demo_balances_and_what_it_shows_equals_the_oracle(
    demonstration: Demonstration, published: Pipeline
) -> None:
    shown, printed = demonstration.shown, demonstration.printed
    assert demonstration.balanced
    well = {
        row["component"]
        for row in shown[demo.HEALTH]
        if row["status"] == "ok" or row["reason"].startswith("Slow: ")  # with all at once on few cores
    }
    assert well >= {"kafka", "postgresql", "ledger", "storage", "spark"}, shown[demo.HEALTH]
    assert "Balanced: 0 offsets or records unaccounted for" in printed
    expected = oracle.fold(published.log())
    sessions = shown[demo.SESSIONS]
    assert len(sessions) == 10
    for row in sessions:
        of = expected.sessions[row["session"]]
        for name in ("events", "purchases", "device", "region", "entry_page", "exit_page", "bounced"):
            assert row[name] == of[name]
        assert (row["views"], row["carts"]) == (of["page_views"], of["add_to_carts"])
        assert row["session"] in printed
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


def start_of(row: dict[str, Any]) -> int:
    return int(datetime.strptime(f"{row['window']} +0000", "%Y-%m-%d %H:%M %z").timestamp())


@pytest.mark.skipif(prometheus.find_binary() is None, reason="Prometheus is not installed (Debian: prometheus)")
@pytest.mark.usefixtures("demonstration")
def test_soon_after_the_demo_prometheus_has_every_metric(stack: Stack) -> None:
    only_in_trouble = {"clickstream_partition_stopped"}
    series = {
        name: f"{name}_bucket" if kind == "histogram" else name
        for name, (kind, *_) in NAMES.items()
        if name not in only_in_trouble
    }

    def missing() -> set[str]:
        answer = httpx.get(f"{stack.prometheus_url}/api/v1/label/__name__/values", timeout=30).json()
        return {name for name, sample in series.items() if sample not in answer["data"]}

    wait_for(lambda: not missing(), lambda: f"sample of {missing()}")


def test_lineage_leads_from_a_window_to_its_raw_files_and_runs(published: Pipeline) -> None:
    printed = io.StringIO()
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


def test_a_task_links_to_its_batch_offsets_and_log_and_other_dags_tasks_do_not(
    published: Pipeline, demonstration: Demonstration
) -> None:
    stack = published.stack
    batch_id, drain_run, aggregate_run = whereabouts(published, demonstration.burst)
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


@pytest.mark.usefixtures("demonstration")
def test_xcom_carries_only_ids_and_links_to_this_stack(stack: Stack) -> None:
    with AirflowApi(stack) as api:
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
                    (f"{stack.airflow_url}/plugin/pipeline-health/", f"{stack.airflow_url}/dags/")
                )


# What a person runs


@pytest.mark.usefixtures("demonstration")
def test_a_remedy_without_need_is_refused_with_the_reason(stack: Stack) -> None:
    with switched_on(stack, *REMEDIES) as api:
        runs = {dag_id: api.trigger(dag_id, conf) for dag_id, (conf, _) in REMEDIES.items()}
        assert {api.wait_for_run(dag_id, run_id) for dag_id, run_id in runs.items()} == {"failed"}
    for dag_id, (_, reason) in REMEDIES.items():
        logs = (stack.folder / "airflow" / "logs" / f"dag_id={dag_id}" / f"run_id={runs[dag_id]}").rglob("*.log")
        assert any(reason in log.read_text(encoding="utf-8") for log in logs), dag_id


def test_a_user_is_looked_for_and_no_log_names_anybody(published: Pipeline) -> None:
    user = published.one("SELECT user_id FROM analytics.sessions LIMIT 1")
    with switched_on(published.stack, "erase_user") as api:
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


def test_runs_cleared_and_run_again_and_maintenance_change_no_number(
    published: Pipeline, demonstration: Demonstration
) -> None:
    before = published.traffic()
    _, *runs = whereabouts(published, demonstration.burst)
    maintenance = ("compact_events", "maintain_storage")
    with switched_on(published.stack, *DAGS, *maintenance) as api:
        begun = [*zip(DAGS, runs, strict=True)]
        for dag_id, run_id in begun:
            api.call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False})
        begun += [(dag_id, api.trigger(dag_id, {"dry_run": False})) for dag_id in maintenance]
        assert {api.wait_for_run(dag_id, run_id) for dag_id, run_id in begun} == {"success"}
    assert published.traffic() == before
    published.assert_equals_oracle(published.log())


def test_a_minute_refilled_changes_no_number(
    published: Pipeline, demonstration: Demonstration, spark: SparkSession
) -> None:
    before, duplicates = published.traffic(), published.dispositions()["duplicate"]
    burst = demonstration.burst
    span = {"from_minute": burst["minute"], "to_minute": burst["minute"], "producer": burst["producerId"]}
    with switched_on(published.stack, "refill_from_archive") as api:
        for dry_run in (True, False):
            run_id = api.trigger("refill_from_archive", span | {"dry_run": dry_run})
            assert api.wait_for_run("refill_from_archive", run_id) == "success"
    published.drain_all()
    published.aggregate_all(spark)
    assert published.traffic() == before
    assert published.dispositions()["duplicate"] - duplicates == burst["events"]
    published.assert_equals_oracle(published.log())


# What breaks


@dataclass(frozen=True)
class Killed:
    """What was seen of Spark, whose task was killed at its first try and not at its second.

    Attributes:
        words: Each of its processes with its arguments and environment.
        variables: The names of its environment.
        outlived: What was left of the first try.
        listening: The addresses at which the second try listened.
        before: Every counter before the kill.
        after: Every counter once the burst was published.
    """

    words: list[str]
    variables: set[str]
    outlived: list[psutil.Process]
    listening: set[str]
    before: Samples
    after: Samples


@pytest.fixture(scope="module")
def killed(stack: Stack, demonstration: Demonstration) -> Killed:  # noqa: ARG001 - begins with a batch
    """A burst whose task of Spark is killed in the middle."""
    with switched_on(stack, *DAGS):
        burst = burst_and_drain(stack)
        pair = wait_for(lambda: spark_at_work(stack), "Spark")
        words = [" ".join([*one.cmdline(), *map("=".join, one.environ().items())]) for one in pair]
        variables = {name for one in pair for name in one.environ()}
        before = counters(stack)
        outlived = kill(parent_of(pair[0]))
        task = parent_of(wait_for(lambda: spark_at_work(stack), "Spark at its second try")[0])
        listening = set[str]()

        def has_ended() -> bool:
            listening.update(addresses(task))
            return not task.is_running()

        wait_for(has_ended, "end of Spark")
        view = Pipeline.of(stack)
        wait_until_published(stack, view.conn, burst)
        view.close()
        return Killed(words, variables, outlived, listening, before, counters(stack))


def addresses(process: psutil.Process) -> set[str]:
    """Where it and its descendants listen."""
    found = set()
    for one in family_of(process):
        with suppress(psutil.Error):
            connections = one.net_connections("inet")
            found |= {socket.laddr.ip for socket in connections if socket.status == psutil.CONN_LISTEN}
    return {address.removeprefix("::ffff:") for address in found}


def parent_of(process: psutil.Process) -> psutil.Process:
    parent = process.parent()
    assert parent is not None
    return parent


def test_a_killed_task_leaves_no_process_and_the_numbers_are_right(killed: Killed, published: Pipeline) -> None:
    assert killed.outlived == []
    published.assert_equals_oracle(published.log())


def test_a_killed_task_is_one_failure_and_what_airflow_forgets_stays_counted(killed: Killed, stack: Stack) -> None:
    failures = ("airflow_task_instances_finished_total", "aggregate_clickstream", "failed", "aggregate")
    before, after = killed.before, killed.after
    assert after[failures] == before.get(failures, 0) + 1
    assert [key for key in before if after[key] < before[key]] == []
    with superuser(stack, "airflow") as conn:
        gone = conn.execute("DELETE FROM dag_run WHERE dag_id = 'check_health' AND state = 'success'").rowcount
    assert gone > 0
    assert ("airflow_dag_runs_finished_total", "check_health", "success") in after
    now = counters(stack)
    assert [key for key in after if now[key] < after[key]] == []


def test_spark_holds_no_secret_and_listens_on_loopback_only(killed: Killed, stack: Stack) -> None:
    secrets = [file.read_text(encoding="utf-8").strip() for file in stack.secrets.iterdir() if file.suffix == ""]
    assert len(killed.words) == 2
    assert not [secret for secret in secrets for words in killed.words if secret in words]
    assert not [name for name in killed.variables if name.startswith(("AIRFLOW", "CLICKSTREAM", "PG"))]
    assert killed.listening
    assert killed.listening <= {"127.0.0.1", "::1"}


@pytest.mark.long
def test_a_drain_that_cannot_reach_kafka_fails_and_the_next_one_catches_up(running: Stack, published: Pipeline) -> None:
    with AirflowApi(running) as api:
        Supervisor(running).stop_program("kafka")
        try:
            assert api.wait_for_run("drain_clickstream", api.trigger("drain_clickstream")) == "failed"
        finally:
            lifecycle.up(running)
    published_exactly(published, burst_and_drain(running))


Victim = Callable[[Stack, psutil.Process], psutil.Process]


def spark_itself(stack: Stack, jvm: psutil.Process) -> psutil.Process:  # noqa: ARG001 - the form of all victims
    return jvm


def its_worker(stack: Stack, jvm: psutil.Process) -> psutil.Process:  # noqa: ARG001
    return parent_of(parent_of(jvm))


def the_scheduler(stack: Stack, jvm: psutil.Process) -> psutil.Process:  # noqa: ARG001
    return psutil.Process(Supervisor(stack).process("airflow-scheduler")["pid"])


def the_supervisor(stack: Stack, jvm: psutil.Process) -> psutil.Process:  # noqa: ARG001
    return supervisor_of(stack)


@pytest.mark.long
@pytest.mark.parametrize("victims", [(spark_itself, its_worker), (the_scheduler, the_supervisor)])
def test_whatever_is_killed_no_process_outlives_it_and_the_numbers_are_right(
    running: Stack, published: Pipeline, victims: tuple[Victim, ...]
) -> None:
    burst = burst_and_drain(running)
    for victim in victims:
        jvm, _ = wait_for(lambda: spark_at_work(running), "Spark")
        others = members_with_backends(running) if victim is the_supervisor else family_of(jvm)
        assert kill(victim(running, jvm), others) == []
    if the_supervisor in victims:
        lifecycle.up(running)
        published.conn = published.connect()
    published_exactly(published, burst)
