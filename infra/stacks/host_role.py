"""What the host may do in the account."""

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.secrets import Secrets, let_read


class HostRole(Construct):
    """Reads its secrets and parameters, uses the bucket, and looks at what `check_health` asks about."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        secrets: Secrets,
    ) -> None:
        super().__init__(scope, construct_id)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name("AmazonSSMManagedInstanceCore")],
        )
        let_read(
            self.role,
            *secrets.names,
            names.DATABASE_MASTER,
            names.ALERTING,
            encryption_key=secrets.kafka_encryption_key,
        )
        for statement in self._statements():
            self.role.add_to_policy(statement)
        self._acknowledge()

    def _acknowledge(self) -> None:
        stack = Stack.of(self)
        place = f"{stack.region}:{stack.account}"
        below = "Rights below one prefix: the names are made by the deployment, or by the pipeline."
        wildcards = {
            f"s3:::{names.data_bucket(stack.account, stack.region)}/*": below,
            f"s3:::{names.assets_bucket(stack.account, stack.region)}/*": "The source, whose key is its hash.",
            f"ssm:{place}:parameter{names.PARAMETERS}": below,
            f"secretsmanager:{place}:secret:{names.CONNECTIONS}": below,
            f"events:{place}:rule/*": "CloudFormation names the rule of the other stack. It is reading alone.",
            f"rds:{place}:db:*": "check_health finds the databases by their tag. It is reading alone.",
        } | {
            f"cloudformation:{place}:stack/{name}/*": "CloudFormation adds a random part to a stack's name."
            for name in (names.INFRASTRUCTURE_STACK, names.LAMBDA_STACK)
        }
        acknowledge(
            self,
            {
                "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/AmazonSSMManagedInstanceCore]": "AWS keeps the "
                "rights that Session Manager and Run Command need in this policy; a copy would grow stale.",
                "IAM5[Resource::*]": "EC2 and CloudWatch tell of the whole account only. It is reading alone.",
            }
            | {f"IAM5[Resource::arn:<AWS::Partition>:{arn}]": reason for arn, reason in wildcards.items()},
        )

    def _statements(self) -> list[iam.PolicyStatement]:
        stack = Stack.of(self)
        bucket = stack.format_arn(
            service="s3", region="", account="", resource=names.data_bucket(stack.account, stack.region)
        )
        assets = stack.format_arn(
            service="s3", region="", account="", resource=names.assets_bucket(stack.account, stack.region)
        )

        def arn(service: str, resource: str) -> str:
            return str(stack.format_arn(service=service, resource=resource))

        allowed = {
            "s3:ListBucket": [bucket],
            "s3:GetObject": [f"{bucket}/*", f"{assets}/*"],
            "s3:PutObject": [f"{bucket}/*"],
            "s3:DeleteObject": [f"{bucket}/*"],
            "s3:AbortMultipartUpload": [f"{bucket}/*"],
            "ssm:GetParameter": [arn("ssm", f"parameter{names.PARAMETERS}")],
            "ssm:PutParameter": [arn("ssm", f"parameter{names.KAFKA_CA_PARAMETER}")],
            "secretsmanager:GetSecretValue": [
                f"{arn('secretsmanager', 'secret')}:{names.CONNECTIONS}",
            ],
            "cloudformation:DescribeStacks": [
                arn("cloudformation", f"stack/{name}/*") for name in (names.INFRASTRUCTURE_STACK, names.LAMBDA_STACK)
            ],
            "cloudwatch:GetMetricStatistics": ["*"],
            "events:DescribeRule": [arn("events", "rule/*")],
            "events:ListRuleNamesByTarget": [arn("events", "rule/*")],
            "ec2:DescribeInstances": ["*"],
            "ec2:DescribeInstanceStatus": ["*"],
            "rds:DescribeDBInstances": [arn("rds", "db:*")],
            "lambda:GetFunctionConfiguration": [f"{arn('lambda', 'function')}:{names.GENERATOR}"],
            "sqs:GetQueueAttributes": [arn("sqs", names.GENERATOR_FAILURES)],
            "sqs:GetQueueUrl": [arn("sqs", names.GENERATOR_FAILURES)],
        }
        return [iam.PolicyStatement(actions=[action], resources=where) for action, where in allowed.items()]
