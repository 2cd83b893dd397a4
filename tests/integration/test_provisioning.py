"""Up and down again on an AWS account: moto's server, with the real templates and the library behind both DAGs."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from clickstream.provisioning import assets, connections, host, leftovers, provision, report, teardown
from clickstream.provisioning.deployment import Deployment, Place
from clickstream.provisioning.names import DEPLOYMENT, HOST_STACK, STACKS, TAG
from clickstream.provisioning.provision import Planned
from clickstream.provisioning.synthesis import Assembly
from tests.aws import ACCOUNT, REGION, Account

LAMBDA_STACK = STACKS[1]
WRITER = {"username": "clickstream_writer", "password": "generated-by-secrets-manager"}
WANTED = Deployment(
    place=Place(account=ACCOUNT, region=REGION), profile="small", allowed_cidr="203.0.113.4/32", alarm_email=""
)
PLACE = WANTED.place


@pytest.fixture
def assembly(aws: Account, templates: dict[str, Path]) -> Assembly:
    """The synthesized stacks, uploaded; and the secret that moto's CloudFormation doesn't make."""
    made = Assembly(templates["small"])
    assets.ensure_bucket(PLACE)
    assets.upload(made, PLACE)
    aws.client("secretsmanager").create_secret(
        Name=connections.WRITER, SecretString=json.dumps(WRITER), Tags=[{"Key": TAG, "Value": DEPLOYMENT}]
    )
    return made


def deploy(assembly: Assembly, run: str = "run") -> list[Planned]:
    planned = [one.planned for one in provision.preview(assembly, PLACE, run=run)]
    for plan in planned:
        provision.deploy(assembly, PLACE, plan)
    return planned


def changed(assembly: Assembly, folder: Path) -> Assembly:
    """The same stacks, with another description of the generator."""
    import shutil

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
    aws: Account, assembly: Assembly, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    previews = provision.preview(assembly, PLACE, run="run")
    text = report.markdown(WANTED, assembly, previews)
    assert f"| {HOST_STACK} | {len(assembly.template(HOST_STACK)['Resources'])} | 0 | 0 | 0 |" in text
    assert "its change set is made after that" in text
    for one in previews:
        provision.deploy(assembly, PLACE, one.planned)
    found = provision.outputs(PLACE)
    (instance,) = aws.client("ec2").describe_instances(InstanceIds=[found["HostInstanceId"]])["Reservations"]
    assert instance["Instances"][0]["InstanceType"] == "t3.large"
    (database,) = aws.client("rds").describe_db_instances()["DBInstances"]
    assert database["Endpoint"]["Address"] == found["DatabaseEndpoint"]
    assert database["StorageEncrypted"]
    function = aws.client("lambda").get_function_configuration(FunctionName=found["GeneratorFunctionName"])
    assert function["Environment"]["Variables"]["ARCHIVE_URL"] == f"{found['StorageUrl']}/archive"
    (rule,) = aws.client("events").list_rules()["Rules"]
    assert rule["ScheduleExpression"].startswith(("rate(1 minute", "cron("))
    assert aws.client("sqs").get_queue_url(QueueName="clickstream-generator-failures")["QueueUrl"]
    aws.client("s3").head_bucket(Bucket=found["BucketName"])

    written = connections.write(PLACE, found)
    connection = json.loads(aws.client("secretsmanager").get_secret_value(SecretId=written[0])["SecretString"])
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
    aws.client("secretsmanager").delete_secret(SecretId=connections.WRITER)
    left = leftovers.scan(PLACE)
    leftovers.require_none(left)
    assert {one.arn for one in left if "s3" in one.arn} == {
        f"arn:aws:s3:::{PLACE.data_bucket}",
        f"arn:aws:s3:::{PLACE.assets_bucket}",
    }
    assert aws.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"] == []
