"""Kafka on MSK, for the profile scaled: SASL/SCRAM over TLS, and nothing else."""

from aws_cdk import RemovalPolicy, Stack, custom_resources
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_msk as msk
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.log_groups import log_group
from infra.stacks.network import Network
from infra.stacks.profile import ManagedServices
from infra.stacks.secrets import Secrets

_PROPERTIES = {
    "auto.create.topics.enable": "false",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "message.max.bytes": "2097152",
}


class ManagedBroker(Construct):
    """The cluster, with one broker a zone, and its SCRAM users."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        network: Network,
        services: ManagedServices,
        secrets: Secrets,
    ) -> None:
        super().__init__(scope, construct_id)
        subnets = network.vpc.select_subnets(subnet_group_name="isolated").subnet_ids
        self.group = network.group("BrokerGroup", description="Brokers of Kafka")
        self.group.connections.allow_internally(ec2.Port.tcp(names.MSK_PORT), "Between brokers")
        configuration = msk.CfnConfiguration(
            self,
            "Configuration",
            name="clickstream",
            kafka_versions_list=[services.kafka_version],
            server_properties="".join(f"{name}={value}\n" for name, value in _PROPERTIES.items()),
        )
        self.cluster = msk.CfnCluster(
            self,
            "Cluster",
            cluster_name="clickstream",
            kafka_version=services.kafka_version,
            number_of_broker_nodes=len(subnets),
            broker_node_group_info=msk.CfnCluster.BrokerNodeGroupInfoProperty(
                instance_type=services.broker_type,
                client_subnets=subnets,
                security_groups=[self.group.security_group_id],
                storage_info=msk.CfnCluster.StorageInfoProperty(
                    ebs_storage_info=msk.CfnCluster.EBSStorageInfoProperty(volume_size=services.broker_storage_gib)
                ),
            ),
            configuration_info=msk.CfnCluster.ConfigurationInfoProperty(
                arn=configuration.attr_arn,
                revision=1,
            ),
            client_authentication=msk.CfnCluster.ClientAuthenticationProperty(
                sasl=msk.CfnCluster.SaslProperty(scram=msk.CfnCluster.ScramProperty(enabled=True)),
                unauthenticated=msk.CfnCluster.UnauthenticatedProperty(enabled=False),
            ),
            encryption_info=msk.CfnCluster.EncryptionInfoProperty(
                encryption_in_transit=msk.CfnCluster.EncryptionInTransitProperty(client_broker="TLS", in_cluster=True),
            ),
            logging_info=msk.CfnCluster.LoggingInfoProperty(
                broker_logs=msk.CfnCluster.BrokerLogsProperty(
                    cloud_watch_logs=msk.CfnCluster.CloudWatchLogsProperty(
                        enabled=True, log_group=log_group(self, "Log").log_group_name
                    )
                )
            ),
        )
        self.cluster.apply_removal_policy(RemovalPolicy.RETAIN)
        msk.CfnBatchScramSecret(
            self,
            "Users",
            cluster_arn=self.cluster.attr_arn,
            secret_arn_list=[user.secret_arn for user in secrets.kafka_users],
        )
        self.bootstrap_servers = self._bootstrap_servers()

    def _bootstrap_servers(self) -> str:
        """CloudFormation does not know the brokers' addresses; the API does."""
        call = custom_resources.AwsSdkCall(
            service="Kafka",
            action="getBootstrapBrokers",
            parameters={"ClusterArn": self.cluster.attr_arn},
            physical_resource_id=custom_resources.PhysicalResourceId.of("clickstream-bootstrap-servers"),
            output_paths=["BootstrapBrokerStringSaslScram"],
        )
        lookup = custom_resources.AwsCustomResource(
            self,
            "BootstrapServers",
            on_update=call,
            install_latest_aws_sdk=False,
            log_group=log_group(self, "BootstrapServersLog"),
            policy=custom_resources.AwsCustomResourcePolicy.from_sdk_calls(resources=[self.cluster.attr_arn]),
        )
        function = Stack.of(self).node.find_child(
            f"AWS{custom_resources.AwsCustomResource.PROVIDER_FUNCTION_UUID.replace('-', '')}"
        )
        acknowledge(
            function,
            {
                "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]": "The "
                "function is made by the CDK, runs while a stack is deployed, and asks MSK for its addresses.",
                "L1": "The function's runtime comes with the CDK's version.",
            },
        )
        return str(lookup.get_response_field("BootstrapBrokerStringSaslScram"))
