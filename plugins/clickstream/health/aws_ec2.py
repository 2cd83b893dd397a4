"""AWS's host: whether it runs and passes EC2's own checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clickstream.health import aws
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

GONE = ("terminated", "shutting-down")
UNDECIDED = ("initializing", "insufficient-data")


def look(installation: Installation) -> Finding:
    """Find the instances with the pipeline's tag and ask how they are."""
    ec2 = aws.client(installation, "ec2")
    hosts = [
        one
        for reservation in ec2.describe_instances(Filters=aws.OURS)["Reservations"]
        for one in reservation["Instances"]
        if one["State"]["Name"] not in GONE
    ]
    if not hosts:
        problem = "There is no host with the pipeline's tag: run provision_infrastructure."
        return finding("", [Problem(Status.DOWN, problem)])
    ids = [one["InstanceId"] for one in hosts]
    answer = ec2.describe_instance_status(InstanceIds=ids, IncludeAllInstances=True)["InstanceStatuses"]
    statuses = {one["InstanceId"]: one for one in answer}
    problems = [problem for one in hosts for problem in _problems(one, statuses.get(one["InstanceId"], {}))]
    return finding("; ".join(f"{one['InstanceId']}, {one['InstanceType']}" for one in hosts) + ".", problems)


def _problems(host: dict[str, Any], status: dict[str, Any]) -> Iterator[Problem]:
    name, state = host["InstanceId"], host["State"]["Name"]
    if state != "running":
        start = f"aws ec2 start-instances --instance-ids {name}"
        yield Problem(Status.DOWN, f"Host {name} is {state}: {start}; its services start by themselves.")
        return
    for check in ("SystemStatus", "InstanceStatus"):
        found = status.get(check, {}).get("Status", "insufficient-data")
        if found in UNDECIDED:
            yield Problem(Status.DEGRADED, f"EC2 can't say yet how host {name} is ({check} is {found}).")
        elif found != "ok":
            yield Problem(
                Status.DOWN,
                f"Host {name} fails EC2's {check} ({found}): stop and start it, which moves it to other hardware.",
            )
    for event in status.get("Events", []):
        yield Problem(Status.DEGRADED, f"AWS plans {event['Code']} for host {name}: {event.get('Description', '')}")


CHECK = Check(
    component="aws_ec2",
    look=look,
    remedy=aws.REACH,
    slow_seconds=aws.SLOW_SECONDS,
    deadline_seconds=aws.DEADLINE_SECONDS,
    configured=aws.is_configured,
)
