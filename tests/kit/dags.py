"""DAGs of a running Airflow."""

from __future__ import annotations

from collections.abc import Sequence

from infra.local.airflow_api import AirflowApi
from infra.local.stack import Stack

DAGS = ("drain_clickstream", "aggregate_clickstream")


def pause(stack: Stack, *, paused: bool, dags: Sequence[str] = DAGS) -> None:
    with AirflowApi(stack) as api:
        for dag_id in dags:
            api.wait_for_dag(dag_id)
            api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})
