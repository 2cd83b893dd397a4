"""A stack that asks CloudFormation, not an account, for the zones of its region."""

from aws_cdk import CliCredentialsStackSynthesizer, Environment, Fn, Stack
from constructs import Construct

from infra.stacks import names
from infra.stacks.context import Deployment

_ZONES = 3


class RegionalStack(Stack):
    """A stack whose assets go to the deployment's own bucket, so that no account needs a bootstrap."""

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment, description: str) -> None:
        super().__init__(
            scope,
            construct_id,
            description=description,
            env=Environment(account=deployment.account, region=deployment.region),
            synthesizer=CliCredentialsStackSynthesizer(
                file_assets_bucket_name=names.assets_bucket(deployment.account, deployment.region)
            ),
        )

    @property
    def availability_zones(self) -> list[str]:
        """The region's first zones, chosen by CloudFormation; a look-up would need an account."""
        return [Fn.select(index, Fn.get_azs(self.region)) for index in range(_ZONES)]
