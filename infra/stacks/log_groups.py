"""Log groups, all kept for the same time."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.stacks.retention import retention

DAYS = {
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
}


def log_group(scope: Construct, construct_id: str, *, name: str | None = None) -> logs.LogGroup:
    """A log group that goes with its stack and forgets after as many days as `retention` says."""
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=DAYS[retention().logs],
        removal_policy=RemovalPolicy.DESTROY,
    )
