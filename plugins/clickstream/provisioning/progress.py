"""A stack on its way: its events as they come, and how it ended."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from clickstream.errors import StackRolledBack

if TYPE_CHECKING:
    from datetime import datetime

log = logging.getLogger(__name__)

GOOD = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "DELETE_COMPLETE")
CANCELLED = ("Resource creation cancelled", "Resource update cancelled")
POLL_SECONDS = 5.0
STACK = "AWS::CloudFormation::Stack"


@dataclass
class Progress:
    """Follows one operation on one stack.

    Attributes:
        cloudformation: A client.
        stack_id: The stack's id, which finds a deleted stack too.
        resources: How many the operation touches, for the log.
        since: Events before this time are of earlier operations.
    """

    cloudformation: Any
    stack_id: str
    resources: int
    since: datetime
    _seen: set[str] = field(default_factory=set)
    _done: set[str] = field(default_factory=set)

    def wait(self) -> None:
        """Log events until the operation has ended.

        Raises:
            StackRolledBack: It failed; with the first resource that did, and why.
        """
        while True:
            status = self._status()
            self._report()
            if not status.endswith("_IN_PROGRESS"):
                break
            time.sleep(POLL_SECONDS)
        if status not in GOOD:
            raise StackRolledBack(f"{self.stack_id} is {status}. {self._first_failure()}")

    def _status(self) -> str:
        try:
            return str(self.cloudformation.describe_stacks(StackName=self.stack_id)["Stacks"][0]["StackStatus"])
        except ClientError as error:
            if "does not exist" in str(error):
                return "DELETE_COMPLETE"
            raise

    def _events(self) -> list[dict[str, Any]]:
        """Events of this operation, the oldest first."""
        found = []
        try:
            for page in self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=self.stack_id):
                recent = [event for event in page["StackEvents"] if event["Timestamp"] >= self.since]
                found += recent
                if len(recent) < len(page["StackEvents"]):
                    break
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
        return found[::-1]

    def _report(self) -> None:
        for event in self._events():
            if event["EventId"] in self._seen:
                continue
            self._seen.add(event["EventId"])
            status = event["ResourceStatus"]
            if status.endswith("_COMPLETE") and event["ResourceType"] != STACK:
                self._done.add(event["LogicalResourceId"])
            log.info(
                "%s of %s | %s %s %s %s",
                len(self._done), self.resources, status, event["ResourceType"], event["LogicalResourceId"],
                event.get("ResourceStatusReason", ""),
            )  # fmt: skip

    def _first_failure(self) -> str:
        for event in self._events():
            reason = event.get("ResourceStatusReason", "")
            if event["ResourceStatus"].endswith("_FAILED") and not reason.startswith(CANCELLED):
                return (
                    f"The first resource that failed is {event['LogicalResourceId']} ({event['ResourceType']}):"
                    f" {reason or 'no reason was given'}. Mend that, then clear `preview`."
                )
        return "No event names a resource that failed: see the stack's events in the console of CloudFormation."
