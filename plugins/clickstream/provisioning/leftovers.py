"""What is still in the account and belongs to the pipeline, after its stacks are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clickstream.errors import LeftoversFound
from clickstream.provisioning.names import DEPLOYMENT, TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clickstream.provisioning.deployment import Place

GONE = ("terminated", "shutting-down", "deleted", "deleting")


@dataclass(frozen=True, order=True)
class Left:
    """A resource that is still there.

    Attributes:
        arn: Its ARN.
        delete: The command that deletes it, data and all.
        kept: Whether it stays on purpose.
    """

    arn: str
    delete: str
    kept: bool


def scan(place: Place) -> list[Left]:
    """Everything with the pipeline's tag, and by name what the tagging API is slow or unable to tell.

    These are secrets, parameters, log groups, snapshots and interfaces; secrets that wait for their deletion and
    terminated instances do not count.
    """
    found = {*_tagged(place), *_by_name(place)}
    return sorted(_left(place, arn) for arn in found)


def listing(found: Sequence[Left]) -> str:
    """What stays and what is left over, each with how to delete it."""
    if not found:
        return "Nothing of the pipeline is left in the account."
    lines = ["| | resource | how to delete it, data and all |", "|---|---|---|"]
    lines += [f"| {'stays' if one.kept else '**left over**'} | {one.arn} | {one.delete} |" for one in found]
    return "\n".join(lines)


def require_none(found: Sequence[Left]) -> None:
    """Make sure that nothing is left but what stays on purpose.

    Raises:
        LeftoversFound: With each.
    """
    if left := [one for one in found if not one.kept]:
        raise LeftoversFound(
            f"{len(left)} resources with the tag {TAG}={DEPLOYMENT} are left over, and cost money:\n"
            + "\n".join(f"- {one.arn}" for one in left)
            + "\nSee docs/aws.md, leftovers; clear this task when they are gone."
        )


def _tagged(place: Place) -> set[str]:
    client = place.client("resourcegroupstaggingapi")
    pages = client.get_paginator("get_resources").paginate(TagFilters=[{"Key": TAG, "Values": [DEPLOYMENT]}])
    arns = {found["ResourceARN"] for page in pages for found in page["ResourceTagMappingList"]}
    return arns - _instances_that_are_gone(place, arns)


def _instances_that_are_gone(place: Place, arns: set[str]) -> set[str]:
    """The tagging API tells of terminated instances and deleted secrets for some time."""
    of_ec2 = {arn.rpartition("/")[2]: arn for arn in arns if ":instance/" in arn}
    gone = set(of_ec2.values())
    if of_ec2:
        pages = place.client("ec2").get_paginator("describe_instances")
        for page in pages.paginate(Filters=[{"Name": "instance-id", "Values": sorted(of_ec2)}]):
            for reservation in page["Reservations"]:
                for instance in reservation["Instances"]:
                    if instance["State"]["Name"] not in GONE:
                        gone.discard(of_ec2[instance["InstanceId"]])
    secrets = {arn for arn in arns if ":secretsmanager:" in arn}
    alive = {found["ARN"] for found in _secrets(place)} if secrets else set()
    return gone | (secrets - alive)


def _secrets(place: Place) -> list[dict[str, Any]]:
    pages = place.client("secretsmanager").get_paginator("list_secrets")
    return [
        found
        for page in pages.paginate()
        for found in page["SecretList"]
        if found["Name"].startswith((f"{DEPLOYMENT}/", f"AmazonMSK_{DEPLOYMENT}_")) and "DeletedDate" not in found
    ]


def _by_name(place: Place) -> set[str]:
    def arn(service: str, resource: str) -> str:
        return f"arn:aws:{service}:{place.region}:{place.account}:{resource}"

    parameters = place.client("ssm").get_paginator("describe_parameters")
    filters = [{"Key": "Name", "Option": "BeginsWith", "Values": [f"/{DEPLOYMENT}/"]}]
    groups = place.client("logs").get_paginator("describe_log_groups")
    interfaces = place.client("ec2").get_paginator("describe_network_interfaces")
    return {
        *(found["ARN"] for found in _secrets(place)),
        *(
            arn("ssm", f"parameter{found['Name']}")
            for page in parameters.paginate(ParameterFilters=filters)
            for found in page["Parameters"]
        ),
        *(
            arn("logs", f"log-group:{found['logGroupName']}")
            for page in groups.paginate(logGroupNamePrefix=f"/aws/lambda/{DEPLOYMENT}-")
            for found in page["logGroups"]
        ),
        *(
            arn("ec2", f"network-interface/{found['NetworkInterfaceId']}")
            for page in interfaces.paginate(Filters=[{"Name": f"tag:{TAG}", "Values": [DEPLOYMENT]}])
            for found in page["NetworkInterfaces"]
        ),
    }


def _left(place: Place, arn: str) -> Left:
    service, resource = arn.split(":")[2], arn.split(":", 5)[5]
    name = resource.rpartition("/")[2]
    if arn in {f"arn:aws:s3:::{place.data_bucket}", f"arn:aws:s3:::{place.assets_bucket}"}:
        return Left(arn, f"aws s3 rb s3://{resource} --force (its versions too: empty it in the console)", kept=True)
    if service == "rds" and resource.startswith("snapshot:"):
        snapshot = resource.removeprefix("snapshot:")
        return Left(arn, f"aws rds delete-db-snapshot --db-snapshot-identifier {snapshot}", kept=True)
    if service == "ec2" and resource.startswith("volume/"):
        return Left(arn, f"aws ec2 delete-volume --volume-id {name}", kept=True)
    return Left(arn, f"in the console of {service}: {resource}", kept=False)
