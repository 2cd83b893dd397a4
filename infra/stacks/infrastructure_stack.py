"""The stack of everything that stays: network, host, database, secrets; managed services where the profile has them."""

import os
from dataclasses import dataclass

from aws_cdk import CfnOutput
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra import periods
from infra.stacks import names
from infra.stacks.alarms import ABOVE, BELOW, MINUTE, Alarms, AlarmTopic
from infra.stacks.broker import ManagedBroker
from infra.stacks.context import Deployment
from infra.stacks.database import Database
from infra.stacks.host import Host
from infra.stacks.host_role import HostRole
from infra.stacks.managed_airflow import ManagedAirflow
from infra.stacks.network import Network
from infra.stacks.profile import ManagedServices
from infra.stacks.regional_stack import RegionalStack
from infra.stacks.secrets import Secrets
from infra.stacks.spark import ManagedSpark

_GIB = 1024**3
_LEAST_FREE_STORAGE = 5 * _GIB


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """Where a client finds Kafka.

    Attributes:
        bootstrap_servers: host:port, separated by commas.
        group: the brokers' security group.
        port: of the listener with SASL/SCRAM over TLS.
        ca_parameter: SSM parameter with the CA's certificate, or None where a public CA signs.
    """

    bootstrap_servers: str
    group: ec2.SecurityGroup
    port: int
    ca_parameter: str | None


class InfrastructureStack(RegionalStack):
    """Deployed first, destroyed last. What the Lambda's stack needs of it is in its attributes."""

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(
            scope, construct_id, deployment=deployment, description="Clickstream: network, host, database, secrets"
        )
        profile = deployment.profile
        self.network = Network(
            self,
            "Network",
            zones=profile.zones,
            function_zones=profile.function_zones,
            with_managed=profile.managed is not None,
        )
        self.generator_group = self.network.group("GeneratorGroup", description="The Lambda that makes events")
        host_group = self.network.group("HostGroup", description="The host", allow_all_outbound=True)
        self.database = Database(self, "Database", network=self.network, size=profile.database)
        self.database.allow_from(host_group, "The host")
        self.alarm_topic = AlarmTopic(self, "AlarmTopic", email=deployment.alarm_email).topic
        if profile.managed is None:
            self.secrets = Secrets(self, "Secrets", kafka_encryption_key=None)
            ssm.StringParameter(
                self,
                "KafkaAuthority",
                parameter_name=names.KAFKA_CA_PARAMETER,
                description="Certificate of the authority of the host's broker, which the host writes at each start",
                string_value="The host has not written it yet.",
            )
            self.kafka = Kafka(
                bootstrap_servers=f"{names.HOST_PRIVATE_IP}:{names.KAFKA_PORT}",
                group=host_group,
                port=names.KAFKA_PORT,
                ca_parameter=names.KAFKA_CA_PARAMETER,
            )
            airflow = None
        else:
            self.kafka, airflow = self._managed(profile.managed, host_group)
        self._join_generator([host_group] if airflow is None else [host_group, airflow.group])
        role = HostRole(
            self,
            "HostRole",
            secrets=self.secrets,
        ).role
        instance = self.database.instance
        reader = self.database.reader or instance
        host = Host(
            self,
            "Host",
            network=self.network,
            size=profile.host,
            allowed_cidr=deployment.allowed_cidr,
            role=role,
            group=host_group,
            environment={
                "AWS_DEFAULT_REGION": deployment.region,
                "HOST_ADDRESS": names.HOST_PRIVATE_IP,
                "DATABASE_HOST": instance.db_instance_endpoint_address,
                **periods.given(os.environ),
            },
        )
        self._alarms(host)
        outputs = {
            "HostInstanceId": host.instance.instance_id,
            "HostPrivateIp": names.HOST_PRIVATE_IP,
            "DatabaseEndpoint": instance.db_instance_endpoint_address,
            "DatabasePort": instance.db_instance_endpoint_port,
            "DatabaseReaderEndpoint": reader.db_instance_endpoint_address,
            "DatabaseMasterSecretArn": self.database.master.secret_arn,
            "KafkaBootstrapServers": self.kafka.bootstrap_servers,
            "AirflowUrl": f"http://{host.address}:{names.AIRFLOW_PORT}"
            if airflow is None
            else f"https://{airflow.environment.attr_webserver_url}",
            "GrafanaUrl": f"http://{host.address}:{names.GRAFANA_PORT}",
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)

    def _managed(self, services: ManagedServices, host_group: ec2.SecurityGroup) -> tuple[Kafka, ManagedAirflow]:
        key = kms.Key(
            self,
            "KafkaUsersKey",
            description="Encrypts the SCRAM users of MSK, which takes no secret without a key of the account",
            enable_key_rotation=True,
        )
        self.secrets = Secrets(self, "Secrets", kafka_encryption_key=key)
        broker = ManagedBroker(
            self,
            "Broker",
            network=self.network,
            services=services,
            secrets=self.secrets,
        )
        spark = ManagedSpark(self, "Spark", network=self.network, services=services)
        airflow = ManagedAirflow(
            self, "Airflow", network=self.network, services=services, spark=spark, secrets=self.secrets
        )
        self.database.allow_from(airflow.group, "Workers of Airflow")
        for group, who in {host_group: "The host", airflow.group: "Workers of Airflow"}.items():
            broker.group.connections.allow_from(group, ec2.Port.tcp(names.MSK_PORT), who)
        kafka = Kafka(
            bootstrap_servers=broker.bootstrap_servers, group=broker.group, port=names.MSK_PORT, ca_parameter=None
        )
        return kafka, airflow

    def _join_generator(self, others: list[ec2.SecurityGroup]) -> None:
        group = self.generator_group
        group.connections.allow_to(self.kafka.group, ec2.Port.tcp(self.kafka.port), "The generator, to Kafka")
        group.add_egress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(names.HTTPS_PORT), "S3: its gateway endpoint is the only way out"
        )
        self.network.add_private_way_to(
            ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
            construct_id="SecretsManager",
            users=[group, self.database.rotation_group, *others],
        )
        if self.kafka.ca_parameter is not None:
            self.network.add_private_way_to(
                ec2.InterfaceVpcEndpointAwsService.SSM, construct_id="SystemsManager", users=[group, *others]
            )

    def _alarms(self, host: Host) -> None:
        alarms = Alarms(self, "Alarms", topic=self.alarm_topic)
        alarms.add(
            "HostFailed",
            cloudwatch.Metric(
                namespace="AWS/EC2",
                metric_name="StatusCheckFailed",
                dimensions_map={"InstanceId": host.instance.instance_id},
                statistic="Maximum",
                period=MINUTE,
            ),
            ABOVE,
            0,
            minutes=3,
            silence_alarms=True,
            description="The host fails EC2's checks or is stopped: nothing is drained, and Prometheus is gone too.",
        )
        alarms.add(
            "DatabaseStorageLow",
            self.database.instance.metric_free_storage_space(statistic="Minimum", period=MINUTE),
            BELOW,
            _LEAST_FREE_STORAGE,
            minutes=5,
            silence_alarms=True,
            description="The database has less than 5 GiB left, or tells nothing: it stops when the storage is full.",
        )
