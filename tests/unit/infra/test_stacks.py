"""What matters in the templates, in both profiles. That cdk-nag is clean is shown by their being there at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clickstream.retention import Retention

PERIODS = {name: field.default for name, field in Retention.model_fields.items()}
ALLOWED = "203.0.113.4/32"
WORLD = {"0.0.0.0/0", "::/0"}
INFRASTRUCTURE, GENERATOR = STACKS = ("InfrastructureStack", "ClickstreamLambdaStack")
ANYTHING = object()
UNTAGGABLE = {
    "AWS::EC2::Route",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::EC2::VolumeAttachment",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::Policy",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::Permission",
    "AWS::MSK::BatchScramSecret",
    "AWS::MSK::Configuration",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::SecretsManager::RotationSchedule",
    "AWS::SecretsManager::SecretTargetAttachment",
    "Custom::AWS",
}


def is_like(found: Any, wanted: Any) -> bool:
    """Whether it is what is wanted: an object may have more than that, a list may not."""
    if wanted is ANYTHING:
        return found is not None
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(is_like(found.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(is_like, found, wanted))
    return bool(found == wanted)


class Stack:
    """One template."""

    def __init__(self, template: dict[str, Any]) -> None:
        self._resources = template["Resources"]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: resource for name, resource in self._resources.items() if resource["Type"] == kind}

    def has(self, kind: str, wanted: dict[str, Any]) -> bool:
        """Whether one of its resources is like this."""
        return any(is_like(resource, wanted) for resource in self.of_type(kind).values())

    def has_properties(self, kind: str, wanted: dict[str, Any]) -> bool:
        return self.has(kind, {"Properties": wanted})


class Assembly:
    """The templates of one profile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts = {stack: (folder / f"{stack}.template.json").read_text(encoding="utf-8") for stack in STACKS}
        self.json = {stack: json.loads(text) for stack, text in self.texts.items()}
        self.infrastructure, self.generator = Stack(self.json[INFRASTRUCTURE]), Stack(self.json[GENERATOR])

    def resources(self, *types: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and properties of all resources, or of those of some types."""
        for template in self.json.values():
            for name, resource in template["Resources"].items():
                if not types or resource["Type"] in types:
                    yield name, resource.get("Properties", {})

    def rules(self, direction: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rules of all security groups, with the name of the group or of the rule."""
        for name, group in self.resources("AWS::EC2::SecurityGroup"):
            for rule in group.get(f"SecurityGroup{direction}", []):
                yield name, rule
        yield from self.resources(f"AWS::EC2::SecurityGroup{direction}")


@pytest.fixture(scope="module", params=["small", "scaled"])
def assembly(request: pytest.FixtureRequest, templates: dict[str, Path]) -> Assembly:
    return Assembly(templates[request.param])


@pytest.fixture(scope="module")
def small(templates: dict[str, Path]) -> Assembly:
    return Assembly(templates["small"])


@pytest.fixture(scope="module")
def scaled(templates: dict[str, Path]) -> Assembly:
    return Assembly(templates["scaled"])


def test_only_the_web_ports_are_open_and_only_to_the_allowed_network(assembly: Assembly) -> None:
    by_address = {
        (rule.get("CidrIp") or rule.get("CidrIpv6"), rule.get("FromPort"), rule.get("ToPort"))
        for _, rule in assembly.rules("Ingress")
        if "SourceSecurityGroupId" not in rule
    }
    assert by_address == {(ALLOWED, 8080, 8080), (ALLOWED, 3000, 3000)}


def test_there_is_no_ssh(assembly: Assembly) -> None:
    for name, rule in assembly.rules("Ingress"):
        if rule["IpProtocol"] == "-1" or rule["FromPort"] <= 22 <= rule["ToPort"]:
            assert rule["SourceSecurityGroupId"] == rule["GroupId"], f"{name} opens port 22"
    for _, instance in assembly.resources("AWS::EC2::Instance"):
        assert "KeyName" not in instance


def test_what_can_reach_the_internet_is_known(assembly: Assembly) -> None:
    anywhere = {(name, rule.get("FromPort")) for name, rule in assembly.rules("Egress") if rule.get("CidrIp") in WORLD}
    groups = {(name.removeprefix("Network").partition("Group")[0], port) for name, port in anywhere}
    assert groups - {("Spark", 443), ("Airflow", None)} == {("Host", None), ("Generator", 443)}


def test_kafka_on_the_host_is_reached_by_the_generator_alone(small: Assembly) -> None:
    sources = [rule["SourceSecurityGroupId"] for _, rule in small.rules("Ingress") if rule.get("FromPort") == 9094]
    assert len(sources) == 1
    assert "GeneratorGroup" in json.dumps(sources)


def test_what_the_host_publishes_goes_with_its_stack(small: Assembly) -> None:
    assert small.infrastructure.has("AWS::SSM::Parameter", {"Properties": {"Name": "/clickstream/kafka-ca"}})


def test_only_named_groups_reach_the_database(assembly: Assembly) -> None:
    allowed = [rule for _, rule in assembly.rules("Ingress") if rule.get("FromPort") == 5432]
    sources = {json.dumps(rule["SourceSecurityGroupId"]) for rule in allowed}
    groups = {text.partition("Network")[2].partition("Group")[0] for text in sources}
    assert groups - {"Airflow"} == {"Host", "Rotation"}


def test_whoever_uses_a_service_with_an_endpoint_may_do_so(assembly: Assembly) -> None:
    # The endpoint answers to the service's name in the whole network, also where there is another way to it.
    sources: dict[str, set[str]] = {}
    for name, rule in assembly.rules("Ingress"):
        if "EndpointGroup" in name:
            source = json.dumps(rule["SourceSecurityGroupId"]).partition("Network")[2].partition("Group")[0]
            sources.setdefault(name.partition("EndpointGroup")[0].removeprefix("Network"), set()).add(source)
    airflow = {"Airflow"} if any(assembly.resources("AWS::MWAA::Environment")) else set()
    assert sources.pop("SecretsManager") == {"Generator", "Rotation", "Host"} | airflow
    assert sources == ({} if airflow else {"SystemsManager": {"Generator", "Host"}})


def test_the_host_asks_for_tokens_and_keeps_its_data(assembly: Assembly) -> None:
    assert assembly.infrastructure.has_properties(
        "AWS::EC2::Instance",
        {
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
            "PrivateIpAddress": "10.20.0.10",
        },
    )
    for _, instance in assembly.resources("AWS::EC2::Instance"):
        assert all(device["Ebs"]["Encrypted"] for device in instance["BlockDeviceMappings"])
    assert assembly.infrastructure.has(
        "AWS::EC2::Volume", {"DeletionPolicy": "Retain", "Properties": {"Encrypted": True}}
    )


def test_a_new_source_or_setting_does_not_touch_the_instance(assembly: Assembly) -> None:
    ((_, instance),) = assembly.resources("AWS::EC2::Instance")
    assert instance["ImageId"].startswith("resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/")
    (source,) = [
        parameter["Value"]
        for _, parameter in assembly.resources("AWS::SSM::Parameter")
        if parameter["Name"] == "/clickstream/source"
    ]
    digest = source.rpartition("/")[2].removesuffix(".zip")
    assert digest not in json.dumps(instance)
    assert "Database" not in json.dumps(instance["UserData"])


def test_the_database_is_private_encrypted_and_speaks_tls_only(assembly: Assembly) -> None:
    assert assembly.infrastructure.has_properties("AWS::RDS::DBParameterGroup", {"Parameters": {"rds.force_ssl": "1"}})
    databases = dict(assembly.resources("AWS::RDS::DBInstance"))
    for database in databases.values():
        assert database["PubliclyAccessible"] is False
    (main,) = [database for database in databases.values() if "SourceDBInstanceIdentifier" not in database]
    assert main["StorageEncrypted"] is True
    assert main["EngineVersion"].split(".")[0] == "16"
    assert main["BackupRetentionPeriod"] == PERIODS["database_snapshots_days"]
    assert "Parameters" in main["DBParameterGroupName"]["Ref"]
    assert assembly.infrastructure.has(
        "AWS::RDS::DBInstance", {"DeletionPolicy": "Snapshot", "UpdateReplacePolicy": "Snapshot"}
    )
    assert assembly.infrastructure.has_properties(
        "AWS::SecretsManager::RotationSchedule",
        {"HostedRotationLambda": {"RotationType": "PostgreSQLSingleUser"}},
    )


def test_every_secret_is_generated_and_none_is_in_a_template(assembly: Assembly) -> None:
    secrets = dict(assembly.resources("AWS::SecretsManager::Secret"))
    assert len(secrets) == 14
    for secret in secrets.values():
        assert secret["GenerateSecretString"]["PasswordLength"] >= 30
        assert "SecretString" not in secret
    (password,) = [
        database["MasterUserPassword"]
        for _, database in assembly.resources("AWS::RDS::DBInstance")
        if "MasterUserPassword" in database
    ]
    assert "{{resolve:secretsmanager:" in json.dumps(password)


def test_buckets_are_private_kept_and_tls_only(assembly: Assembly) -> None:
    buckets = dict(assembly.resources("AWS::S3::Bucket"))
    policies = [policy for _, policy in assembly.resources("AWS::S3::BucketPolicy")]
    assert len(buckets) == len(policies)
    for bucket in buckets.values():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    for policy in policies:
        statements = policy["PolicyDocument"]["Statement"]
        assert any(
            statement["Effect"] == "Deny"
            and statement["Action"] == "s3:*"
            and statement["Principal"] == {"AWS": "*"}
            and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            for statement in statements
        )
        assert all(statement["Effect"] == "Deny" for statement in statements)
    assert assembly.generator.has("AWS::S3::Bucket", {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"})


def test_nothing_is_expired_behind_the_ledger(assembly: Assembly) -> None:
    (bucket,) = assembly.generator.of_type("AWS::S3::Bucket").values()
    rules = {rule["Id"]: rule for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]}
    assert {name: rule["Prefix"] for name, rule in rules.items() if "ExpirationInDays" in rule} == {
        "archive": "archive/"
    }
    assert rules["archive"]["ExpirationInDays"] == PERIODS["archive_days"]
    (transition,) = rules["archive"]["Transitions"]
    assert transition["TransitionInDays"] == PERIODS["archive_infrequent_days"]
    removed = rules["replaced-and-deleted"]["NoncurrentVersionExpiration"]["NoncurrentDays"]
    assert removed == PERIODS["replaced_objects_days"]
    assert removed >= PERIODS["database_snapshots_days"]
    unfinished = rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"]
    assert unfinished["DaysAfterInitiation"] == PERIODS["unfinished_uploads_days"]


NARROWEST = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
    "s3:GetAccountPublicAccessBlock",
    "logs:DescribeLogGroups",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:PutMetricData",
}


def test_roles_may_do_what_they_do_and_no_more(assembly: Assembly) -> None:
    for name, policy in assembly.resources("AWS::IAM::Policy"):
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action], name
            if statement.get("Resource") == "*":
                assert set(actions) <= NARROWEST, name


def test_the_generator_is_called_each_minute_and_its_failures_are_kept(assembly: Assembly) -> None:
    generator = assembly.generator
    assert generator.has_properties("AWS::Events::Rule", {"ScheduleExpression": "rate(1 minute)", "State": "ENABLED"})
    ((_, rule),) = assembly.resources("AWS::Events::Rule")
    (target,) = rule["Targets"]
    assert target["RetryPolicy"]["MaximumRetryAttempts"] == 2
    assert "DeadLetterConfig" in target
    assert generator.has_properties(
        "AWS::Lambda::Function",
        {
            "Runtime": "python3.11",
            "ReservedConcurrentExecutions": 2,
            "DeadLetterConfig": ANYTHING,
            "Timeout": 90,
            "MemorySize": 512,
        },
    )
    assert generator.has_properties(
        "AWS::Logs::LogGroup", {"LogGroupName": "/aws/lambda/clickstream-generator", "RetentionInDays": 14}
    )


def test_the_generator_gets_names_of_secrets_and_no_secret(small: Assembly, scaled: Assembly) -> None:
    def environment(assembly: Assembly) -> dict[str, Any]:
        (function,) = assembly.generator.of_type("AWS::Lambda::Function").values()
        variables: dict[str, Any] = function["Properties"]["Environment"]["Variables"]
        return variables

    (bucket,) = small.generator.of_type("AWS::S3::Bucket")
    assert environment(small) == {
        "KAFKA_BOOTSTRAP_SERVERS": "10.20.0.10:9094",
        "KAFKA_CREDENTIALS_SECRET": "clickstream/kafka/generator",
        "KAFKA_CA_PARAMETER": "/clickstream/kafka-ca",
        "ARCHIVE_URL": {"Fn::Join": ["", ["s3://", {"Ref": bucket}, "/archive"]]},
    }
    managed = environment(scaled)
    assert managed["KAFKA_CREDENTIALS_SECRET"] == "AmazonMSK_clickstream_generator"  # noqa: S105 - a name
    assert "KAFKA_CA_PARAMETER" not in managed


def test_what_is_unheard_without_the_host_has_an_alarm(assembly: Assembly) -> None:
    alarms = [alarm for _, alarm in assembly.resources("AWS::CloudWatch::Alarm")]
    assert {(alarm["MetricName"], alarm["TreatMissingData"]) for alarm in alarms} == {
        ("StatusCheckFailed", "breaching"),
        ("FreeStorageSpace", "breaching"),
        ("Errors", "notBreaching"),
        ("Invocations", "breaching"),
        ("ApproximateNumberOfMessagesVisible", "notBreaching"),
    }
    assert all("AlarmTopic" in json.dumps(alarm["AlarmActions"]) for alarm in alarms)
    ((_, policy),) = assembly.resources("AWS::SNS::TopicPolicy")
    allowed = [statement for statement in policy["PolicyDocument"]["Statement"] if statement["Effect"] == "Allow"]
    assert [statement["Principal"] for statement in allowed] == [{"Service": "cloudwatch.amazonaws.com"}]
    assert assembly.infrastructure.has_properties(
        "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "ops@example.org"}
    )


def test_everything_that_can_carry_the_tag_carries_it(assembly: Assembly) -> None:
    for template in assembly.json.values():
        for name, resource in template["Resources"].items():
            if resource["Type"] in UNTAGGABLE:
                continue
            tags = resource["Properties"].get("Tags", [])
            pairs = tags.items() if isinstance(tags, dict) else ((tag["Key"], tag["Value"]) for tag in tags)
            assert ("clickstream:deployment", "clickstream") in set(pairs), f"{name} ({resource['Type']})"


@pytest.mark.parametrize(
    ("stack", "outputs"),
    [
        (
            "InfrastructureStack",
            """HostInstanceId HostPrivateIp DatabaseEndpoint DatabasePort DatabaseReaderEndpoint
            DatabaseMasterSecretArn KafkaBootstrapServers AirflowUrl GrafanaUrl""",
        ),
        (
            "ClickstreamLambdaStack",
            "BucketName StorageUrl GeneratorFunctionName GeneratorDeadLetterQueueUrl GeneratorLogGroup",
        ),
    ],
)
def test_the_outputs_are_those_that_connections_are_made_of(assembly: Assembly, stack: str, outputs: str) -> None:
    made = {name for name in assembly.json[stack]["Outputs"] if not name.startswith("Exports")}
    assert made == set(outputs.split())


def test_the_small_profile_pays_for_one_host_and_no_gateway(small: Assembly) -> None:
    assert len(small.infrastructure.of_type("AWS::EC2::NatGateway")) == 0
    assert small.infrastructure.has_properties("AWS::EC2::Instance", {"InstanceType": "t3.large"})
    assert small.infrastructure.has_properties("AWS::RDS::DBInstance", {"MultiAZ": False})
    endpoints = [
        endpoint["SubnetIds"]
        for _, endpoint in small.resources("AWS::EC2::VPCEndpoint")
        if endpoint["VpcEndpointType"] == "Interface"
    ]
    assert [len(subnets) for subnets in endpoints] == [1, 1]


def test_the_scaled_profile_has_managed_services(scaled: Assembly) -> None:
    infrastructure = scaled.infrastructure
    assert infrastructure.has_properties(
        "AWS::MSK::Cluster",
        {
            "NumberOfBrokerNodes": 3,
            "ClientAuthentication": {"Sasl": {"Scram": {"Enabled": True}}, "Unauthenticated": {"Enabled": False}},
            "EncryptionInfo": {"EncryptionInTransit": {"ClientBroker": "TLS", "InCluster": True}},
        },
    )
    assert infrastructure.has_properties("AWS::EMRServerless::Application", {"Type": "SPARK"})
    assert infrastructure.has_properties("AWS::MWAA::Environment", {"WebserverAccessMode": "PRIVATE_ONLY"})
    assert infrastructure.has_properties("AWS::RDS::DBInstance", {"MultiAZ": True, "DeletionProtection": True})
    assert infrastructure.has_properties(
        "AWS::RDS::DBInstance", {"SourceDBInstanceIdentifier": ANYTHING, "PubliclyAccessible": False}
    )
    assert len(infrastructure.of_type("AWS::EC2::NatGateway")) == 1


def test_nothing_is_looked_up_in_an_account(assembly: Assembly) -> None:
    manifest = json.loads((assembly.folder / "manifest.json").read_text(encoding="utf-8"))
    assert "missing" not in manifest
    assert "us-east-1a" not in "".join(assembly.texts.values())


def test_the_source_of_the_host_is_whole_and_nothing_else(templates: dict[str, Path]) -> None:
    def source(folder: Path) -> str:
        files = json.loads((folder / "InfrastructureStack.assets.json").read_text(encoding="utf-8"))["files"]
        (path,) = [file["source"]["path"] for file in files.values() if file["displayName"] == "Host/Source"]
        return str(path)

    names = {profile: source(folder) for profile, folder in templates.items()}
    assert names["small"] == names["scaled"]
    content = templates["small"] / names["small"]
    for file in ("dags/drain_clickstream.py", "plugins/.airflowignore", "infra/monitoring/rules/partitions.yml",
                 "docs/runbooks/README.md", "lambda/clickstream_generator.py", "requirements.txt"):  # fmt: skip
        assert (content / file).is_file(), file
    assert not (content / "tests").exists()
    assert not (content / "infra" / "stacks").exists()
    assert not list(content.rglob("__pycache__"))
    assert not [path for path in content.iterdir() if path.name.startswith(".")]
