"""Change sets: what a template would change in a stack, made to be looked at, then executed or thrown away."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from clickstream.errors import ProvisioningRefused
from clickstream.provisioning.names import DEPLOYMENT, TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

ABSENT = "absent"
SHELL = "REVIEW_IN_PROGRESS"  # of a stack that has nothing but change sets
SETTLED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
REMEDIES = {
    "ROLLBACK_COMPLETE": "Its creation failed and nothing is left of it: run teardown_infrastructure, then this.",
    "ROLLBACK_FAILED": "Run teardown_infrastructure, which names what can't be deleted; then this again.",
    "CREATE_FAILED": "Run teardown_infrastructure, then this again.",
    "DELETE_FAILED": "Run teardown_infrastructure again: its log names what keeps the stack.",
    "UPDATE_ROLLBACK_FAILED": "Mend what its events name, run `aws cloudformation continue-update-rollback --stack-name"
    " {stack}`, then this again.",
}
EXECUTED = ("EXECUTE_IN_PROGRESS", "EXECUTE_COMPLETE")
CAPABILITIES = ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
NOTHING = ("didn't contain changes", "No updates are to be performed")
DEADLINE_SECONDS = 600
POLL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to one resource.

    Attributes:
        action: `Add`, `Modify`, `Remove`, `Import` or `Dynamic`.
        resource: Its logical id.
        type: Such as `AWS::EC2::Instance`.
        replacement: `True`, `Conditional` or `False`; a replaced resource is made anew, without its data.
    """

    action: str
    resource: str
    type: str
    replacement: str = "False"


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """A change set that waits for its execution."""

    arn: str
    changes: Sequence[Change]


def status(cloudformation: Any, stack: str) -> str:  # noqa: ANN401 - boto3's clients have no types
    """A stack's status, `absent` where there is none."""
    found = describe(cloudformation, stack)
    return ABSENT if found is None else str(found["StackStatus"])


def describe(cloudformation: Any, stack: str) -> dict[str, Any] | None:  # noqa: ANN401
    """What CloudFormation says of a stack, None where there is none."""
    try:
        return dict(cloudformation.describe_stacks(StackName=stack)["Stacks"][0])
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def version(cloudformation: Any, stack: str) -> str:  # noqa: ANN401
    """What tells one state of a stack from the next: its newest event, or that there is none."""
    if status(cloudformation, stack) in {ABSENT, SHELL}:
        return ABSENT
    return str(cloudformation.describe_stack_events(StackName=stack)["StackEvents"][0]["EventId"])


def require_settled(cloudformation: Any, stack: str) -> bool:  # noqa: ANN401
    """Make sure that a stack can be changed; returns whether it exists.

    Raises:
        ProvisioningRefused: With what to do first.
    """
    found = status(cloudformation, stack)
    if found in {ABSENT, SHELL}:
        return False
    if found in SETTLED:
        return True
    remedy = REMEDIES.get(found, "Something else changes it at this moment: wait until that has ended.")
    raise ProvisioningRefused(f"{stack} is {found} and can't be changed. {remedy.format(stack=stack)}")


def create(cloudformation: Any, stack: str, *, name: str, template_url: str) -> ChangeSet | None:  # noqa: ANN401
    """Make a change set, or find the one of this name again; None where nothing would change.

    Raises:
        ProvisioningRefused: The stack can't be changed, or CloudFormation can't make the change set.
    """
    exists = require_settled(cloudformation, stack)
    found = _find(cloudformation, stack, name)
    if found is not None and (found["Status"] == "FAILED" or found.get("ExecutionStatus") != "AVAILABLE"):
        cloudformation.delete_change_set(StackName=stack, ChangeSetName=name)
        found = None
    if found is None:
        cloudformation.create_change_set(
            StackName=stack,
            ChangeSetName=name,
            ChangeSetType="UPDATE" if exists else "CREATE",
            TemplateURL=template_url,
            Capabilities=CAPABILITIES,
            ImportExistingResources=True,
            Tags=[{"Key": TAG, "Value": DEPLOYMENT}],
        )
    described = _made(cloudformation, stack, name)
    if described["Status"] == "FAILED":
        reason = described.get("StatusReason", "")
        discard(cloudformation, stack, name)
        if any(text in reason for text in NOTHING):
            return None
        raise ProvisioningRefused(f"CloudFormation can't work out what would change in {stack}: {reason}")
    changes = _changes(cloudformation, stack, name)
    if exists and not changes:
        cloudformation.delete_change_set(StackName=stack, ChangeSetName=name)
        return None
    return ChangeSet(arn=described["ChangeSetId"], changes=changes)


def is_executed(cloudformation: Any, stack: str, name: str) -> bool:  # noqa: ANN401
    """Whether a change set is being executed, or was with success."""
    found = _find(cloudformation, stack, name) or {}
    return found.get("ExecutionStatus") in EXECUTED


def execute(cloudformation: Any, arn: str) -> None:  # noqa: ANN401
    """Begin to execute a change set.

    Raises:
        ProvisioningRefused: It is gone, or the stack has changed since it was made.
    """
    try:
        found = cloudformation.describe_change_set(ChangeSetName=arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"ChangeSetNotFound", "ChangeSetNotFoundException"}:
            raise
        raise ProvisioningRefused(
            f"The change set {arn} is gone. Clear the task `preview` and approve again."
        ) from error
    execution = found.get("ExecutionStatus")
    if execution != "AVAILABLE":
        raise ProvisioningRefused(
            f"The change set {arn} is {execution}: the stack was changed since it was made. Clear `preview` and approve"
            " what it shows then."
        )
    cloudformation.execute_change_set(ChangeSetName=arn)


def discard(cloudformation: Any, stack: str, name: str) -> None:  # noqa: ANN401
    """Delete a change set, and the shell of a stack that it made."""
    if _find(cloudformation, stack, name) is not None:
        cloudformation.delete_change_set(StackName=stack, ChangeSetName=name)
    if status(cloudformation, stack) == SHELL and not cloudformation.list_change_sets(StackName=stack)["Summaries"]:
        cloudformation.delete_stack(StackName=stack)


def _find(cloudformation: Any, stack: str, name: str) -> dict[str, Any] | None:  # noqa: ANN401
    if status(cloudformation, stack) == ABSENT:
        return None
    try:
        return dict(cloudformation.describe_change_set(StackName=stack, ChangeSetName=name))
    except ClientError as error:
        if error.response["Error"]["Code"] in {"ChangeSetNotFound", "ChangeSetNotFoundException", "ValidationError"}:
            return None
        raise


def _made(cloudformation: Any, stack: str, name: str) -> dict[str, Any]:  # noqa: ANN401
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = dict(cloudformation.describe_change_set(StackName=stack, ChangeSetName=name))
        if found["Status"] in {"CREATE_COMPLETE", "FAILED"}:
            return found
        if time.monotonic() > deadline:
            raise ProvisioningRefused(
                f"CloudFormation has worked on the change set {name} of {stack} for {DEADLINE_SECONDS} s. Try again."
            )
        time.sleep(POLL_SECONDS)


def _changes(cloudformation: Any, stack: str, name: str) -> list[Change]:  # noqa: ANN401
    found: list[Change] = []
    page: dict[str, Any] = {}
    while True:
        described = cloudformation.describe_change_set(StackName=stack, ChangeSetName=name, **page)
        for change in described["Changes"]:
            of = change["ResourceChange"]
            found.append(
                Change(
                    action=of["Action"],
                    resource=of["LogicalResourceId"],
                    type=of["ResourceType"],
                    replacement=of.get("Replacement", "False"),
                )
            )
        if "NextToken" not in described:
            return found
        page = {"NextToken": described["NextToken"]}
