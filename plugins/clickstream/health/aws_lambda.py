"""AWS's generator: whether the function is ready, is called every minute, and has given no minute up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream.health import aws
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.provisioning.names import GENERATOR, GENERATOR_FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterator


def look(installation: Installation) -> Finding:
    """Look at function, schedule and dead letter queue; what it wrote last is the row of `generator`."""
    function = aws.client(installation, "lambda").get_function_configuration(FunctionName=GENERATOR)
    events = aws.client(installation, "events")
    names = events.list_rule_names_by_target(TargetArn=function["FunctionArn"])["RuleNames"]
    rules = {name: events.describe_rule(Name=name)["State"] for name in names}
    sqs = aws.client(installation, "sqs")
    queue = sqs.get_queue_url(QueueName=GENERATOR_FAILURES)["QueueUrl"]
    asked = "ApproximateNumberOfMessages"
    failed = int(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[asked])["Attributes"][asked])
    state = function.get("State", "Active")
    return finding(f"{GENERATOR} is {state}, {failed} minutes failed.", _problems(state, rules, failed))


def _problems(state: str, rules: dict[str, str], failed: int) -> Iterator[Problem]:
    if state not in {"Active", "Inactive"}:  # inactive after weeks without a call; the next one wakes it
        yield Problem(Status.DOWN, f"The function {GENERATOR} is {state}: see its log and its network.")
    if not rules:
        yield Problem(Status.DOWN, f"No rule of EventBridge calls {GENERATOR}: run provision_infrastructure.")
    for name, found in rules.items():
        if found != "ENABLED":
            yield Problem(Status.DOWN, f"The rule {name} is {found}: aws events enable-rule --name {name}")
    if failed:
        yield Problem(
            Status.DEGRADED,
            f"{failed} minutes wait in {GENERATOR_FAILURES}: they may be archived, but Kafka lacks them. When the cause"
            " is mended, run refill_from_archive over them, then purge the queue.",
        )


CHECK = Check(
    component="aws_lambda",
    look=look,
    remedy=aws.REACH,
    slow_seconds=aws.SLOW_SECONDS,
    deadline_seconds=aws.DEADLINE_SECONDS,
    configured=aws.is_configured,
)
