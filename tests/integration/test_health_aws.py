"""The checks of AWS, on stacks deployed to moto's server: each component well, wrong and gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest

from clickstream.health import aws_ec2, aws_lambda, aws_rds, aws_stacks, run
from clickstream.health.check import Installation
from clickstream.health.spark import Master
from clickstream.ledger.health import Row
from clickstream.provisioning import provision
from clickstream.provisioning.provision import Planned
from clickstream.settings import Settings
from infra.local.aws_status import aws_status
from tests.kit.aws import REGION, Account
from tests.kit.deployment import LAMBDA_STACK, PLACE, WRITER
from tests.kit.installations import patient

CHECKS = (aws_stacks.CHECK, aws_ec2.CHECK, aws_rds.CHECK, aws_lambda.CHECK)


def look(region: str | None = REGION) -> dict[str, Row]:
    """The rows of AWS by component."""
    settings = Settings(kafka_bootstrap_servers="none:1", storage_url="file:///nowhere", aws_region=region)
    unused: Any = nullcontext
    installation = Installation(settings=settings, connect=unused, spark=lambda: Master(url="local"), airflow_url=str)
    return {row.component: row for row in run.run(installation, map(patient, CHECKS))}


@pytest.fixture
def deployed(deployed_account: tuple[Account, list[Planned]]) -> Iterator[Account]:
    """An account of the test's own with the stacks."""
    with deployed_account[0].copied() as account, account.in_use():
        yield account


def stop_host(aws: Account) -> None:
    ec2 = aws.client("ec2")
    ec2.stop_instances(InstanceIds=[ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]])


def terminate_host(aws: Account) -> None:
    ec2 = aws.client("ec2")
    ec2.terminate_instances(InstanceIds=[ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]])


def database(aws: Account) -> str:
    return str(aws.client("rds").describe_db_instances()["DBInstances"][0]["DBInstanceIdentifier"])


def stop_database(aws: Account) -> None:
    aws.client("rds").stop_db_instance(DBInstanceIdentifier=database(aws))


def fill_database(aws: Account) -> None:
    aws.client("cloudwatch").put_metric_data(
        Namespace="AWS/RDS",
        MetricData=[
            {
                "MetricName": "FreeStorageSpace",
                "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": database(aws)}],
                "Timestamp": datetime.now(UTC),
                "Value": 1 << 30,
            }
        ],
    )


def disable_schedule(aws: Account) -> None:
    events = aws.client("events")
    events.disable_rule(Name=events.list_rules()["Rules"][0]["Name"])


def fail_a_minute(aws: Account) -> None:
    queue = aws.client("sqs").get_queue_url(QueueName="clickstream-generator-failures")["QueueUrl"]
    aws.client("sqs").send_message(QueueUrl=queue, MessageBody="{}")


def delete_function(aws: Account) -> None:
    aws.client("lambda").delete_function(FunctionName="clickstream-generator")


def delete_stack(aws: Account) -> None:
    aws.client("cloudformation").delete_stack(StackName=LAMBDA_STACK)


def test_all_is_well_after_a_deployment(deployed: Account) -> None:  # noqa: ARG001 - it is what is looked at
    rows = look()
    assert {name: row.status for name, row in rows.items()} == {check.component: "ok" for check in CHECKS}, rows
    assert "InfrastructureStack is CREATE_COMPLETE" in rows["aws_stacks"].reason
    assert "t3.large" in rows["aws_ec2"].reason


@pytest.mark.parametrize(
    ("change", "component", "status", "says"),
    [
        (delete_stack, "aws_stacks", "down", "run provision_infrastructure"),
        (stop_host, "aws_ec2", "down", "aws ec2 start-instances"),
        (terminate_host, "aws_ec2", "down", "no host"),
        (stop_database, "aws_rds", "down", "aws rds start-db-instance"),
        (fill_database, "aws_rds", "degraded", "1.0 GiB of 20 GiB left"),
        (disable_schedule, "aws_lambda", "down", "aws events enable-rule"),
        (fail_a_minute, "aws_lambda", "degraded", "refill_from_archive"),
        (delete_function, "aws_lambda", "down", "aws sts get-caller-identity"),
    ],
)
def test_what_is_wrong_is_said_and_hides_nothing_else(
    deployed: Account, change: Callable[[Account], Any], component: str, status: str, says: str
) -> None:
    change(deployed)
    rows = look()
    assert (rows[component].status, says in rows[component].reason) == (status, True), rows[component]
    others = {name: row.status for name, row in rows.items() if name != component}
    if change is not delete_stack:  # which takes the function with it
        assert set(others.values()) == {"ok"}, others


def test_status_answers_what_the_classic_commands_do(deployed: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    logs, group = deployed.client("logs"), "/aws/lambda/clickstream-generator"
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    now = int(datetime.now(UTC).timestamp() * 1000)
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[{"timestamp": now, "message": "600 events"}])
    found = provision.outputs(PLACE)
    deployed.client("s3").put_object(Bucket=found["BucketName"], Key="raw/topic/one.parquet", Body=b"x" * 2_000_000)
    rows = dict(aws_status(REGION))
    assert rows["stack InfrastructureStack"] == "CREATE_COMPLETE"
    assert rows["host"].startswith(f"{found['HostInstanceId']}, t3.large, running")
    assert found["DatabaseEndpoint"] in rows["database"]
    assert rows["generator's log"] == "600 events"
    assert rows[f"s3://{found['BucketName']}"] == "raw/: 1 objects, 2.0 MB"
    assert "clickstream/database/clickstream_writer" in rows["credentials"]
    assert WRITER["password"] not in str(rows)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert {"AWS_PROFILE" in text for text in dict(aws_status(REGION)).values()} == {True}


def test_without_a_region_nothing_is_asked() -> None:
    assert look(region=None) == {}
