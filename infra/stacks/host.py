"""The EC2 host: Docker, started from `docker/`, with a disk for data that outlives it."""

import base64
from collections.abc import Mapping
from pathlib import Path

from aws_cdk import Acknowledgment, RemovalPolicy, Size, Stack, Validations
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.stacks import names
from infra.stacks.acknowledgements import acknowledge
from infra.stacks.network import Network
from infra.stacks.profile import HostSize
from infra.stacks.source import source_asset

_BOOT = Path(__file__).with_name("boot")
_UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
_CONTAINERS_HOPS = 2


class Host(Construct):
    """The instance, its disks, its address, and what it is told at each start.

    What changes from one deployment to the next (source, environment) is in SSM parameters, never in the user data, and
    the image is chosen when the instance is launched: so no deployment replaces the instance.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        network: Network,
        size: HostSize,
        allowed_cidr: str,
        role: iam.Role,
        group: ec2.SecurityGroup,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, construct_id)
        subnet = network.vpc.public_subnets[0]
        volume = ec2.Volume(
            self,
            "Data",
            availability_zone=subnet.availability_zone,
            size=Size.gibibytes(size.data_gib),
            volume_type=ec2.EbsDeviceVolumeType.GP3,
            encrypted=True,
            removal_policy=RemovalPolicy.RETAIN,
        )
        self.instance = ec2.Instance(
            self,
            "Instance",
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[subnet]),
            private_ip_address=names.HOST_PRIVATE_IP,
            instance_type=ec2.InstanceType(size.instance_type),
            machine_image=ec2.MachineImage.resolve_ssm_parameter_at_launch(_UBUNTU),
            role=role,
            security_group=group,
            user_data=_user_data(region=Stack.of(self).region, volume_id=volume.volume_id),
            http_tokens=ec2.HttpTokens.REQUIRED,
            http_put_response_hop_limit=_CONTAINERS_HOPS,
            detailed_monitoring=True,
            propagate_tags_to_volume_on_creation=True,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/sda1",
                    volume=ec2.BlockDeviceVolume.ebs(
                        size.root_gib, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3
                    ),
                )
            ],
        )
        ec2.CfnVolumeAttachment(
            self,
            "DataAttachment",
            instance_id=self.instance.instance_id,
            volume_id=volume.volume_id,
            device="/dev/sdf",
        )
        self.address = ec2.CfnEIP(self, "Address", domain="vpc", instance_id=self.instance.instance_id).ref
        for service, port in {"Airflow": names.AIRFLOW_PORT, "Grafana": names.GRAFANA_PORT}.items():
            group.add_ingress_rule(
                ec2.Peer.ipv4(allowed_cidr), ec2.Port.tcp(port), f"{service}, from the allowed network"
            )
        self._tell(environment)
        acknowledge(
            self.instance,
            {
                "EC29": "One host is what the profile is about. Its data lies on a volume that outlives it, and a "
                "protected instance would make tearing down fail half-way."
            },
        )
        Validations.of(self.instance).acknowledge(
            Acknowledgment(
                id="CloudFormation-Validate::E1152",
                reason="EC2 resolves the parameter when it launches the instance, so that no newer image replaces it.",
            )
        )

    def _tell(self, environment: Mapping[str, str]) -> None:
        source = source_asset(self, "Source")
        ssm.StringParameter(
            self, "SourceParameter", parameter_name=names.SOURCE_PARAMETER, string_value=source.s3_object_url
        )
        ssm.StringParameter(
            self,
            "EnvironmentParameter",
            parameter_name=names.HOST_ENVIRONMENT_PARAMETER,
            string_value="".join(
                f"{name}={value}\n"
                for name, value in {**environment, "WEB_HOST": self.address, "REVISION": source.asset_hash}.items()
            ),
        )


def _user_data(*, region: str, volume_id: str) -> ec2.UserData:
    fetch = base64.b64encode((_BOOT / "fetch.py").read_bytes()).decode()
    commands = ec2.UserData.for_linux()
    commands.add_commands(
        f"REGION={region}",
        f"VOLUME={volume_id}",
        f"FETCH={fetch}",
        (_BOOT / "user_data.sh").read_text(encoding="utf-8"),
    )
    return commands
