"""What is deployed, where, and how the account is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from clickstream.errors import ProvisioningRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONFIG = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 5, "mode": "standard"})


@dataclass(frozen=True, kw_only=True)
class Place:
    """An account and a region, with the credentials that the AWS SDKs find by themselves.

    Attributes:
        account: Its 12 digits.
        region: Such as `eu-central-1`.
    """

    account: str
    region: str

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3's clients have no types
        """A client of one of AWS's services, with bounded times and retries."""
        return boto3.Session(region_name=self.region).client(service, config=_CONFIG)

    @property
    def assets_bucket(self) -> str:
        """The bucket that templates and code are uploaded to; the stacks name it too."""
        return f"clickstream-assets-{self.account}-{self.region}"

    @property
    def data_bucket(self) -> str:
        """The bucket of all zones."""
        return f"clickstream-data-{self.account}-{self.region}"

    def require_account(self) -> None:
        """Make sure that the credentials are those of the account.

        Raises:
            ProvisioningRefused: They are of another one.
        """
        found = self.client("sts").get_caller_identity()
        if found["Account"] != self.account:
            raise ProvisioningRefused(
                f"The credentials are of account {found['Account']} ({found['Arn']}), the form names {self.account}."
                " Correct the form, or start Airflow with the credentials of that account (AWS_PROFILE)."
            )


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What the CDK app is told.

    Attributes:
        place: Account and region.
        profile: `small` or `scaled`.
        allowed_cidr: The network that may open the web ports.
        alarm_email: Who gets the alarms; empty for nobody.
    """

    place: Place
    profile: str
    allowed_cidr: str
    alarm_email: str = ""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Deployment:
        """Read a form."""
        return cls(
            place=place_of(params),
            profile=str(params["profile"]),
            allowed_cidr=str(params["allowed_cidr"]),
            alarm_email=str(params["alarm_email"]),
        )

    @property
    def context(self) -> dict[str, str]:
        """The context of the CDK app."""
        context = {
            "profile": self.profile,
            "account": self.place.account,
            "region": self.place.region,
            "allowedCidr": self.allowed_cidr,
        }
        return context | ({"alarmEmail": self.alarm_email} if self.alarm_email else {})


def place_of(params: Mapping[str, Any]) -> Place:
    """Account and region of a form."""
    return Place(account=str(params["account"]), region=str(params["region"]))
