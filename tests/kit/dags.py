"""DAGs of a running Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.local.airflow_api import AirflowApi
from infra.local.stack import Stack
from tests.kit.waiting import wait_for

DAGS = ("drain_clickstream", "aggregate_clickstream")


@contextmanager
def switched_on(stack: Stack, *dags: str) -> Iterator[AirflowApi]:
    """DAGs that run, also by their schedules, until the block has ended and none of their runs is under way."""
    with AirflowApi(stack) as api:
        for dag_id in dags:
            api.wait_for_dag(dag_id)
            _pause(api, dag_id, paused=False)
        try:
            yield api
        finally:
            switch_off(stack, *dags)


def switch_off(stack: Stack, *dags: str) -> None:
    """Pause DAGs one after the other, each as soon as none of its runs is under way."""
    with AirflowApi(stack) as api:  # a new login, as secrets may have changed
        for dag_id in dags:
            wait_for(lambda dag_id=dag_id: _rests_paused(api, dag_id), f"rest of {dag_id}")  # type: ignore[misc]


def _rests_paused(api: AirflowApi, dag_id: str) -> bool:
    if _is_at_rest(api, dag_id):
        _pause(api, dag_id, paused=True)
        if _is_at_rest(api, dag_id):
            return True
        _pause(api, dag_id, paused=False)  # a run that has begun in between would not go on
    return False


def _is_at_rest(api: AirflowApi, dag_id: str) -> bool:
    return not api.call("GET", f"/dags/{dag_id}/dagRuns", params={"state": ["queued", "running"]})["dag_runs"]


def _pause(api: AirflowApi, dag_id: str, *, paused: bool) -> None:
    api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})
