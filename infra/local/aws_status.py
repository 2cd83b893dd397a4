"""What the classic commands of AWS answer, in one table: stacks, host, database, generator, data, credentials."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.stacks import names

STACKS = (names.INFRASTRUCTURE_STACK, names.LAMBDA_STACK)
LOG_GROUP = f"/aws/lambda/{names.GENERATOR}"
LOG_LINES = 5
MOST_OBJECTS = 20_000
LINE_CHARACTERS = 160
TAGGED = [{"Name": f"tag:{names.TAG}", "Values": [names.DEPLOYMENT]}]
_CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})

Rows = list[tuple[str, str]]


def aws_status(region: str) -> Rows:
    """Ask all at the same time; what can't be told says why in its own row."""
    session = boto3.Session(region_name=region)

    def ask(look: Callable[[Callable[[str], Any]], Rows]) -> Rows:
        try:
            return look(lambda service: session.client(service, config=_CONFIG))
        except (BotoCoreError, ClientError) as error:
            what = look.__name__.removeprefix("_")
            return [(what, f"can't be asked: {error}. Try `aws sts get-caller-identity`; is AWS_PROFILE right?")]

    looks = (_stacks, _host, _database, _generator_log, _data, _credentials)
    with ThreadPoolExecutor(max_workers=len(looks)) as pool:
        return [row for rows in pool.map(ask, looks) for row in rows]


def _stacks(client: Callable[[str], Any]) -> Rows:
    found = {one["StackName"]: one["StackStatus"] for one in client("cloudformation").describe_stacks()["Stacks"]}
    return [(f"stack {stack}", found.get(stack, "not there; run provision_infrastructure")) for stack in STACKS]


def _host(client: Callable[[str], Any]) -> Rows:
    ec2 = client("ec2")
    rows = []
    for reservation in ec2.describe_instances(Filters=TAGGED)["Reservations"]:
        for one in reservation["Instances"]:
            answer = ec2.describe_instance_status(InstanceIds=[one["InstanceId"]], IncludeAllInstances=True)
            checks = [
                f"{name} {status.get(name, {}).get('Status', 'unknown')}"
                for status in answer["InstanceStatuses"]
                for name in ("SystemStatus", "InstanceStatus")
            ]
            text = f"{one['InstanceId']}, {one['InstanceType']}, {one['State']['Name']}; {', '.join(checks)}"
            rows.append(("host", text))
    return rows


def _database(client: Callable[[str], Any]) -> Rows:
    tag = {"Key": names.TAG, "Value": names.DEPLOYMENT}
    rows = []
    for one in client("rds").describe_db_instances()["DBInstances"]:
        if tag in one.get("TagList", []):
            address = one.get("Endpoint", {}).get("Address", "no address yet")
            what = f"{one['DBInstanceIdentifier']}, {one['DBInstanceClass']}, {one['DBInstanceStatus']}"
            rows.append(("database", f"{what}, {address}"))
    return rows


def _generator_log(client: Callable[[str], Any]) -> Rows:
    logs = client("logs")
    try:
        streams = logs.describe_log_streams(logGroupName=LOG_GROUP, orderBy="LastEventTime", descending=True, limit=1)[
            "logStreams"
        ]
    except logs.exceptions.ResourceNotFoundException:
        return []
    lines: list[str] = []
    for stream in streams:
        events = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream["logStreamName"], limit=LOG_LINES)
        lines = [event["message"].strip()[:LINE_CHARACTERS] for event in events["events"]]
    return [("generator's log", "\n".join(lines) or "no line yet")]


def _data(client: Callable[[str], Any]) -> Rows:
    outputs = {
        output["OutputKey"]: output["OutputValue"]
        for stack in client("cloudformation").describe_stacks()["Stacks"]
        for output in stack.get("Outputs", [])
    }
    bucket = outputs.get("BucketName")
    if bucket is None:
        return []
    objects, sizes = Counter[str](), Counter[str]()
    for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for one in page.get("Contents", []):
            zone = one["Key"].partition("/")[0]
            objects[zone] += 1
            sizes[zone] += one["Size"]
        if objects.total() >= MOST_OBJECTS:
            break
    cut = f" (the first {MOST_OBJECTS:,} objects only)" if objects.total() >= MOST_OBJECTS else ""
    zones = "\n".join(
        f"{zone}/: {count:,} objects, {sizes[zone] / 1e6:,.1f} MB" for zone, count in sorted(objects.items())
    )
    return [(f"s3://{bucket}{cut}", zones or "empty")]


def _credentials(client: Callable[[str], Any]) -> Rows:
    pages = (
        client("secretsmanager")
        .get_paginator("list_secrets")
        .paginate(Filters=[{"Key": "name", "Values": [f"{names.DEPLOYMENT}/"]}])
    )
    found = sorted(one["Name"] for page in pages for one in page["SecretList"])
    how = "aws secretsmanager get-secret-value --secret-id <name>"
    return [("credentials", "\n".join([*found, how]) if found else "none in Secrets Manager")]
