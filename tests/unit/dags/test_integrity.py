"""Every DAG file parses fast and without I/O, and is scheduled, limited and documented as designed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
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

PARSE = """
import json, socket, sys
from airflow.dag_processing.dagbag import DagBag

def refuse(*_):
    raise AssertionError("a DAG file opened a socket while it was parsed")

socket.socket.connect = refuse
bag = DagBag(sys.argv[1])

def cron(timetable):
    return getattr(getattr(timetable, "timetable", timetable), "expression", None)

def shown(param):
    default = param.value if isinstance(param.value, (bool, int, str)) else None
    return {"description": param.description, "type": param.schema.get("type"), "default": default}

json.dump({
    "errors": bag.import_errors,
    "seconds": {stat.file: stat.duration.total_seconds() for stat in bag.dagbag_stats},
    "dags": {dag.dag_id: {
        "cron": cron(dag.timetable), "catchup": dag.catchup, "max_active_runs": dag.max_active_runs,
        "doc": dag.doc_md, "params": {name: shown(dag.params.get_param(name)) for name in dag.params},
        "tasks": {task.task_id: {"retries": task.retries, "pool": task.pool,
                                 "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
                                 "links": [link.name for link in task.operator_extra_links]} for task in dag.tasks},
    } for dag in bag.dags.values()},
}, open(sys.argv[2], "w"))
"""


def parse(home: Path, **settings: str) -> dict[str, Any]:
    """What Airflow finds in dags/, in a process with these settings of the pipeline alone."""
    found = home / "found.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLICKSTREAM")}
    subprocess.run(
        [sys.executable, "-c", PARSE, str(REPOSITORY / "dags"), str(found)],
        env=environment
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY / 'spark_apps'}",
        }
        | settings,
        check=True,
        capture_output=True,
    )
    return dict(json.loads(found.read_text()))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The DAGs without any setting of the pipeline."""
    return parse(tmp_path_factory.mktemp("airflow"))


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
    parsed: dict[str, Any], tmp_path: Path
) -> None:
    assert links(parsed) == LINKS
    with_grafana = parse(tmp_path, CLICKSTREAM_GRAFANA_URL="http://localhost:3000")
    assert links(with_grafana) == {task: [*names, "Grafana"] for task, names in LINKS.items()}


GRAFANA = """
from datetime import UTC, datetime
from types import SimpleNamespace
from clickstream.links import GrafanaLink

began = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
print(GrafanaLink().get_link(None, ti_key=SimpleNamespace(start_date=began)))
"""


def test_the_link_to_grafana_spans_the_task(tmp_path: Path) -> None:
    before = time.time()
    url = subprocess.run(
        [sys.executable, "-c", GRAFANA],
        env=os.environ
        | {
            "AIRFLOW_HOME": str(tmp_path),
            "PYTHONPATH": str(REPOSITORY / "plugins"),
            "CLICKSTREAM_GRAFANA_URL": "http://localhost:3000/grafana/",
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()[-1]
    assert url.startswith("http://localhost:3000/grafana/d/clickstream-pipeline-health?")
    span = {name: int(value) / 1000 for name, value in parse_qsl(urlsplit(url).query)}
    assert span["from"] == datetime(2026, 1, 31, 11, 45, tzinfo=UTC).timestamp()
    assert before + 900 <= span["to"] + 1 <= time.time() + 901
