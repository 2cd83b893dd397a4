"""Spark on EMR Serverless, for the profile scaled."""

from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_emrserverless as emrserverless
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.network import Network
from infra.stacks.profile import ManagedServices

_IDLE_MINUTES = 15


class ManagedSpark(Construct):
    """An application that starts with a job and stops when idle; its jobs read and write files, nothing else."""

    def __init__(self, scope: Construct, construct_id: str, *, network: Network, services: ManagedServices) -> None:
        super().__init__(scope, construct_id)
        group = network.group("SparkGroup", description="Driver and executors of Spark")
        group.connections.allow_internally(ec2.Port.all_tcp(), "Between driver and executors")
        group.add_egress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(names.HTTPS_PORT), "S3: its gateway endpoint is the only way out"
        )
        self.application = emrserverless.CfnApplication(
            self,
            "Application",
            name="clickstream",
            type="SPARK",
            release_label=services.spark_release,
            architecture="X86_64",
            maximum_capacity=emrserverless.CfnApplication.MaximumAllowedResourcesProperty(
                cpu=f"{services.spark_max_cores} vCPU", memory=f"{services.spark_max_memory_gib} GB"
            ),
            auto_start_configuration=emrserverless.CfnApplication.AutoStartConfigurationProperty(enabled=True),
            auto_stop_configuration=emrserverless.CfnApplication.AutoStopConfigurationProperty(
                enabled=True, idle_timeout_minutes=_IDLE_MINUTES
            ),
            network_configuration=emrserverless.CfnApplication.NetworkConfigurationProperty(
                subnet_ids=network.vpc.select_subnets(subnet_group_name="isolated").subnet_ids,
                security_group_ids=[group.security_group_id],
            ),
        )
        self.role = iam.Role(self, "JobRole", assumed_by=iam.ServicePrincipal("emr-serverless.amazonaws.com"))
        stack = Stack.of(self)
        name = names.data_bucket(stack.account, stack.region)
        bucket = stack.format_arn(service="s3", region="", account="", resource=name)
        self.role.add_to_policy(iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket]))
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                resources=[f"{bucket}/*"],
            )
        )
        acknowledge(
            self.role,
            {f"IAM5[Resource::arn:<AWS::Partition>:s3:::{name}/*]": "The bucket exists for these files alone."},
        )
