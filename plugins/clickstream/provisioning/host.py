"""Commands on the host, through SSM: no port is open for them and every one is on record in the account."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clickstream.errors import HostCommandFailed

if TYPE_CHECKING:
    from clickstream.provisioning.deployment import Place

log = logging.getLogger(__name__)

DOCUMENT = "AWS-RunShellScript"
HOME = "/opt/clickstream/docker/host"
WAITING = ("Pending", "InProgress", "Delayed", "Cancelling")
AGENT_SECONDS = 600.0  # until a host that was just launched listens
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Command:
    """Lines of shell, never with a secret, since SSM records them; and how long they may take, in seconds."""

    lines: tuple[str, ...]
    timeout_seconds: int


BOOTSTRAP = Command(("cloud-init status --wait", "systemctl restart clickstream", f"{HOME}/init"), 45 * 60)
CHECK_HEALTH = Command((f"{HOME}/check-health",), 2 * 60)


def run(place: Place, instance: str, command: Command) -> str:
    """Run commands as root, one after the other, until one fails; returns what they printed.

    Args:
        place: Account and region.
        instance: Id of the host.
        command: What to run.

    Raises:
        HostCommandFailed: One failed, or they took too long; with the end of what was printed.
    """
    ssm = place.client("ssm")
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            sent = ssm.send_command(
                InstanceIds=[instance],
                DocumentName=DOCUMENT,
                Parameters={"commands": ["set -e", *command.lines], "executionTimeout": [str(command.timeout_seconds)]},
            )["Command"]["CommandId"]
            break
        except ssm.exceptions.InvalidInstanceId as error:
            if time.monotonic() > deadline:
                raise HostCommandFailed(
                    f"SSM has not heard of {instance} for {AGENT_SECONDS:.0f} s. See whether it runs: aws ec2"
                    f" get-console-output --instance-id {instance}"
                ) from error
            log.info("%s does not listen yet", instance)
            time.sleep(POLL_SECONDS)
    deadline = time.monotonic() + command.timeout_seconds + AGENT_SECONDS
    while time.monotonic() < deadline:
        try:
            found = ssm.get_command_invocation(CommandId=sent, InstanceId=instance)
        except ssm.exceptions.InvocationDoesNotExist:
            found = {"Status": "Pending"}
        if found["Status"] not in WAITING:
            break
        time.sleep(POLL_SECONDS)
    printed = "\n".join(found.get(part, "").strip() for part in ("StandardOutputContent", "StandardErrorContent"))
    log.info("%s on %s:\n%s", "; ".join(command.lines), instance, printed)
    if found["Status"] != "Success":
        raise HostCommandFailed(
            f"{'; '.join(command.lines)} on {instance} is {found['Status']} (command {sent}):\n{printed[-2000:]}\n"
            f"Look at the host: aws ssm start-session --target {instance}, then journalctl -u clickstream; mend it, and"
            " clear this task."
        )
    return printed
