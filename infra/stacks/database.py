"""PostgreSQL 16 on RDS: private, encrypted, TLS forced, its master password rotated."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.network import Network
from infra.stacks.profile import DatabaseSize
from infra.stacks.retention import retention

_ROTATION = Duration.days(30)


class Database(Construct):
    """The instance, its parameters, the rotation, and a replica where the size has one.

    Deleting the stack takes a last snapshot. The master password is rotated by Secrets Manager's hosted rotation and
    not managed by RDS, because an instance whose password RDS manages can have no replica.
    """

    def __init__(self, scope: Construct, construct_id: str, *, network: Network, size: DatabaseSize) -> None:
        super().__init__(scope, construct_id)
        engine = rds.DatabaseInstanceEngine.postgres(version=rds.PostgresEngineVersion.VER_16)
        parameters = rds.ParameterGroup(
            self,
            "Parameters",
            engine=engine,
            description="PostgreSQL for the clickstream, TLS only",
            parameters={"rds.force_ssl": "1"},
        )
        self.group = network.group("DatabaseGroup", description="The database")
        self.master = rds.DatabaseSecret(
            self, "Master", username="clickstream_master", secret_name=names.DATABASE_MASTER
        )
        self.instance = rds.DatabaseInstance(
            self,
            "Instance",
            engine=engine,
            parameter_group=parameters,
            credentials=rds.Credentials.from_secret(self.master),
            database_name="clickstream",
            vpc=network.vpc,
            vpc_subnets=network.isolated,
            security_groups=[self.group],
            publicly_accessible=False,
            instance_type=ec2.InstanceType(size.instance_type),
            allocated_storage=size.storage_gib,
            max_allocated_storage=size.max_storage_gib,
            storage_type=rds.StorageType.GP3,
            storage_encrypted=True,
            multi_az=size.multi_az,
            ca_certificate=rds.CaCertificate.RDS_CA_RSA2048_G1,
            backup_retention=Duration.days(retention().database_snapshots),
            copy_tags_to_snapshot=True,
            deletion_protection=size.protected,
            removal_policy=RemovalPolicy.SNAPSHOT,
        )
        self._rotate_master(network)
        self.reader = self._replica(network, size) if size.replica else None
        acknowledge(
            self,
            {
                "RDS11": "The database is reached only from named security groups; another port would hide nothing "
                "from them and surprise people's clients."
            },
        )
        if not size.multi_az:
            acknowledge(
                self.instance,
                {
                    "RDS3": "The profile small has one host in one zone; a standby would double the database's price "
                    "and be of no use without it. Points in time can be restored."
                },
            )
        if not size.protected:
            acknowledge(
                self.instance,
                {
                    "RDS10": "The profile small is meant to be torn down in one step, which asks for the stack's name "
                    "and takes a last snapshot."
                },
            )

    def allow_from(self, group: ec2.ISecurityGroup, description: str) -> None:
        """Let a security group connect."""
        self.group.connections.allow_from(group, ec2.Port.tcp(names.POSTGRES_PORT), description)

    def _rotate_master(self, network: Network) -> None:
        self.rotation_group = network.group("RotationGroup", description="Rotation of the master password")
        self.rotation_group.connections.allow_to(self.group, ec2.Port.tcp(names.POSTGRES_PORT), "To the database")
        attached = self.instance.secret
        if attached is None:
            raise TypeError("An instance with a master password from a secret has that secret")
        attached.add_rotation_schedule(
            "Rotation",
            automatically_after=_ROTATION,
            hosted_rotation=secretsmanager.HostedRotation.postgre_sql_single_user(
                function_name="clickstream-database-rotation",
                vpc=network.vpc,
                vpc_subnets=network.functions,
                security_groups=[self.rotation_group],
                exclude_characters=" %+~`#$&*()|[]{}:;<>?!'/@\"\\",
            ),
        )

    def _replica(self, network: Network, size: DatabaseSize) -> rds.DatabaseInstanceReadReplica:
        reader = rds.DatabaseInstanceReadReplica(
            self,
            "Reader",
            source_database_instance=self.instance,
            instance_type=ec2.InstanceType(size.instance_type),
            vpc=network.vpc,
            vpc_subnets=network.isolated,
            security_groups=[self.group],
            publicly_accessible=False,
            ca_certificate=rds.CaCertificate.RDS_CA_RSA2048_G1,
            deletion_protection=size.protected,
            removal_policy=RemovalPolicy.DESTROY,
        )
        acknowledge(
            reader,
            {
                "RDS2": "A replica is encrypted as its source is, by the same key; RDS refuses to be told so.",
                "RDS3": "The replica serves Grafana alone, which can wait for another one.",
            },
        )
        return reader
