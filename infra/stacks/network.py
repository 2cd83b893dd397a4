"""The network: one VPC whose databases, brokers and functions can't reach the internet, nor be reached from it."""

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from infra.stacks import names
from infra.stacks.log_groups import log_group

_SUBNET_MASK = 24


class Network(Construct):
    """VPC, subnets, way to S3, and a log of what was refused.

    The subnets `public` hold the host; `isolated` the database, the brokers and the Lambda; `managed`, which exist only
    where a service of AWS needs the internet (MWAA installs its requirements from there), go out through one NAT
    gateway. `functions` are the isolated subnets that Lambda uses: each has its own, paid end of an interface endpoint.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, zones: int, function_zones: int, with_managed: bool
    ) -> None:
        super().__init__(scope, construct_id)
        kinds = {"public": ec2.SubnetType.PUBLIC, "isolated": ec2.SubnetType.PRIVATE_ISOLATED}
        if with_managed:
            kinds["managed"] = ec2.SubnetType.PRIVATE_WITH_EGRESS
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(names.VPC_CIDR),
            max_azs=zones,
            nat_gateways=1 if with_managed else 0,
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name=name,
                    subnet_type=kind,
                    cidr_mask=_SUBNET_MASK,
                    map_public_ip_on_launch=False if kind is ec2.SubnetType.PUBLIC else None,
                )
                for name, kind in kinds.items()
            ],
        )
        self.isolated = ec2.SubnetSelection(subnet_group_name="isolated")
        self.functions = ec2.SubnetSelection(subnets=self.vpc.isolated_subnets[:function_zones])
        self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        self.vpc.add_flow_log(
            "RefusalsLog",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(log_group(self, "Refusals")),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )

    def group(self, construct_id: str, *, description: str, allow_all_outbound: bool = False) -> ec2.SecurityGroup:
        """A security group that lets nothing in, and out only where it says so."""
        return ec2.SecurityGroup(
            self,
            construct_id,
            vpc=self.vpc,
            description=description,
            allow_all_outbound=allow_all_outbound,
        )

    def add_private_way_to(
        self, service: ec2.InterfaceVpcEndpointAwsService, *, construct_id: str, users: list[ec2.SecurityGroup]
    ) -> None:
        """An interface endpoint, so that functions without internet reach a service of AWS.

        It answers to the service's name in the whole network, so that `users` must be all who use the service.
        """
        group = self.group(f"{construct_id}EndpointGroup", description=f"Endpoint of {construct_id}")
        self.vpc.add_interface_endpoint(
            construct_id, service=service, subnets=self.functions, security_groups=[group], open=False
        )
        for user in users:
            user.connections.allow_to(group, ec2.Port.tcp(names.HTTPS_PORT), f"To {construct_id}")
