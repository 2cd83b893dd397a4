"""AWS's stacks: whether each is there, and as its last deployment wanted it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream.health import aws
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.provisioning import change_sets
from clickstream.provisioning.names import STACKS

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNBOOK = "docs/aws.md, when a deployment fails"
UNDONE = "UPDATE_ROLLBACK_COMPLETE"


def look(installation: Installation) -> Finding:
    """Ask CloudFormation for each."""
    cloudformation = aws.client(installation, "cloudformation")
    found = {stack: change_sets.status(cloudformation, stack) for stack in STACKS}
    return finding(", ".join(f"{stack} is {status}" for stack, status in found.items()) + ".", _problems(found))


def _problems(found: dict[str, str]) -> Iterator[Problem]:
    for stack, status in found.items():
        if status == change_sets.ABSENT:
            yield Problem(Status.DOWN, f"{stack} is not there: run provision_infrastructure.")
        elif status == UNDONE:
            yield Problem(Status.DEGRADED, f"The last change of {stack} was undone: {RUNBOOK}.")
        elif status.endswith("_IN_PROGRESS"):
            yield Problem(Status.DEGRADED, f"{stack} is being changed ({status}).")
        elif status not in change_sets.SETTLED:
            yield Problem(Status.DOWN, f"{stack} is {status}: {RUNBOOK}.")


CHECK = Check(
    component="aws_stacks",
    look=look,
    remedy=aws.REACH,
    slow_seconds=aws.SLOW_SECONDS,
    deadline_seconds=aws.DEADLINE_SECONDS,
    configured=aws.is_configured,
)
