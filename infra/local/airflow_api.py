"""Airflow's REST API, as a person's client would use it."""

import time
from typing import Any, Self

import httpx

from infra.local import credentials
from infra.local.errors import StackError
from infra.local.stack import ADMIN, Stack

FINAL = {"success", "failed"}


class AirflowApi:
    """A logged-in client; use it as a context manager."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._client = httpx.Client(base_url=stack.airflow_url, timeout=30)
        answer = self._client.post(
            "/auth/token", json={"username": ADMIN, "password": credentials.token(stack, "airflow_admin")}
        )
        answer.raise_for_status()
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - as httpx takes them
        """Call `/api/v2<path>` and return the answer.

        Raises:
            httpx.HTTPStatusError: Airflow refuses; the message has its reason.
        """
        answer = self._client.request(method, f"/api/v2{path}", **arguments)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.status_code} {answer.text[:500]}", request=answer.request, response=answer
            )
        return dict(answer.json()) if answer.content else {}

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Trigger a run of a DAG and return its id; waits until Airflow has parsed the DAG."""
        self.wait_for_dag(dag_id)
        body = {"logical_date": None, "conf": conf or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def wait_for_dag(self, dag_id: str, seconds: float = 60) -> None:
        """Wait until Airflow has parsed a DAG.

        Raises:
            StackError: It takes longer.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.call("GET", f"/dags/{dag_id}")
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise
                if time.monotonic() > deadline:
                    raise StackError(
                        f"Airflow has no DAG {dag_id} after {seconds:.0f} s.",
                        remedy=f"See {self._stack.log('airflow-dag-processor')} and the import errors in the UI.",
                    ) from error
                time.sleep(0.5)
            else:
                return

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 300) -> str:
        """Wait until a run has ended; returns `success` or `failed`.

        Raises:
            StackError: It takes longer.
        """
        deadline = time.monotonic() + seconds
        while (state := str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])) not in FINAL:
            if time.monotonic() > deadline:
                raise StackError(
                    f"Run {run_id} of {dag_id} is still {state} after {seconds:.0f} s.",
                    remedy=f"Look at it: {self.run_url(dag_id, run_id)}",
                )
            time.sleep(0.25)
        return state

    def run_url(self, dag_id: str, run_id: str) -> str:
        """Return the page of a run in the UI."""
        return f"{self._stack.airflow_url}/dags/{dag_id}/runs/{run_id}"
