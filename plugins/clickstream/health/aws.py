"""How the checks of AWS reach it: shortly, since each has a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from clickstream.provisioning.names import DEPLOYMENT, TAG

if TYPE_CHECKING:
    from clickstream.health.check import Installation
    from clickstream.settings import Settings

SLOW_SECONDS = 8.0
DEADLINE_SECONDS = 25.0
OURS = [{"Name": f"tag:{TAG}", "Values": [DEPLOYMENT]}]
REACH = (
    "See whether this host reaches AWS's services, whether CLICKSTREAM_AWS_REGION is right, and what its role or"
    " credentials allow: `aws sts get-caller-identity`."
)

_CONFIG = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})


def client(installation: Installation, service: str) -> Any:  # noqa: ANN401 - boto3's clients have no types
    """A client of a service in the region of the settings."""
    return boto3.Session(region_name=installation.settings.aws_region).client(service, config=_CONFIG)


def is_configured(settings: Settings) -> bool:
    """Whether anything is on AWS."""
    return settings.aws_region is not None
