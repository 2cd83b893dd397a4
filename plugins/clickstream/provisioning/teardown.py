"""The way down: what would go and what data with it, then the deletion, in the reverse order."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from botocore.utils import IMDSFetcher

from clickstream.errors import ProvisioningRefused
from clickstream.provisioning import change_sets
from clickstream.provisioning.names import STACKS
from clickstream.provisioning.progress import Progress
from clickstream.provisioning.provision import CLOCKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clickstream.provisioning.deployment import Place

log = logging.getLogger(__name__)

METADATA_COMMAND = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"
METADATA_SERVICE = "http://169.254.169.254"  # of EC2, on each instance
MOST_OBJECTS = 100_000
GIB = 1 << 30


@dataclass(frozen=True)
class Doomed:
    """A stack that would go, with its resources: logical id, type, physical id."""

    stack: str
    status: str
    resources: tuple[tuple[str, str, str], ...]


def plan(place: Place) -> list[Doomed]:
    """The stacks that are there, in the order in which they would go."""
    cloudformation = place.client("cloudformation")
    found = []
    for stack in reversed(STACKS):
        status = change_sets.status(cloudformation, stack)
        if status != change_sets.ABSENT:
            pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
            resources = tuple(
                (one["LogicalResourceId"], one["ResourceType"], one.get("PhysicalResourceId", ""))
                for page in pages
                for one in page["StackResourceSummaries"]
                if one["ResourceStatus"] != "DELETE_COMPLETE"
            )
            found.append(Doomed(stack, status, resources))
    return found


def markdown(place: Place, doomed: list[Doomed]) -> str:
    """What would go, for the approval and the log: data first."""
    if not doomed:
        return f"There is no stack of the pipeline in account {place.account}, {place.region}."
    resources = [(kind, name) for one in doomed for _, kind, name in one.resources]
    data = [describe(place, name) for wanted, describe in DATA.items() for kind, name in resources if kind == wanted]
    lines = [f"Account {place.account}, {place.region}.", "", "| data | what becomes of it |", "|---|---|", *data, ""]
    for one in doomed:
        lines += [
            f"**{one.stack}** ({one.status}, {len(one.resources)} resources)",
            "",
            "| resource | type |",
            "|---|---|",
        ]
        lines += [f"| {logical} | {kind} |" for logical, kind, _ in one.resources] + [""]
    return "\n".join(lines)


def refuse_own_ground(place: Place, doomed: list[Doomed], environment: Mapping[str, str] = os.environ) -> None:
    """Make sure that neither this host nor this Airflow's database would go.

    Raises:
        ProvisioningRefused: One of them would.
    """
    names = {name for one in doomed for _, _, name in one.resources}
    own = _own_instance(environment)
    if own in names:
        raise ProvisioningRefused(
            f"This Airflow runs on {own}, which would go. Tear down from a control Airflow elsewhere: docs/aws.md."
        )
    cloudformation = place.client("cloudformation")
    for one in doomed:
        stack = change_sets.describe(cloudformation, one.stack) or {}
        endpoints = {
            output["OutputValue"]: output["OutputKey"]
            for output in stack.get("Outputs", [])
            if output["OutputKey"].startswith("Database")
        }
        host = _metadata_host(environment)
        if host in endpoints:
            raise ProvisioningRefused(
                f"This Airflow keeps its own database on {host}, which would go with {one.stack}. Tear down from a"
                " control Airflow elsewhere: docs/aws.md."
            )


def delete(place: Place, stack: str) -> None:
    """Delete a stack and follow it to its end; one that is gone already is fine.

    Raises:
        StackRolledBack: Something can't be deleted; with the first resource and the reason.
    """
    cloudformation = place.client("cloudformation")
    found = change_sets.describe(cloudformation, stack)
    if found is None:
        log.info("%s is gone", stack)
        return
    began = datetime.now(UTC) - CLOCKS
    count = len(next((one.resources for one in plan(place) if one.stack == stack), ()))
    cloudformation.delete_stack(StackName=found["StackId"])
    Progress(cloudformation=cloudformation, stack_id=found["StackId"], resources=count, since=began).wait()
    log.info("%s is gone", stack)


def _own_instance(environment: Mapping[str, str]) -> str | None:
    """The EC2 instance that this runs on, None elsewhere."""
    endpoint = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA_SERVICE)
    return _OwnInstance(timeout=1, num_attempts=1, base_url=f"{endpoint.rstrip('/')}/", env=environment).instance_id()


class _OwnInstance(IMDSFetcher):  # type: ignore[misc] # botocore has no types
    """Asks the instance metadata service, version 2, for the id."""

    def instance_id(self) -> str | None:
        try:
            token = self._fetch_metadata_token()
            return str(self._get_request("latest/meta-data/instance-id", None, token).text)
        except (self._RETRIES_EXCEEDED_ERROR_CLS, OSError):
            return None


def _metadata_host(environment: Mapping[str, str]) -> str | None:
    """The host of Airflow's own database, as the command that prints its URL says; a task sees no more of it."""
    command = environment.get(METADATA_COMMAND)
    if command is None:
        return None
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)  # noqa: S603 - the operator's
    return urlsplit(done.stdout.strip()).hostname


def _bucket(place: Place, bucket: str) -> str:
    objects = size = 0
    try:
        for page in place.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket):
            objects += len(page.get("Contents", []))
            size += sum(found["Size"] for found in page.get("Contents", []))
            if objects >= MOST_OBJECTS:
                break
    except ClientError as error:
        return f"| bucket {bucket} | it stays; it can't be listed: {error} |"
    more = "at least " if objects >= MOST_OBJECTS else ""
    return f"| bucket {bucket}: {more}{objects:,} objects, {size / GIB:,.2f} GiB | **stays** |"


def _database(place: Place, identifier: str) -> str:
    try:
        (found,) = place.client("rds").describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
    except ClientError as error:
        return f"| database {identifier} | {error} |"
    size = f"{found['DBInstanceClass']}, {found['AllocatedStorage']} GiB"
    protected = " It is protected: CloudFormation will refuse." if found.get("DeletionProtection") else ""
    return f"| database {identifier}: {size} | **goes**; a final snapshot stays.{protected} |"


def _volume(_: Place, volume: str) -> str:
    return f"| volume {volume}: Kafka's log and the broker's authority | **stays** |"


DATA: Mapping[str, Callable[[Place, str], str]] = {
    "AWS::S3::Bucket": _bucket,
    "AWS::RDS::DBInstance": _database,
    "AWS::EC2::Volume": _volume,
}
