"""The stacks on an AWS account of the tests."""

from __future__ import annotations

import json

from clickstream.provisioning import assets, connections, provision
from clickstream.provisioning.deployment import Deployment, Place
from clickstream.provisioning.names import DEPLOYMENT, STACKS, TAG
from clickstream.provisioning.provision import Planned
from clickstream.provisioning.synthesis import Assembly
from tests.kit.aws import ACCOUNT, REGION, Account

LAMBDA_STACK = STACKS[1]
WRITER = {"username": "clickstream_writer", "password": "generated-by-secrets-manager"}
WANTED = Deployment(
    place=Place(account=ACCOUNT, region=REGION), profile="small", allowed_cidr="203.0.113.4/32", alarm_email=""
)
PLACE = WANTED.place


def upload(aws: Account, assembly: Assembly) -> None:
    """Put the stacks' templates and code into the account, and the secret that moto's CloudFormation doesn't make."""
    assets.ensure_bucket(PLACE)
    assets.upload(assembly, PLACE)
    aws.client("secretsmanager").create_secret(
        Name=connections.WRITER, SecretString=json.dumps(WRITER), Tags=[{"Key": TAG, "Value": DEPLOYMENT}]
    )


def deploy(assembly: Assembly, run: str = "run") -> list[Planned]:
    planned = [one.planned for one in provision.preview(assembly, PLACE, run=run)]
    for plan in planned:
        provision.deploy(assembly, PLACE, plan)
    return planned
