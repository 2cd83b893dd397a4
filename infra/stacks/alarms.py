"""What must be heard when the host, and with it Prometheus, is gone: everything else alerts from there."""

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct


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

    def above(
        self, construct_id: str, metric: cloudwatch.IMetric, *, limit: float, minutes: int, description: str
    ) -> None:
        """Alarm when a metric by minute is above a limit for so many minutes; no data is no alarm."""
        self._alarm(
            construct_id,
            metric,
            limit=limit,
            minutes=minutes,
            description=description,
            comparison=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            missing=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def below(
        self, construct_id: str, metric: cloudwatch.IMetric, *, limit: float, minutes: int, description: str
    ) -> None:
        """Alarm when a metric by minute is below a limit for so many minutes; no data is below."""
        self._alarm(
            construct_id,
            metric,
            limit=limit,
            minutes=minutes,
            description=description,
            comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            missing=cloudwatch.TreatMissingData.BREACHING,
        )

    def _alarm(
        self,
        construct_id: str,
        metric: cloudwatch.IMetric,
        *,
        limit: float,
        minutes: int,
        description: str,
        comparison: cloudwatch.ComparisonOperator,
        missing: cloudwatch.TreatMissingData,
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            construct_id,
            metric=metric,
            threshold=limit,
            evaluation_periods=minutes,
            comparison_operator=comparison,
            treat_missing_data=missing,
            alarm_description=description,
        )
        alarm.add_alarm_action(self._action)
        alarm.add_ok_action(self._action)


MINUTE = Duration.minutes(1)
