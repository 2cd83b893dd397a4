"""Every DAG file parses fast and without I/O, and is scheduled, limited and documented as designed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
DAGS = {
    "drain_clickstream": "* * * * *",
    "aggregate_clickstream": "*/5 * * * *",
    "check_health": "*/5 * * * *",
    "declare_loss": None,
    "release_batch": None,
}

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
                                 "timeout": task.execution_timeout.total_seconds()} for task in dag.tasks},
    } for dag in bag.dags.values()},
}, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow finds in dags/, in a process without any setting of the pipeline."""
    home = tmp_path_factory.mktemp("airflow")
    found = home / "found.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLICKSTREAM")}
    subprocess.run(
        [sys.executable, "-c", PARSE, str(REPOSITORY / "dags"), str(found)],
        env=environment
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "PYTHONPATH": str(REPOSITORY / "plugins"),
        },
        check=True,
        capture_output=True,
    )
    return dict(json.loads(found.read_text()))


def test_every_file_parses(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == set(DAGS) == {path.stem for path in (REPOSITORY / "dags").glob("*.py")}


@pytest.mark.parametrize("dag_id", DAGS)
def test_schedule_and_limits(parsed: dict[str, Any], dag_id: str) -> None:
    dag = parsed["dags"][dag_id]
    assert dag["cron"] == DAGS[dag_id]
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert all(task["timeout"] for task in dag["tasks"].values())


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


@pytest.mark.parametrize("dag_id", ["declare_loss", "release_batch"])
def test_what_changes_data_is_a_dry_run_by_default(parsed: dict[str, Any], dag_id: str) -> None:
    assert parsed["dags"][dag_id]["params"]["dry_run"]["default"] is True
