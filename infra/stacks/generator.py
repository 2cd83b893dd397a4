"""The Lambda that makes a minute of events, called each minute."""

from collections.abc import Mapping

from aws_cdk import AssetHashType, Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.bundle import lambda_bundle
from infra.stacks.log_groups import log_group
from infra.stacks.network import Network
from infra.stacks.retention import retention

_TIMEOUT = Duration.seconds(90)
_MEMORY_MIB = 512
_RETRIES = 2
_EVENT_AGE = Duration.hours(1)
_AT_ONCE = 2


class Generator(Construct):
    """The function, its schedule, its log, and the queue of invocations that failed for good.

    An invocation that fails is tried twice more by Lambda; the same event makes the same events, so that trying again
    is always right. What still fails waits in the queue for somebody to send it again.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        network: Network,
        group: ec2.ISecurityGroup,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, construct_id)
        bundle = lambda_bundle()
        self.failures = sqs.Queue(
            self,
            "Failures",
            queue_name=names.GENERATOR_FAILURES,
            enforce_ssl=True,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            retention_period=Duration.days(retention().dead_letters),
        )
        self.log = log_group(self, "Log", name=f"/aws/lambda/{names.GENERATOR}")
        self.role = self._role()
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=names.GENERATOR,
            description="Makes a minute of clickstream events: archived first, then produced to Kafka",
            runtime=lambda_.Runtime.PYTHON_3_11,
            architecture=lambda_.Architecture.X86_64,
            code=lambda_.Code.from_asset(
                str(bundle.folder), asset_hash=bundle.digest, asset_hash_type=AssetHashType.CUSTOM
            ),
            handler="clickstream_generator.handler",
            environment=dict(environment),
            role=self.role,
            log_group=self.log,
            vpc=network.vpc,
            vpc_subnets=network.functions,
            security_groups=[group],
            memory_size=_MEMORY_MIB,
            timeout=_TIMEOUT,
            reserved_concurrent_executions=_AT_ONCE,
            retry_attempts=_RETRIES,
            max_event_age=_EVENT_AGE,
            dead_letter_queue=self.failures,
        )
        events.Rule(
            self,
            "EveryMinute",
            description="Calls the generator with each minute",
            schedule=events.Schedule.rate(Duration.minutes(1)),
            targets=[
                targets.LambdaFunction(
                    self.function,
                    retry_attempts=_RETRIES,
                    max_event_age=_EVENT_AGE,
                    dead_letter_queue=self.failures,
                )
            ],
        )
        acknowledge(
            self,
            {
                "L1": f"Python {lambda_.Runtime.PYTHON_3_11.name.removeprefix('python')} is what the bundle is built "
                "for, tested with, and what the rest of the pipeline runs on.",
                "SQS3": "This is the dead letter queue.",
            },
        )

    def _role(self) -> iam.Role:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.log.grant_write(role)
        role.add_to_policy(
            iam.PolicyStatement(
                actions=[
                    "ec2:CreateNetworkInterface",
                    "ec2:DescribeNetworkInterfaces",
                    "ec2:DescribeSubnets",
                    "ec2:DeleteNetworkInterface",
                    "ec2:AssignPrivateIpAddresses",
                    "ec2:UnassignPrivateIpAddresses",
                ],
                resources=["*"],
            )
        )
        acknowledge(
            role,
            {
                "IAM5[Resource::*]": "A Lambda in a VPC needs these rights on network interfaces that don't exist yet; "
                "EC2 offers no narrower resource for them."
            },
        )
        return role
