"""The way up: what would change, and the change itself, stack by stack."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from clickstream.errors import ProvisioningRefused
from clickstream.provisioning import change_sets
from clickstream.provisioning.names import HOST_STACK, STACKS
from clickstream.provisioning.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clickstream.provisioning.change_sets import Change
    from clickstream.provisioning.deployment import Place
    from clickstream.provisioning.synthesis import Assembly

log = logging.getLogger(__name__)

CLOCKS = timedelta(minutes=1)  # how far the clocks of this machine and AWS may be apart


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What is to happen to a stack; its attributes go from task to task.

    Attributes:
        stack: Its name.
        digest: SHA-256 of the template that was looked at.
        version: The state of the stack that it was compared with.
        change_set: The change set; empty where it is made at deployment, or nothing changes.
        change_set_name: Its name in either case.
    """

    stack: str
    digest: str
    version: str
    change_set: str
    change_set_name: str

    def as_dict(self) -> dict[str, str]:
        """For XCom."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A plan and what it changes; `changes` is None where nothing does."""

    planned: Planned
    changes: Sequence[Change] | None


def preview(assembly: Assembly, place: Place, *, run: str) -> list[Preview]:
    """Work out what each stack would go through, without changing anything that exists.

    On a new account there is nothing yet that the second stack could refer to, so that its change set can only be made
    after the first is there: what it would add is read from its template.

    Args:
        assembly: The synthesized stacks, uploaded.
        place: Account and region.
        run: Whose change sets these are; asking again finds them again.

    Raises:
        ProvisioningRefused: A stack can't be changed at present.
    """
    cloudformation = place.client("cloudformation")
    first_is_there = change_sets.require_settled(cloudformation, HOST_STACK)
    previews = []
    for stack in STACKS:
        digest = assembly.digest(stack)
        name = _name(run, digest)
        version = change_sets.version(cloudformation, stack)
        made, changes = None, None
        if stack == HOST_STACK or first_is_there:
            made = change_sets.create(cloudformation, stack, name=name, template_url=_url(assembly, place, stack))
            changes = made.changes if made else None
        else:
            change_sets.require_settled(cloudformation, stack)
            changes = [
                change_sets.Change(action="Add", resource=resource, type=definition["Type"])
                for resource, definition in assembly.template(stack)["Resources"].items()
            ]
        planned = Planned(
            stack=stack,
            digest=digest,
            version=version,
            change_set=made.arn if made else "",
            change_set_name=name if changes is not None else "",
        )
        previews.append(Preview(planned=planned, changes=changes))
    return previews


def deploy(assembly: Assembly, place: Place, planned: Planned) -> None:
    """Execute what was approved, and follow it to its end; doing so again changes nothing.

    Raises:
        ProvisioningRefused: The template or the stack is no longer what was looked at.
        StackRolledBack: CloudFormation failed; with the first resource that did.
    """
    stack = planned.stack
    if not planned.change_set_name:
        log.info("%s: nothing to change", stack)
        return
    cloudformation = place.client("cloudformation")
    if assembly.digest(stack) != planned.digest:
        raise ProvisioningRefused(
            f"The template of {stack} was synthesized again and differs from the one that was approved. Clear the task"
            " `preview` and approve what it shows then."
        )
    began = datetime.now(UTC) - CLOCKS
    if change_sets.is_executed(cloudformation, stack, planned.change_set_name):
        log.info("The change set of %s is executed already: this follows it to its end", stack)
    else:
        _require_same(cloudformation, planned)
        arn = planned.change_set or _late(cloudformation, assembly, place, planned)
        if not arn:
            log.info("%s: nothing to change", stack)
            return
        change_sets.execute(cloudformation, arn)
    Progress(
        cloudformation=cloudformation,
        stack_id=str((change_sets.describe(cloudformation, stack) or {})["StackId"]),
        resources=len(assembly.template(stack)["Resources"]),
        since=began,
    ).wait()
    log.info("%s is %s", stack, change_sets.status(cloudformation, stack))


def discard(place: Place, planned: Sequence[Planned]) -> None:
    """Throw change sets away."""
    cloudformation = place.client("cloudformation")
    for plan in planned:
        if plan.change_set:
            change_sets.discard(cloudformation, plan.stack, plan.change_set_name)


def outputs(place: Place) -> dict[str, str]:
    """The outputs of all stacks that are there."""
    cloudformation = place.client("cloudformation")
    found = [change_sets.describe(cloudformation, stack) for stack in STACKS]
    return {
        output["OutputKey"]: output["OutputValue"]
        for stack in found
        if stack is not None
        for output in stack.get("Outputs", [])
    }


def _require_same(cloudformation: Any, planned: Planned) -> None:  # noqa: ANN401 - boto3's clients have no types
    found = change_sets.version(cloudformation, planned.stack)
    if found != planned.version:
        raise ProvisioningRefused(
            f"{planned.stack} was changed since it was looked at: its newest event was {planned.version}, now it is"
            f" {found}. Clear `preview` and approve what it shows then."
        )


def _late(cloudformation: Any, assembly: Assembly, place: Place, planned: Planned) -> str:  # noqa: ANN401
    """Make the change set that could not be made at the preview; empty where nothing changes."""
    made = change_sets.create(
        cloudformation,
        planned.stack,
        name=planned.change_set_name,
        template_url=_url(assembly, place, planned.stack),
    )
    return made.arn if made else ""


def _name(run: str, digest: str) -> str:
    return f"clickstream-{sha256(f'{run} {digest}'.encode()).hexdigest()[:16]}"


def _url(assembly: Assembly, place: Place, stack: str) -> str:
    """Where CloudFormation reads the template; it takes larger ones from there than in a request."""
    return f"https://{place.assets_bucket}.s3.{place.region}.amazonaws.com/{assembly.template_key(stack)}"
