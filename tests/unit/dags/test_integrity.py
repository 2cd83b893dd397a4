"""Every DAG file parses without I/O, and is scheduled, limited and documented as designed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

REPOSITORY = Path(__file__).parents[3]
DAGS = {
    "drain_clickstream": "* * * * *",
    "aggregate_clickstream": "*/5 * * * *",
    "check_health": "*/5 * * * *",
    "maintain_storage": "23 1 * * *",
    "compact_events": "17 * * * *",
    "declare_loss": None,
    "release_batch": None,
    "refill_from_archive": None,
    "erase_user": None,
    "provision_infrastructure": None,
    "teardown_infrastructure": None,
}

WAIT_FOR_A_PERSON = ("approve",)  # as long as they say themselves

WITHOUT = "without"
WITH_GRAFANA = "with-grafana"
CONFIGURATIONS = {WITHOUT: {}, WITH_GRAFANA: {"CLICKSTREAM_GRAFANA_URL": "http://localhost:3000/grafana/"}}
BEGAN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
# Airflow takes seconds to load, so one process loads it, and a child of its own parses for each configuration.
PARSE = """
import json, os, socket, sys, time
from datetime import datetime
from types import SimpleNamespace
from airflow.dag_processing.dagbag import DagBag

def refuse(*_):
    raise AssertionError("a DAG file opened a socket while it was parsed")

def cron(timetable):
    return getattr(getattr(timetable, "timetable", timetable), "expression", None)

def shown(param):
    default = param.value if isinstance(param.value, (bool, int, str)) else None
    return {"description": param.description, "type": param.schema.get("type"), "default": default}

def parse(dags, began):
    socket.socket.connect = refuse
    bag = DagBag(dags)
    from clickstream.links import GrafanaLink
    task = SimpleNamespace(start_date=datetime.fromisoformat(began))
    linked = time.time(), GrafanaLink().get_link(None, ti_key=task), time.time()
    return {
        "errors": bag.import_errors,
        "linked": linked,
        "dags": {dag.dag_id: {
            "cron": cron(dag.timetable), "catchup": dag.catchup, "max_active_runs": dag.max_active_runs,
            "doc": dag.doc_md, "params": {name: shown(dag.params.get_param(name)) for name in dag.params},
            "tasks": {task.task_id: {"retries": task.retries, "pool": task.pool,
                                     "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
                                     "links": [link.name for link in task.operator_extra_links]} for task in dag.tasks},
        } for dag in bag.dags.values()},
    }

dags, began, configurations = sys.argv[1:]
for name, settings in json.loads(configurations).items():
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    os.environ.update(settings)
    with open(os.path.join(os.environ["AIRFLOW_HOME"], name), "w") as found:
        json.dump(parse(dags, began), found)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What Airflow finds in dags/ by configuration, with no setting of the pipeline but those of it."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLICKSTREAM")}
    command = [sys.executable, "-c", PARSE, str(REPOSITORY / "dags"), BEGAN.isoformat(), json.dumps(CONFIGURATIONS)]
    done = subprocess.run(
        command,
        env=environment
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY / 'spark_apps'}",
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((home / name).read_text()) for name in CONFIGURATIONS}


@pytest.fixture
def parsed(configured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The DAGs without any setting of the pipeline."""
    return configured[WITHOUT]


def test_every_file_parses(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == set(DAGS) == {path.stem for path in (REPOSITORY / "dags").glob("*.py")}


@pytest.mark.parametrize("dag_id", DAGS)
def test_schedule_and_limits(parsed: dict[str, Any], dag_id: str) -> None:
    dag = parsed["dags"][dag_id]
    assert dag["cron"] == DAGS[dag_id]
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert all(task["timeout"] for name, task in dag["tasks"].items() if name not in WAIT_FOR_A_PERSON)


def test_pools(parsed: dict[str, Any]) -> None:
    assert parsed["dags"]["drain_clickstream"]["tasks"]["land"]["pool"] == "drain"
    assert parsed["dags"]["aggregate_clickstream"]["tasks"]["aggregate"]["pool"] == "spark"


@pytest.mark.parametrize("dag_id", DAGS)
def test_the_runbook_is_shown_and_every_param_is_explained(parsed: dict[str, Any], dag_id: str) -> None:
    dag = parsed["dags"][dag_id]
    assert dag["doc"].startswith("## ")
    for schema in dag["params"].values():
        assert schema["description"]
        assert schema["type"]


REMEDIES = ("declare_loss", "release_batch", "refill_from_archive", "erase_user")
INFRASTRUCTURE = ("provision_infrastructure", "teardown_infrastructure")


@pytest.mark.parametrize("dag_id", [*REMEDIES, *INFRASTRUCTURE])
def test_what_changes_data_is_a_dry_run_by_default(parsed: dict[str, Any], dag_id: str) -> None:
    assert parsed["dags"][dag_id]["params"]["dry_run"]["default"] is True


LINKS = {
    ("drain_clickstream", "land"): ["Offset range"],
    ("drain_clickstream", "commit"): ["Offset range"],
    ("aggregate_clickstream", "claim"): ["Batch"],
    ("aggregate_clickstream", "aggregate"): ["Batch", "Spark log"],
    ("aggregate_clickstream", "publish"): ["Batch"],
}


def links(parsed: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    return {
        (dag_id, task_id): task["links"]
        for dag_id, dag in parsed["dags"].items()
        for task_id, task in dag["tasks"].items()
        if task["links"]
    }


def test_tasks_link_to_what_they_work_on_and_to_grafana_where_there_is_one(
    configured: dict[str, dict[str, Any]],
) -> None:
    assert links(configured[WITHOUT]) == LINKS
    assert links(configured[WITH_GRAFANA]) == {task: [*names, "Grafana"] for task, names in LINKS.items()}


def test_the_link_to_grafana_spans_the_task(configured: dict[str, dict[str, Any]]) -> None:
    before, url, after = configured[WITH_GRAFANA]["linked"]
    assert url.startswith("http://localhost:3000/grafana/d/clickstream-pipeline-health?")
    span = {name: int(value) / 1000 for name, value in parse_qsl(urlsplit(url).query)}
    assert span["from"] == BEGAN.timestamp() - 900
    assert before + 900 <= span["to"] + 0.001 <= after + 901
