"""Up and down again on an AWS account: moto's server, with the real templates and the library behind both DAGs."""

from __future__ import annotations

import io
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from clickstream.errors import HostCommandFailed, LeftoversFound, ProvisioningRefused, StackRolledBack
from clickstream.provisioning import assets, change_sets, connections, host, leftovers, provision, report, teardown
from clickstream.provisioning.approval import ApproveByNameOperator
from clickstream.provisioning.change_sets import Change
from clickstream.provisioning.deployment import Place
from clickstream.provisioning.names import DEPLOYMENT, HOST_STACK, TAG
from clickstream.provisioning.progress import Progress
from clickstream.provisioning.provision import Planned
from clickstream.provisioning.synthesis import Assembly
from tests.kit.aws import ACCOUNT, REGION, Account
from tests.kit.deployment import LAMBDA_STACK, PLACE, WANTED, WRITER
from tests.kit.installations import serving

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def assembly(templates: dict[str, Path]) -> Assembly:
    """The synthesized stacks."""
    return Assembly(templates["small"])


@pytest.fixture
def prepared(prepared_account: Account) -> Iterator[Account]:
    """An account of the test's own with what the stacks are deployed from."""
    with prepared_account.copied() as account, account.in_use():
        yield account


@pytest.fixture
def deployed(deployed_account: tuple[Account, list[Planned]]) -> Iterator[tuple[Account, list[Planned]]]:
    """An account of the test's own with the stacks, and what was executed."""
    with deployed_account[0].copied() as account, account.in_use():
        yield account, deployed_account[1]


def changed(assembly: Assembly, folder: Path) -> Assembly:
    """The same stacks, with another description of the generator."""
    shutil.copytree(assembly.folder, folder)
    file = folder / f"{LAMBDA_STACK}.template.json"
    template = json.loads(file.read_text())
    (function,) = (r for r in template["Resources"].values() if r["Type"] == "AWS::Lambda::Function")
    function["Properties"]["Description"] = "Makes more events"
    file.write_text(json.dumps(template))
    manifest = folder / f"{LAMBDA_STACK}.assets.json"
    key = assembly.template_key(LAMBDA_STACK)
    manifest.write_text(manifest.read_text().replace(key, f"changed-{key}"))
    other = Assembly(folder)
    assets.upload(other, PLACE)
    return other


def test_up_with_every_resource_there_and_down_with_nothing_left(
    prepared: Account, assembly: Assembly, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    previews = provision.preview(assembly, PLACE, run="run")
    text = report.markdown(WANTED, assembly, previews)
    assert f"| {HOST_STACK} | {len(assembly.template(HOST_STACK)['Resources'])} | 0 | 0 | 0 |" in text
    assert "its change set is made after that" in text
    for one in previews:
        provision.deploy(assembly, PLACE, one.planned)
    found = provision.outputs(PLACE)
    (instance,) = prepared.client("ec2").describe_instances(InstanceIds=[found["HostInstanceId"]])["Reservations"]
    assert instance["Instances"][0]["InstanceType"] == "t3.large"
    (database,) = prepared.client("rds").describe_db_instances()["DBInstances"]
    assert database["Endpoint"]["Address"] == found["DatabaseEndpoint"]
    assert database["StorageEncrypted"]
    function = prepared.client("lambda").get_function_configuration(FunctionName=found["GeneratorFunctionName"])
    assert function["Environment"]["Variables"]["ARCHIVE_URL"] == f"{found['StorageUrl']}/archive"
    (rule,) = prepared.client("events").list_rules()["Rules"]
    assert rule["ScheduleExpression"].startswith(("rate(1 minute", "cron("))
    assert prepared.client("sqs").get_queue_url(QueueName="clickstream-generator-failures")["QueueUrl"]
    prepared.client("s3").head_bucket(Bucket=found["BucketName"])

    written = connections.write(PLACE, found)
    connection = json.loads(prepared.client("secretsmanager").get_secret_value(SecretId=written[0])["SecretString"])
    assert (connection["host"], connection["login"]) == (found["DatabaseEndpoint"], WRITER["username"])
    assert connection["password"] == WRITER["password"]
    assert WRITER["password"] not in caplog.text
    host.run(PLACE, found["HostInstanceId"], host.BOOTSTRAP)

    doomed = teardown.plan(PLACE)
    assert [going.stack for going in doomed] == [LAMBDA_STACK, HOST_STACK]
    listing = teardown.markdown(PLACE, doomed)
    assert f"| bucket {found['BucketName']}: 0 objects, 0.00 GiB | **stays** |" in listing
    assert "db.t4g.small, 20 GiB | **goes**; a final snapshot stays. |" in listing
    for going in doomed:
        teardown.delete(PLACE, going.stack)
        teardown.delete(PLACE, going.stack)
    assert connections.delete(PLACE) == written
    prepared.client("secretsmanager").delete_secret(SecretId=connections.WRITER)
    left = leftovers.scan(PLACE)
    leftovers.require_none(left)
    assert {one.arn for one in left if "s3" in one.arn} == {
        f"arn:aws:s3:::{PLACE.data_bucket}",
        f"arn:aws:s3:::{PLACE.assets_bucket}",
    }
    assert prepared.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"] == []


def test_again_nothing_changes_and_a_new_template_changes_what_it_changes(
    deployed: tuple[Account, list[Planned]], assembly: Assembly, tmp_path: Path
) -> None:
    aws, planned = deployed
    for plan in planned:
        provision.deploy(assembly, PLACE, plan)
    again = provision.preview(assembly, PLACE, run="another")
    assert [(one.changes, one.planned.change_set) for one in again] == [(None, ""), (None, "")]
    assert "Nothing changes." in report.markdown(WANTED, assembly, again)
    other = changed(assembly, tmp_path / "changed")
    first, second = provision.preview(other, PLACE, run="new")
    assert first.changes is None
    assert [(change.action, change.type) for change in second.changes or ()] == [("Modify", "AWS::Lambda::Function")]
    provision.deploy(other, PLACE, second.planned)
    function = aws.client("lambda").get_function_configuration(FunctionName="clickstream-generator")
    assert function["Description"] == "Makes more events"


def test_only_what_was_approved_is_deployed_and_only_to_what_it_was_compared_with(
    deployed: tuple[Account, list[Planned]], assembly: Assembly, tmp_path: Path
) -> None:
    aws, _ = deployed
    other = changed(assembly, tmp_path / "changed")
    _, second = provision.preview(other, PLACE, run="new")
    with pytest.raises(ProvisioningRefused, match="differs from the one that was approved"):
        provision.deploy(assembly, PLACE, second.planned)
    template = aws.client("cloudformation").get_template(StackName=LAMBDA_STACK)["TemplateBody"]
    moved = json.loads(json.dumps(template).replace("Makes a minute of", "Makes one minute of"))
    aws.client("cloudformation").update_stack(
        StackName=LAMBDA_STACK, TemplateBody=json.dumps(moved), Capabilities=change_sets.CAPABILITIES
    )
    with pytest.raises(ProvisioningRefused, match="since it was looked at"):
        provision.deploy(other, PLACE, second.planned)
    function = aws.client("lambda").get_function_configuration(FunctionName="clickstream-generator")
    assert function["Description"].startswith("Makes one minute of")


def test_a_discarded_preview_leaves_no_shell_of_a_stack(prepared: Account, assembly: Assembly) -> None:
    planned = [one.planned for one in provision.preview(assembly, PLACE, run="run")]
    assert prepared.client("cloudformation").describe_stacks()["Stacks"] != []
    provision.discard(PLACE, planned)
    assert prepared.client("cloudformation").describe_stacks()["Stacks"] == []


class Answers:
    """CloudFormation in a state that moto can't get into."""

    def __init__(self, status: str, events: list[dict[str, Any]] | None = None) -> None:
        self.status = status
        self.events = events or []

    def describe_stacks(self, **_: str) -> dict[str, Any]:
        return {"Stacks": [{"StackStatus": self.status, "StackId": "stack", "CreationTime": NOW}]}

    def get_paginator(self, _: str) -> Answers:
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return [{"StackEvents": self.events}]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("ROLLBACK_COMPLETE", "run teardown_infrastructure"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback --stack-name InfrastructureStack"),
        ("UPDATE_IN_PROGRESS", "wait until that has ended"),
        ("DELETE_FAILED", "teardown_infrastructure again"),
    ],
)
def test_a_stack_that_cannot_be_changed_is_refused_with_what_to_do(status: str, remedy: str) -> None:
    with pytest.raises(ProvisioningRefused, match=f"{HOST_STACK} is {status}.*{remedy}"):
        change_sets.require_settled(Answers(status), HOST_STACK)


def test_a_rollback_names_the_first_resource_that_failed_and_why() -> None:
    def event(number: int, resource: str, status: str, reason: str = "", minutes: int = 0) -> dict[str, Any]:
        return {
            "EventId": str(number), "LogicalResourceId": resource, "ResourceType": "AWS::Some::Thing",
            "ResourceStatus": status, "ResourceStatusReason": reason, "Timestamp": NOW - timedelta(minutes=minutes),
        }  # fmt: skip

    newest_first = [
        event(5, "Stack", "ROLLBACK_IN_PROGRESS", "The following resources failed"),
        event(4, "Queue", "CREATE_FAILED", "Resource creation cancelled"),
        event(3, "Database", "CREATE_FAILED", "No instance of that class is free"),
        event(2, "Network", "CREATE_FAILED", "Resource creation cancelled"),
        event(1, "Volume", "CREATE_FAILED", "of an earlier deployment", minutes=60),
    ]
    answers = Answers("ROLLBACK_COMPLETE", newest_first)
    follow = Progress(cloudformation=answers, stack_id="stack", resources=3, since=NOW - timedelta(minutes=1))
    with pytest.raises(StackRolledBack, match=r"first resource that failed is Database .*No instance of that class"):
        follow.wait()


def test_the_account_of_the_form_must_be_that_of_the_credentials(aws: Account) -> None:  # noqa: ARG001
    PLACE.require_account()
    with pytest.raises(ProvisioningRefused, match=f"account {ACCOUNT}.*the form names 999999999999"):
        Place(account="999999999999", region=REGION).require_account()


def test_the_bucket_of_templates_is_private_and_filled_once(prepared: Account, assembly: Assembly) -> None:
    s3, bucket = prepared.client("s3"), PLACE.assets_bucket
    assert assets.upload(assembly, PLACE) == 0
    assets.ensure_bucket(PLACE)
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": TAG, "Value": DEPLOYMENT}]
    (source,) = (one for one in assembly.assets(HOST_STACK) if one["source"]["packaging"] == "zip")
    (place,) = source["destinations"].values()
    archive = io.BytesIO(s3.get_object(Bucket=bucket, Key=place["objectKey"])["Body"].read())
    modes = {one.filename: one.external_attr >> 16 for one in zipfile.ZipFile(archive).infolist()}
    assert modes["docker/host/start"] & 0o111


def test_what_is_left_over_is_found_and_what_is_gone_or_stays_does_not_count(aws: Account) -> None:
    ec2, secrets = aws.client("ec2"), aws.client("secretsmanager")
    tags = [{"Key": TAG, "Value": DEPLOYMENT}]

    def tagged(kind: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": tags}]

    image = ec2.describe_images()["Images"][0]["ImageId"]
    launch = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "TagSpecifications": tagged("instance")}
    gone, stays = (ec2.run_instances(**launch)["Instances"][0]["InstanceId"] for _ in range(2))
    ec2.terminate_instances(InstanceIds=[gone])
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, TagSpecifications=tagged("volume"))["VolumeId"]
    secrets.create_secret(Name="clickstream/left", SecretString="x", Tags=tags)
    secrets.create_secret(Name="clickstream/gone", SecretString="x", Tags=tags)
    secrets.delete_secret(SecretId="clickstream/gone")
    aws.client("ssm").put_parameter(Name="/clickstream/left", Value="x", Type="String")
    aws.client("logs").create_log_group(logGroupName="/aws/lambda/clickstream-left")
    left = leftovers.scan(PLACE)
    over = {one.arn.rpartition(":")[2] for one in left if not one.kept}
    assert {name for name in over if "clickstream/left" not in name and "clickstream-left" not in name} == {
        f"instance/{stays}"
    }
    assert len(over) == 4, over
    assert [one.delete for one in left if one.kept] == [f"aws ec2 delete-volume --volume-id {volume}"]
    with pytest.raises(LeftoversFound, match=stays):
        leftovers.require_none(left)


@pytest.mark.usefixtures("deployed")
def test_it_never_deletes_the_ground_it_stands_on(tmp_path: Path) -> None:
    doomed, outputs = teardown.plan(PLACE), provision.outputs(PLACE)
    teardown.refuse_own_ground(PLACE, doomed)
    url = tmp_path / "url"
    url.write_text(f"postgresql+psycopg2://airflow:password@{outputs['DatabaseEndpoint']}:5432/airflow")
    command = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": f"cat {url}", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.raises(ProvisioningRefused, match="keeps its own database"):
        teardown.refuse_own_ground(PLACE, doomed, command)
    url.write_text("postgresql+psycopg2://airflow:password@127.0.0.1:5432/airflow")
    teardown.refuse_own_ground(PLACE, doomed, command)
    with (
        serving({"/latest/api/token": "token", "/latest/meta-data/instance-id": outputs["HostInstanceId"]}) as metadata,
        pytest.raises(ProvisioningRefused, match=f"runs on {outputs['HostInstanceId']}"),
    ):
        teardown.refuse_own_ground(PLACE, doomed, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata})


def test_connections_are_written_again_also_after_their_deletion(prepared: Account) -> None:
    outputs = {"DatabaseEndpoint": "old", "DatabasePort": "5432"}
    name, _ = connections.write(PLACE, outputs)
    connections.delete(PLACE)
    connections.write(PLACE, outputs | {"DatabaseEndpoint": "new"})
    written = json.loads(prepared.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])
    assert written["host"] == "new"
    with pytest.raises(ProvisioningRefused, match="no output 'DatabasePort'"):
        connections.write(PLACE, {"DatabaseEndpoint": "new"})


def test_a_yes_counts_only_with_the_name() -> None:
    asked = ApproveByNameOperator(task_id="approve", name=HOST_STACK, subject="Delete?")
    answered = {"responded_at": NOW, "responded_by_user": {"id": "1", "name": "a"}}
    for typed in (None, {}, {"stack": ""}, {"stack": "infrastructurestack"}):
        event = answered | {"chosen_options": ["Approve"], "params_input": typed}
        with pytest.raises(AirflowFailException, match="Nothing is deleted"):
            asked.execute_complete({}, event)
    taken = asked.execute_complete(
        {}, answered | {"chosen_options": ["Approve"], "params_input": {"stack": HOST_STACK}}
    )
    assert taken["chosen_options"] == ["Approve"]


def test_dangers_stand_first_in_a_preview(assembly: Assembly) -> None:
    def change(action: str, kind: str, replacement: str = "False") -> Change:
        return Change(action=action, resource="It", type=kind, replacement=replacement)

    changes = [change("Modify", "AWS::RDS::DBInstance", "True"), change("Remove", "AWS::SQS::Queue")]
    planned = Planned(stack=HOST_STACK, digest="", version="", change_set="arn", change_set_name="name")
    text = report.markdown(WANTED, assembly, [provision.Preview(planned=planned, changes=changes)])
    _, _, first, *_ = text.splitlines()
    assert first == "Look at these first:"
    assert "- **Replace It** (AWS::RDS::DBInstance): its data would be lost with it." in text
    assert f"| {HOST_STACK} | 0 | 0 | 1 | 1 |" in text


def test_commands_fail_with_what_the_host_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ssm:
        exceptions = type("E", (), {"InvalidInstanceId": KeyError, "InvocationDoesNotExist": KeyError})
        sent: dict[str, Any]

        def send_command(self, **arguments: Any) -> dict[str, Any]:
            type(self).sent = arguments
            return {"Command": {"CommandId": "c"}}

        def get_command_invocation(self, **_: str) -> dict[str, str]:
            return {"Status": "Failed", "StandardOutputContent": "no space left", "StandardErrorContent": ""}

    monkeypatch.setattr(Place, "client", lambda *_: Ssm())
    with pytest.raises(HostCommandFailed, match=r"(?s)is Failed.*no space left.*aws ssm start-session --target i-1"):
        host.run(PLACE, "i-1", host.BOOTSTRAP)
    assert Ssm.sent["DocumentName"] == "AWS-RunShellScript"
    assert Ssm.sent["Parameters"]["commands"] == ["set -e", *host.BOOTSTRAP.lines]
