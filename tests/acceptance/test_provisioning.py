"""Both DAGs of AWS as a person runs them, on moto's server; and no secret of all this anywhere it must not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest

from clickstream.provisioning.names import DEPLOYMENT, HOST_STACK, STACKS, TAG
from clickstream.provisioning.synthesis import Assembly
from infra.local.airflow_api import AirflowApi
from infra.local.stack import Stack
from tests.kit import secret_scan
from tests.kit.aws import ACCOUNT, REGION, Account, Server
from tests.kit.dags import switched_on
from tests.kit.demonstration import Demonstration
from tests.kit.deployment import deploy, upload
from tests.kit.waiting import wait_for

PROVISION, TEARDOWN = "provision_infrastructure", "teardown_infrastructure"
PLACE = {"account": ACCOUNT, "region": REGION, "dry_run": False}
ASKED = PLACE | {"profile": "small", "allowed_cidr": "203.0.113.4/32", "alarm_email": ""}
pytestmark = pytest.mark.needs("node")
WRITER, READER = "clickstream/database/clickstream_writer", "clickstream/database/grafana_reader"


@pytest.fixture
def api(stack: Stack) -> Iterator[AirflowApi]:
    with switched_on(stack, PROVISION, TEARDOWN) as one:
        yield one


@dataclass(frozen=True)
class Approved:
    """A run that brought the stacks up after an approval.

    Attributes:
        run: Its id.
        asked: What the person was asked.
        generated: The secrets that CloudFormation generates on AWS, and moto's doesn't.
    """

    run: str
    asked: str
    generated: dict[str, str]


@pytest.fixture(scope="module")
def approved(stack: Stack, aws_server: Server) -> Approved:
    """The stacks on an account that was empty before."""
    aws_server.start()
    account = aws_server.account
    account.reset()
    generated = {name: token_urlsafe(30) for name in (WRITER, READER)}
    for name, password in generated.items():
        content = json.dumps({"username": name.rpartition("/")[2], "password": password})
        tags = [{"Key": TAG, "Value": DEPLOYMENT}]
        account.client("secretsmanager").create_secret(Name=name, SecretString=content, Tags=tags)
    with switched_on(stack, PROVISION) as api:
        run = api.trigger(PROVISION, ASKED)
        asked = answer(api, PROVISION, run, "Approve", {})
        assert api.wait_for_run(PROVISION, run) == "success", states(api, PROVISION, run)
    return Approved(run, asked, generated)


def answer(api: AirflowApi, dag_id: str, run_id: str, option: str, typed: dict[str, str]) -> str:
    """Wait to be asked, answer, and return what was asked."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"

    def asked() -> dict[str, Any] | None:
        state = api.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve")["state"]
        assert state not in {"failed", "upstream_failed", "skipped"}, states(api, dag_id, run_id)
        return api.call("GET", path) if state == "awaiting_input" else None

    detail = wait_for(asked, "question")
    wait_until_heard(api)
    api.call("PATCH", path, json={"chosen_options": [option], "params_input": typed})
    return str(detail["body"])


def wait_until_heard(api: AirflowApi) -> None:
    """Let the scheduler's loop go round once: it takes a task for lost that is answered before it knows that it waits.

    A heartbeat is at the end of a loop, so between two of them a whole one has passed.
    """
    beats = set[str]()

    def has_beaten_twice() -> bool | None:
        beats.add(api.call("GET", "/monitor/health")["scheduler"]["latest_scheduler_heartbeat"])
        return len(beats) > 2 or None

    wait_for(has_beaten_twice, "heartbeat of the scheduler")


def states(api: AirflowApi, dag_id: str, run_id: str) -> dict[str, str]:
    tasks = api.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
    return {task["task_id"]: task["state"] for task in tasks}


def stacks(aws: Account) -> set[str]:
    found = aws.client("cloudformation").describe_stacks()["Stacks"]
    return {one["StackName"] for one in found if one["StackStatus"] != "REVIEW_IN_PROGRESS"}


def test_up_after_an_approval(approved: Approved, aws_server: Server) -> None:
    assert "USD a month" in approved.asked
    assert f"**{HOST_STACK}**" in approved.asked
    assert stacks(aws_server.account) == set(STACKS)
    secret = aws_server.account.client("secretsmanager").get_secret_value(
        SecretId="clickstream/airflow/connections/clickstream_db"
    )
    assert json.loads(secret["SecretString"])["password"] == approved.generated[WRITER]


@pytest.mark.long
def test_any_task_may_run_again_and_what_is_done_already_stays(approved: Approved, api: AirflowApi) -> None:
    tasks = [f"deploy_{stack}" for stack in STACKS]
    api.call("POST", f"/dags/{PROVISION}/clearTaskInstances", json={
        "dry_run": False, "dag_run_id": approved.run, "task_ids": tasks, "include_downstream": True,
        "only_failed": False,
    })  # fmt: skip
    assert api.wait_for_run(PROVISION, approved.run) == "success", states(api, PROVISION, approved.run)


@pytest.mark.needs("git")
def test_no_secret_is_anywhere(
    stack: Stack,
    demonstration: Demonstration,  # noqa: ARG001 - of which there are logs, files and rows
    approved: Approved,
    templates: dict[str, Path],
    tmp_path: Path,
) -> None:
    secrets = secret_scan.secrets_of(stack.secrets) | approved.generated
    assert {"clickstream_writer", "fernet_key", "connections.json:clickstream_db:password"} <= secrets.keys()

    def places() -> Iterator[tuple[str, bytes]]:
        yield from secret_scan.repository()
        yield from secret_scan.files(*templates.values(), stack.folder / "airflow", stack.logs, stack.storage)
        yield from secret_scan.databases(stack, "airflow", "clickstream")
        yield from secret_scan.command_lines()

    assert secret_scan.leaks(secrets, places()) == []
    logs = list(secret_scan.files(stack.folder / "airflow" / "logs"))
    for words in (b"spark-submit", b"USD a month"):
        assert [place for place, text in logs if words in text] != []
    planted = tmp_path / "planted"
    planted.write_bytes(b'{"token": "' + b"Authorization: " + secrets["metrics_token"].encode() + b'"}')
    assert secret_scan.leaks(secrets, secret_scan.files(tmp_path)) == [(str(planted), "metrics_token")]


# On an account of the test's own


@pytest.fixture
def deployed(aws: Account, templates: dict[str, Path]) -> Account:
    """With both stacks."""
    assembly = Assembly(templates["small"])
    upload(aws, assembly)
    deploy(assembly)
    return aws


def test_a_yes_without_the_name_deletes_nothing(api: AirflowApi, deployed: Account) -> None:
    run = api.trigger(TEARDOWN, PLACE)
    answer(api, TEARDOWN, run, "Approve", {})
    assert api.wait_for_run(TEARDOWN, run) == "failed"
    found = states(api, TEARDOWN, run)
    assert found["approve"] == "failed"
    assert {found[f"delete_{stack}"] for stack in STACKS} == {"upstream_failed"}
    assert stacks(deployed) == set(STACKS)


@pytest.mark.long
def test_a_dry_run_shows_all_and_changes_nothing(api: AirflowApi, aws: Account) -> None:
    run = api.trigger(PROVISION, ASKED | {"dry_run": True})
    assert api.wait_for_run(PROVISION, run) == "success"
    found = states(api, PROVISION, run)
    assert found["preview"] == "success"
    assert {found[f"deploy_{stack}"] for stack in STACKS} == {"skipped"}
    assert aws.client("cloudformation").describe_stacks()["Stacks"] == []


@pytest.mark.long
def test_down_after_the_name_was_typed_and_what_is_left_is_found(api: AirflowApi, deployed: Account) -> None:
    planted = deployed.client("ec2").create_volume(
        AvailabilityZone=f"{REGION}a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": TAG, "Value": DEPLOYMENT}]}],
    )["VolumeId"]
    group = deployed.client("ec2").create_security_group(
        GroupName="planted",
        Description="left over",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": TAG, "Value": DEPLOYMENT}]}],
    )["GroupId"]
    run = api.trigger(TEARDOWN, PLACE)
    body = answer(api, TEARDOWN, run, "Approve", {"stack": HOST_STACK})
    assert "**stays**" in body
    deployed.client("secretsmanager").delete_secret(SecretId=WRITER)
    assert api.wait_for_run(TEARDOWN, run) == "failed"
    assert {task for task, state in states(api, TEARDOWN, run).items() if state == "failed"} == {"scan_for_leftovers"}
    assert stacks(deployed) == set()
    deployed.client("ec2").delete_security_group(GroupId=group)
    api.call("POST", f"/dags/{TEARDOWN}/clearTaskInstances", json={
        "dry_run": False, "dag_run_id": run, "task_ids": ["scan_for_leftovers"], "only_failed": False,
    })  # fmt: skip
    assert api.wait_for_run(TEARDOWN, run) == "success", states(api, TEARDOWN, run)
    deployed.client("ec2").delete_volume(VolumeId=planted)
