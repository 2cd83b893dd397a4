"""What must be heard when the host, and with it Prometheus, is gone: everything else alerts from there."""

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

ABOVE = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
BELOW = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
MINUTE = Duration.minutes(1)


class AlarmTopic(Construct):
    """Where alarms go, and by e-mail further where an address is given."""

    def __init__(self, scope: Construct, construct_id: str, *, email: str | None) -> None:
        super().__init__(scope, construct_id)
        self.topic = sns.Topic(self, "Topic", display_name="Clickstream alarms", enforce_ssl=True)
        self.topic.grant_publish(
            iam.ServicePrincipal(
                "cloudwatch.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        if email is not None:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))


class Alarms(Construct):
    """Alarms of one stack, all to one topic."""

    def __init__(self, scope: Construct, construct_id: str, *, topic: sns.ITopic) -> None:
        super().__init__(scope, construct_id)
        self._action = actions.SnsAction(topic)

    def add(
        self,
        construct_id: str,
        metric: cloudwatch.IMetric,
        comparison: cloudwatch.ComparisonOperator,
        limit: float,
        *,
        minutes: int,
        silence_alarms: bool,
        description: str,
    ) -> None:
        """Alarm when a metric by minute is beyond a limit for so many minutes.

        Args:
            construct_id: name of the alarm.
            metric: with a period of `MINUTE`.
            comparison: `ABOVE` or `BELOW`.
            limit: in the metric's unit.
            minutes: how many in a row.
            silence_alarms: whether a minute without data counts as beyond the limit.
            description: what it means, for who gets it.
        """
        alarm = cloudwatch.Alarm(
            self,
            construct_id,
            metric=metric,
            threshold=limit,
            evaluation_periods=minutes,
            comparison_operator=comparison,
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING
            if silence_alarms
            else cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=description,
        )
        alarm.add_alarm_action(self._action)
        alarm.add_ok_action(self._action)
