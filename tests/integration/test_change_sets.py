"""Change sets and what is beside them, at their edges: on stacks of one resource each, which moto makes at once."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from click.testing import CliRunner

from clickstream.errors import HostCommandFailed, ProvisioningRefused
from clickstream.provisioning import assets, change_sets, connections, host, provision, report, synthesis, teardown
from clickstream.provisioning.__main__ import cli
from clickstream.provisioning.approval import ApproveByNameOperator
from clickstream.provisioning.change_sets import Change
from clickstream.provisioning.deployment import Deployment, Place
from clickstream.provisioning.names import HOST_STACK, STACKS
from clickstream.provisioning.provision import Planned
from clickstream.provisioning.synthesis import Assembly
from clickstream.provisioning.teardown import Doomed
from tests.kit.aws import ACCOUNT, REGION, Account, Server
from tests.kit.deployment import LAMBDA_STACK, PLACE, WANTED, deploy
from tests.kit.programs import require
from tests.kit.services import REPOSITORY

LITTLE_APP = REPOSITORY / "tests" / "kit" / "little_app.py"
OTHER = replace(WANTED, allowed_cidr="203.0.113.5/32")


@pytest.fixture(scope="module")
def uploaded(aws_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Account, Assembly]]:
    """An account with stacks of one resource each, uploaded: change sets of the real ones take seconds."""
    aws_server.start()
    with aws_server.account.copied() as account:
        account.reset()
        with account.in_use():
            assets.ensure_bucket(PLACE)
            assembly = synthesized(tmp_path_factory.mktemp("little") / "cdk", WANTED)
        yield account, assembly


@pytest.fixture(scope="module")
def deployed(uploaded: tuple[Account, Assembly]) -> Iterator[tuple[Account, list[Planned]]]:
    """An account with these stacks deployed, and what was executed."""
    with uploaded[0].copied() as account:
        with account.in_use():
            planned = deploy(uploaded[1])
        yield account, planned


@pytest.fixture
def little(uploaded: tuple[Account, Assembly]) -> Iterator[tuple[Account, Assembly]]:
    """The first of them, of the test's own."""
    with uploaded[0].copied() as account, account.in_use():
        yield account, uploaded[1]


@pytest.fixture
def executed(deployed: tuple[Account, list[Planned]]) -> Iterator[tuple[Account, list[Planned]]]:
    """The second of them, of the test's own."""
    with deployed[0].copied() as account, account.in_use():
        yield account, deployed[1]


def synthesized(folder: Path, deployment: Deployment) -> Assembly:
    require("node")  # the library asks for it, whatever the app is
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "APP", LITTLE_APP)
        made = synthesis.synthesize(deployment, folder)
    assets.upload(made, PLACE)
    return made


def statuses(aws: Account) -> dict[str, str]:
    """Of each stack that is there, shells too."""
    found = aws.client("cloudformation").describe_stacks()["Stacks"]
    return {stack["StackName"]: stack["StackStatus"] for stack in found}


@pytest.mark.parametrize("made", ["by_provisioning", "by_hand"])
def test_what_is_deployed_already_has_nothing_to_change(little: tuple[Account, Assembly], made: str) -> None:
    aws, assembly = little
    # Moto answers the same text with a failed change set, as AWS does, the same in other words with an empty one.
    if made == "by_provisioning":
        deploy(assembly)
    else:
        for stack in STACKS:
            aws.client("cloudformation").create_stack(
                StackName=stack, TemplateBody=json.dumps(assembly.template(stack), indent=1)
            )
    before = aws.client("cloudformation").list_change_sets(StackName=HOST_STACK)["Summaries"]
    previews = provision.preview(assembly, PLACE, run="again")
    assert [one.changes for one in previews] == [None, None]
    assert "Nothing changes." in report.markdown(WANTED, assembly, previews)
    assert aws.client("cloudformation").list_change_sets(StackName=HOST_STACK)["Summaries"] == before
    for one in previews:
        provision.deploy(assembly, PLACE, one.planned)
    assert statuses(aws) == dict.fromkeys(STACKS, "CREATE_COMPLETE")


def test_another_template_changes_its_resource_and_nothing_else(
    executed: tuple[Account, list[Planned]], tmp_path: Path
) -> None:
    aws, _ = executed
    other = synthesized(tmp_path / "other", OTHER)
    first, second = provision.preview(other, PLACE, run="other")
    assert first.changes == [Change(action="Modify", resource="Network", type="AWS::SSM::Parameter")]
    assert second.changes is None
    provision.deploy(other, PLACE, first.planned)
    assert statuses(aws) == {HOST_STACK: "UPDATE_COMPLETE", LAMBDA_STACK: "CREATE_COMPLETE"}
    value = aws.client("ssm").get_parameter(Name="/clickstream/allowed-cidr")["Parameter"]["Value"]
    assert value == "203.0.113.5/32"


def test_deploying_twice_executes_once(
    executed: tuple[Account, list[Planned]], uploaded: tuple[Account, Assembly]
) -> None:
    aws, planned = executed
    events = aws.client("cloudformation").describe_stack_events
    before = [len(events(StackName=stack)["StackEvents"]) for stack in STACKS]
    for plan in planned:
        provision.deploy(uploaded[1], PLACE, plan)
    assert [len(events(StackName=stack)["StackEvents"]) for stack in STACKS] == before


def test_a_preview_of_the_same_run_finds_its_change_set_again(little: tuple[Account, Assembly]) -> None:
    first, again = (provision.preview(little[1], PLACE, run="run")[0].planned for _ in range(2))
    assert first == again
    assert first.change_set


@pytest.mark.parametrize("number", [0, 1])
def test_a_stack_that_moved_after_the_preview_is_refused(little: tuple[Account, Assembly], number: int) -> None:
    aws, assembly = little
    planned = [one.planned for one in provision.preview(assembly, PLACE, run="run")]
    if number == 0:
        plan = replace(planned[0], version="an older event")
    else:
        provision.deploy(assembly, PLACE, planned[0])
        plan = planned[1]
        aws.client("cloudformation").create_stack(StackName=plan.stack, TemplateBody=json.dumps({"Resources": {}}))
    before = statuses(aws)
    with pytest.raises(ProvisioningRefused, match="since it was looked at"):
        provision.deploy(assembly, PLACE, plan)
    assert statuses(aws) == before


def test_a_dry_run_leaves_what_is_deployed(executed: tuple[Account, list[Planned]], tmp_path: Path) -> None:
    aws, _ = executed
    other = synthesized(tmp_path / "other", OTHER)
    planned = [one.planned for one in provision.preview(other, PLACE, run="dry")]
    provision.discard(PLACE, planned)
    assert statuses(aws) == dict.fromkeys(STACKS, "CREATE_COMPLETE")
    sets = aws.client("cloudformation").list_change_sets(StackName=HOST_STACK)["Summaries"]
    assert planned[0].change_set not in {one["ChangeSetId"] for one in sets}


@pytest.fixture
def stubbed(aws: Account) -> Iterator[tuple[Any, Stubber]]:
    """A client with the answers that a test gives, for states that moto never gets into."""
    client = aws.client("cloudformation")
    with Stubber(client) as stubber:
        yield client, stubber


def described(status: str) -> dict[str, Any]:
    began = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    return {"Stacks": [{"StackName": HOST_STACK, "StackStatus": status, "CreationTime": began}]}


def test_a_change_set_of_a_stack_that_was_changed_since_is_not_executed(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    stubber.add_response("describe_change_set", {"ExecutionStatus": "OBSOLETE"}, {"ChangeSetName": "one"})
    with pytest.raises(ProvisioningRefused, match="one is OBSOLETE: the stack was changed"):
        change_sets.execute(client, "one")


def test_a_change_set_that_is_gone_is_asked_for_again(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    stubber.add_client_error("describe_change_set", "ChangeSetNotFound")
    with pytest.raises(ProvisioningRefused, match=r"one is gone\. Clear the task `preview`"):
        change_sets.execute(client, "one")


def test_an_archive_depends_on_nothing_but_its_files(tmp_path: Path) -> None:
    archives: list[bytes] = []
    for name, order in (("one", ("b/run", "a")), ("two", ("a", "b/run"))):
        folder = tmp_path / name
        for file in order:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file)
            path.chmod(0o755 if file == "b/run" else 0o644)
            seconds = 10**9 + 1000 * order.index(file) + 10**6 * len(archives)
            os.utime(path, (seconds, seconds))
        archives.append(assets._content(folder, packaging="zip"))
    assert archives[0] == archives[1]
    with zipfile.ZipFile(io.BytesIO(archives[0])) as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
        assert archive.read("b/run") == b"b/run"
    assert modes == {"a": 0o644, "b/run": 0o755}


def approval(option: str, params: dict[str, str] | None) -> dict[str, Any]:
    """What Airflow hands to a task whose question was answered."""
    return {
        "chosen_options": [option], "params_input": params, "responded_at": datetime(2026, 1, 31, tzinfo=UTC),
        "responded_by_user": {"id": "1", "name": "admin"},
    }  # fmt: skip


def test_a_change_set_that_can_not_be_made_leaves_no_shell_of_a_stack(stubbed: tuple[Any, Stubber]) -> None:
    client, stubber = stubbed
    failed = {"Status": "FAILED", "StatusReason": "Unresolved resource dependencies [Vpc]", "ChangeSetId": "arn"}
    stubber.add_client_error("describe_stacks", "ValidationError", "Stack with id it does not exist")  # settled
    stubber.add_client_error("describe_stacks", "ValidationError", "Stack with id it does not exist")  # found again
    stubber.add_response("create_change_set", {"Id": "arn"})
    stubber.add_response("describe_change_set", failed)
    stubber.add_response("describe_stacks", described("REVIEW_IN_PROGRESS"))
    stubber.add_response("describe_change_set", failed)
    stubber.add_response("delete_change_set", {}, {"StackName": HOST_STACK, "ChangeSetName": "one"})
    stubber.add_response("describe_stacks", described("REVIEW_IN_PROGRESS"))
    stubber.add_response("list_change_sets", {"Summaries": []})
    stubber.add_response("delete_stack", {}, {"StackName": HOST_STACK})
    with pytest.raises(ProvisioningRefused, match=r"Unresolved resource dependencies \[Vpc\]"):
        change_sets.create(client, HOST_STACK, name="one", template_url="s3")
    stubber.assert_no_pending_responses()


def test_a_host_that_does_not_listen_yet_is_waited_for(aws: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    ssm = aws.client("ssm")
    monkeypatch.setattr(Place, "client", lambda *_: ssm)
    monkeypatch.setattr(host, "POLL_SECONDS", 0)
    with Stubber(ssm) as stubber:
        stubber.add_client_error("send_command", "InvalidInstanceId")
        stubber.add_response("send_command", {"Command": {"CommandId": "00000000-0000-0000-0000-000000000000"}})
        stubber.add_client_error("get_command_invocation", "InvocationDoesNotExist")
        stubber.add_response("get_command_invocation", {"Status": "InProgress"})
        stubber.add_response("get_command_invocation", {"Status": "Success", "StandardOutputContent": "[up] kafka"})
        assert host.run(PLACE, "i-1", host.CHECK_HEALTH).strip() == "[up] kafka"
        stubber.assert_no_pending_responses()
        stubber.add_client_error("send_command", "InvalidInstanceId")
        monkeypatch.setattr(host, "AGENT_SECONDS", -1.0)
        with pytest.raises(HostCommandFailed, match="SSM has not heard of i-1"):
            host.run(PLACE, "i-1", host.CHECK_HEALTH)


@pytest.mark.parametrize("params", [None, {}, {"stack": ""}, {"stack": HOST_STACK}])
def test_a_no_is_a_no_with_and_without_the_name(params: dict[str, str] | None) -> None:
    operator = ApproveByNameOperator(task_id="approve", name=HOST_STACK, subject="Delete?")
    assert operator.execute_complete({}, approval("Reject", params))["chosen_options"] == ["Reject"]


def test_each_database_that_would_go_is_named(aws: Account) -> None:
    for name in ("primary", "replica"):
        aws.client("rds").create_db_instance(
            DBInstanceIdentifier=name, DBInstanceClass="db.t4g.small", Engine="postgres", AllocatedStorage=20
        )
    resources = tuple((name, "AWS::RDS::DBInstance", name) for name in ("primary", "replica"))
    text = teardown.markdown(PLACE, [Doomed(HOST_STACK, "CREATE_COMPLETE", resources)])
    assert all(f"| database {name}: db.t4g.small, 20 GiB | **goes**" in text for name in ("primary", "replica"))


@pytest.mark.needs("node")
def test_a_dry_run_from_the_command_line_changes_nothing(
    aws: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(synthesis, "APP", LITTLE_APP)
    wanted = ["deploy", "--region", REGION, "--allowed-cidr", "203.0.113.4/32", "--folder", str(tmp_path / "little")]
    shown = CliRunner().invoke(cli, [*wanted, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "Failures" in shown.output
    assert "Deploy this?" not in shown.output
    assert statuses(aws) == {}
    refused = CliRunner().invoke(cli, [*wanted, "--account", "210987654321"])
    assert refused.exit_code == 1
    assert f"of account {ACCOUNT}" in refused.output
    secret = {"username": "clickstream_writer", "password": "generated"}
    aws.client("secretsmanager").create_secret(Name=connections.WRITER, SecretString=json.dumps(secret))
    deployed = CliRunner().invoke(cli, [*wanted, "--account", ACCOUNT, "--yes"])
    assert deployed.exit_code == 0, deployed.output
    assert statuses(aws) == dict.fromkeys(STACKS, "CREATE_COMPLETE")


def test_there_is_nothing_to_destroy_in_an_empty_account(aws: Account) -> None:
    found = CliRunner().invoke(cli, ["destroy", "--region", REGION])
    assert found.exit_code == 0, found.output
    assert "There is no stack of the pipeline" in found.output
    assert "Type" not in found.output
    assert statuses(aws) == {}


def test_up_and_down_from_the_command_line(
    little: tuple[Account, Assembly], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws, assembly = little
    monkeypatch.setattr(synthesis, "synthesize", lambda *_: assembly)
    secret = {"username": "clickstream_writer", "password": "generated"}
    aws.client("secretsmanager").create_secret(Name=connections.WRITER, SecretString=json.dumps(secret))
    place = ["--region", REGION]
    wanted = ["deploy", *place, "--allowed-cidr", "203.0.113.4/32", "--folder", str(tmp_path)]
    refused = CliRunner().invoke(cli, wanted, input="n\n")
    assert (refused.exit_code, statuses(aws)) == (0, {})
    assert CliRunner().invoke(cli, wanted, input="y\n").exit_code == 0
    assert "HostInstanceId" in CliRunner().invoke(cli, ["list", *place]).output
    assert CliRunner().invoke(cli, ["destroy", *place], input="yes\n").exit_code == 1
    assert len(statuses(aws)) == 2
    aws.client("secretsmanager").delete_secret(SecretId=connections.WRITER)
    gone = CliRunner().invoke(cli, ["destroy", *place], input=f"{HOST_STACK}\n")
    assert gone.exit_code == 0, gone.output
    assert statuses(aws) == {}
