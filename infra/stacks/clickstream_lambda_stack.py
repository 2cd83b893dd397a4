"""The stack of what makes and keeps events: the generator, its schedule and alarms, and the bucket of all zones."""

from typing import cast

from aws_cdk import CfnElement, CfnOutput
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.alarms import ABOVE, BELOW, MINUTE, Alarms
from infra.stacks.context import Deployment
from infra.stacks.generator import Generator
from infra.stacks.infrastructure_stack import InfrastructureStack
from infra.stacks.regional_stack import RegionalStack
from infra.stacks.secrets import let_read
from infra.stacks.storage import PrivateBucket, zones_lifecycle

_ARCHIVE = "archive"


class ClickstreamLambdaStack(RegionalStack):
    """Deployed second, destroyed first; the bucket and what it holds stay."""

    def __init__(
        self, scope: Construct, construct_id: str, *, deployment: Deployment, infrastructure: InfrastructureStack
    ) -> None:
        super().__init__(scope, construct_id, deployment=deployment, description="Clickstream: generator and storage")
        bucket = PrivateBucket(
            self,
            "Storage",
            name=names.data_bucket(deployment.account, deployment.region),
            lifecycle=zones_lifecycle(),
        ).bucket
        url = f"s3://{bucket.bucket_name}"
        ssm.StringParameter(self, "StorageUrlParameter", parameter_name=names.STORAGE_URL_PARAMETER, string_value=url)
        kafka = infrastructure.kafka
        secrets = infrastructure.secrets
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "KAFKA_CREDENTIALS_SECRET": secrets.kafka_generator,
            "ARCHIVE_URL": f"{url}/{_ARCHIVE}",
        }
        if kafka.ca_parameter is not None:
            environment["KAFKA_CA_PARAMETER"] = kafka.ca_parameter
        generator = Generator(
            self,
            "Generator",
            network=infrastructure.network,
            group=infrastructure.generator_group,
            environment=environment,
        )
        generator.role.add_to_policy(
            iam.PolicyStatement(actions=["s3:PutObject"], resources=[bucket.arn_for_objects(f"{_ARCHIVE}/*")])
        )
        bucket_id = self.get_logical_id(cast("CfnElement", bucket.node.default_child))
        acknowledge(
            generator.role,
            {
                f"IAM5[Resource::<{bucket_id}.Arn>/{_ARCHIVE}/*]": "The generator "
                "writes each minute as a new object below the archive, and nothing else."
            },
        )
        let_read(generator.role, secrets.kafka_generator, encryption_key=secrets.kafka_encryption_key)
        if kafka.ca_parameter is not None:
            authority = self.format_arn(service="ssm", resource=f"parameter{kafka.ca_parameter}")
            generator.role.add_to_policy(iam.PolicyStatement(actions=["ssm:GetParameter"], resources=[authority]))
        self._alarms(generator, infrastructure)
        outputs = {
            "BucketName": bucket.bucket_name,
            "StorageUrl": url,
            "GeneratorFunctionName": generator.function.function_name,
            "GeneratorDeadLetterQueueUrl": generator.failures.queue_url,
            "GeneratorLogGroup": generator.log.log_group_name,
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)

    def _alarms(self, generator: Generator, infrastructure: InfrastructureStack) -> None:
        alarms = Alarms(self, "Alarms", topic=infrastructure.alarm_topic)
        alarms.add(
            "GeneratorFails",
            generator.function.metric_errors(period=MINUTE),
            ABOVE,
            0,
            minutes=3,
            silence_alarms=False,
            description="The generator fails minute after minute: Kafka can't be reached, or S3 refuses the archive.",
        )
        alarms.add(
            "GeneratorSilent",
            generator.function.metric_invocations(period=MINUTE),
            BELOW,
            1,
            minutes=5,
            silence_alarms=True,
            description="The generator is not called: EventBridge's rule is disabled, or Lambda has no room for it.",
        )
        alarms.add(
            "GeneratorGaveUp",
            generator.failures.metric_approximate_number_of_messages_visible(
                period=MINUTE, statistic=cloudwatch.Stats.MAXIMUM
            ),
            ABOVE,
            0,
            minutes=1,
            silence_alarms=False,
            description="Minutes wait in the dead letter queue: they are archived or not, but Kafka lacks them.",
        )
