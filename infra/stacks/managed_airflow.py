"""Airflow on MWAA, for the profile scaled."""

from typing import cast

from aws_cdk import CfnElement, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_mwaa as mwaa
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.network import Network
from infra.stacks.profile import ManagedServices
from infra.stacks.secrets import Secrets, let_read
from infra.stacks.spark import ManagedSpark
from infra.stacks.storage import PrivateBucket

_NAME = "clickstream"
_ZONES = 2


class ManagedAirflow(Construct):
    """The environment, its role, and the bucket that it takes DAGs, plugins and requirements from.

    Its web server has an address in the VPC only: people reach it as they reach the VPC.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        network: Network,
        services: ManagedServices,
        spark: ManagedSpark,
        secrets: Secrets,
    ) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        self.files = PrivateBucket(
            self, "Files", name=f"clickstream-airflow-{stack.account}-{stack.region}", lifecycle=[]
        ).bucket
        self.group = network.group("AirflowGroup", description="Workers of Airflow", allow_all_outbound=True)
        self.group.connections.allow_internally(ec2.Port.all_traffic(), "Between components of Airflow")
        self.role = self._role(spark)
        let_read(self.role, secrets.kafka_pipeline, encryption_key=secrets.kafka_encryption_key)
        module = mwaa.CfnEnvironment.ModuleLoggingConfigurationProperty(enabled=True, log_level="INFO")
        self.environment = mwaa.CfnEnvironment(
            self,
            "Environment",
            name=_NAME,
            airflow_version=services.airflow_version,
            environment_class=services.airflow_class,
            source_bucket_arn=self.files.bucket_arn,
            dag_s3_path="dags",
            execution_role_arn=self.role.role_arn,
            webserver_access_mode="PRIVATE_ONLY",
            network_configuration=mwaa.CfnEnvironment.NetworkConfigurationProperty(
                security_group_ids=[self.group.security_group_id],
                subnet_ids=network.vpc.select_subnets(subnet_group_name="managed").subnet_ids[:_ZONES],
            ),
            logging_configuration=mwaa.CfnEnvironment.LoggingConfigurationProperty(
                dag_processing_logs=module,
                scheduler_logs=module,
                task_logs=module,
                webserver_logs=module,
                worker_logs=module,
            ),
            airflow_configuration_options={
                "core.sensitive_var_conn_names": "user_id,confirm",  # of erase_user: kept out of the audit log
                "secrets.backend": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
                "secrets.backend_kwargs": '{"connections_prefix": "clickstream/airflow/connections", '
                '"variables_prefix": null, "config_prefix": null}',
            },
        )
        self.environment.node.add_dependency(self.role)

    def _role(self, spark: ManagedSpark) -> iam.Role:
        stack = Stack.of(self)
        data = f"arn:{stack.partition}:s3:::{names.data_bucket(stack.account, stack.region)}"
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.CompositePrincipal(
                iam.ServicePrincipal("airflow.amazonaws.com"), iam.ServicePrincipal("airflow-env.amazonaws.com")
            ),
        )
        group_arn = stack.format_arn(service="logs", resource="log-group")
        queues = f"arn:{stack.partition}:sqs:{stack.region}:*:airflow-celery-*"
        secret = stack.format_arn(service="secretsmanager", resource="secret")
        allowed: dict[tuple[str, ...], list[str]] = {
            ("airflow:PublishMetrics",): [
                stack.format_arn(service="airflow", resource="environment", resource_name=_NAME)
            ],
            ("s3:GetObject",): [f"{self.files.bucket_arn}/*"],
            ("s3:ListBucket", "s3:GetBucketPublicAccessBlock"): [self.files.bucket_arn],
            ("s3:ListBucket",): [data],
            ("s3:GetAccountPublicAccessBlock", "logs:DescribeLogGroups", "cloudwatch:PutMetricData"): ["*"],
            (
                "logs:CreateLogStream",
                "logs:CreateLogGroup",
                "logs:PutLogEvents",
                "logs:GetLogEvents",
                "logs:GetLogRecord",
                "logs:GetLogGroupFields",
                "logs:GetQueryResults",
            ): [f"{group_arn}:airflow-{_NAME}-*"],
            (
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:GetQueueUrl",
                "sqs:ReceiveMessage",
                "sqs:SendMessage",
            ): [queues],
            ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"): [f"{data}/*"],
            ("secretsmanager:GetSecretValue",): [f"{secret}:{names.CONNECTIONS}"],
            ("emr-serverless:StartJobRun", "emr-serverless:GetApplication"): [spark.application.attr_arn],
            ("emr-serverless:GetJobRun", "emr-serverless:CancelJobRun"): [f"{spark.application.attr_arn}/jobruns/*"],
            ("iam:PassRole",): [spark.role.role_arn],
        }
        for actions, resources in allowed.items():
            role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=resources))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"],
                not_resources=[f"arn:{stack.partition}:kms:*:{stack.account}:key/*"],
                conditions={"StringLike": {"kms:ViaService": [f"sqs.{stack.region}.amazonaws.com"]}},
            )
        )
        below = "MWAA names what it makes after the environment, with parts that only it knows."
        ours = "Names below this prefix are made by the pipeline."
        where = f"{stack.region}:{stack.account}"
        files = stack.get_logical_id(cast("CfnElement", self.files.node.default_child))
        application = stack.get_logical_id(spark.application)
        acknowledge(
            role,
            {
                "IAM5[Resource::*]": "MWAA asks for these three rights, which have no narrower resource.",
                f"IAM5[Resource::<{files}.Arn>/*]": "The bucket exists for these files alone.",
                f"IAM5[Resource::arn:<AWS::Partition>:logs:{where}:log-group:airflow-{_NAME}-*]": below,
                f"IAM5[Resource::arn:<AWS::Partition>:sqs:{stack.region}:*:airflow-celery-*]": "The queue of an "
                "environment belongs to an account of MWAA.",
                f"IAM5[Resource::arn:<AWS::Partition>:s3:::{names.data_bucket(stack.account, stack.region)}/*]": ours,
                f"IAM5[Resource::arn:<AWS::Partition>:secretsmanager:{where}:secret:{names.CONNECTIONS}]": ours,
                f"IAM5[Resource::<{application}.Arn>/jobruns/*]": "EMR Serverless numbers the jobs.",
            },
        )
        return role
