"""Every secret of a running stack is rotated: the old ones are refused, and the pipeline goes on, exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest
from cryptography.fernet import Fernet, InvalidToken
from pyspark.sql import SparkSession

from infra.local import rotation
from infra.local.airflow_api import AirflowApi
from infra.local.demo import make_burst
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK
from infra.local.stack import Stack
from infra.local.supervision import Supervisor
from tests.kit.dags import switched_on
from tests.kit.pipeline import Pipeline
from tests.kit.services import superuser

ROLES = {
    "clickstream_owner": "clickstream",
    "clickstream_writer": "clickstream",
    "grafana_reader": "clickstream",
    "airflow": "airflow",
}


def connects(stack: Stack, user: str, password: str, database: str) -> bool:
    try:
        psycopg.connect(host=LOOPBACK, port=stack.ports.postgres, user=user, password=password, dbname=database).close()
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error)  # noqa: PT017 - any other failure is the test's
        return False
    return True


def get(url: str, bearer: str) -> int:
    return httpx.get(url, headers={"Authorization": f"Bearer {bearer}"}, timeout=30).status_code


def logs_in(stack: Stack, password: str) -> bool:
    login = {"username": "admin", "password": password}
    answer = httpx.post(f"{stack.airflow_url}/auth/token", json=login, timeout=30)
    return answer.status_code == httpx.codes.CREATED


def stored(stack: Stack, key: str) -> bytes:
    """A variable as Airflow's database holds it."""
    with superuser(stack, "airflow") as conn:
        row = conn.execute("SELECT val FROM variable WHERE key = %s", [key]).fetchone()
    return str(row[0] if row else "").encode()


@pytest.mark.long
def test_rotated_secrets_work_and_the_old_ones_are_refused(stack: Stack, spark: SparkSession) -> None:
    old = {name: (stack.secrets / name).read_text(encoding="utf-8") for name in rotation.SECRETS}
    with AirflowApi(stack) as api:
        api.call("POST", "/variables", json={"key": "encrypted", "value": "kept"})
        session = api._client.headers["Authorization"].removeprefix("Bearer ")
    assert get(f"{stack.airflow_url}/api/v2/dags", session) == httpx.codes.OK

    rotation.rotate(stack, rotation.SECRETS)

    new = {name: (stack.secrets / name).read_text(encoding="utf-8") for name in rotation.SECRETS}
    assert {name for name in new if new[name] == old[name]} == set()
    accepted: dict[str, Callable[[str], bool]] = {
        **{role: lambda secret, role=role: connects(stack, role, secret, ROLES[role]) for role in ROLES},  # type: ignore[misc]
        "postgres_superuser": lambda secret: connects(stack, "postgres", secret, "postgres"),
        "airflow_admin": lambda secret: logs_in(stack, secret),
        "metrics_token": lambda secret: get(stack.metrics_url, secret) == httpx.codes.OK,
    }
    assert {name: (check(old[name]), check(new[name])) for name, check in accepted.items()} == dict.fromkeys(
        accepted, (False, True)
    )
    assert get(f"{stack.airflow_url}/api/v2/dags", session) == httpx.codes.FORBIDDEN  # signed with the old key
    assert Fernet(new["fernet_key"]).decrypt(stored(stack, "encrypted")) == b"kept"
    with pytest.raises(InvalidToken):
        Fernet(old["fernet_key"]).decrypt(stored(stack, "encrypted"))
    with AirflowApi(stack) as api:
        assert api.call("GET", "/variables/encrypted")["value"] == "kept"
        api.call("DELETE", "/variables/encrypted")
    # Nothing outside shows the key of cookies; the server that signs them is younger than its file.
    server = Supervisor(stack).process("airflow-api-server")
    assert server["start"] >= int((stack.secrets / "airflow_api_key").stat().st_mtime)
    burst = make_burst(stack, events=100)
    with switched_on(stack, "drain_clickstream") as api:
        assert api.wait_for_run("drain_clickstream", api.trigger("drain_clickstream")) == "success"
    view = Pipeline.of(stack)
    assert view.one("SELECT sum(records)::int FROM ledger.unpublished_segments") >= burst["events"]
    view.aggregate_all(spark)
    view.assert_equals_oracle(view.log())
    view.close()


def test_one_secret_is_rotated_alone_and_a_stack_at_rest_is_left_alone(stack: Stack, tmp_path: Path) -> None:
    before = {file.name: file.read_text(encoding="utf-8") for file in stack.secrets.iterdir()}
    pids = {name: info["pid"] for name, info in Supervisor(stack).processes().items()}
    rotation.rotate(stack, ["grafana_reader"])
    changed = {file.name for file in stack.secrets.iterdir() if before[file.name] != file.read_text(encoding="utf-8")}
    assert changed == {"grafana_reader", "pgpass"}
    assert {name: info["pid"] for name, info in Supervisor(stack).processes().items()} == pids
    with pytest.raises(StackError, match="does not run"):
        rotation.rotate(replace(stack, folder=tmp_path), ["grafana_reader"])
    assert not (tmp_path / "secrets" / "grafana_reader").exists()


def test_every_generated_secret_can_be_rotated(stack: Stack) -> None:
    derived = {"pgpass", "airflow_metadata_url", "airflow_passwords.json", "connections.json"}
    for_ever = {"erasure_key"}  # with another one nobody on the erasure list would be recognized
    assert {file.name for file in stack.secrets.iterdir()} - derived - for_ever == set(rotation.SECRETS)
