"""What a deployment is told: by the CDK context, refused by name when it is missing or wrong."""

from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from infra.stacks.profile import PROFILES, Profile

if TYPE_CHECKING:
    from aws_cdk import App

_WIDEST = 16


class ContextError(ValueError):
    """The context is missing something or holds a wrong value; the message names each, its value and the rule."""


def _known_profile(value: str) -> str:
    if value not in PROFILES:
        raise ValueError("there is no such profile")
    return value


def _narrow_network(value: str) -> str:
    network = IPv4Network(value)
    if network.prefixlen < _WIDEST:
        raise ValueError(f"it holds {network.num_addresses:,} addresses")
    return str(network)


class Deployment(BaseModel):
    """Size, place and owner of a deployment. Field descriptions are the `Allowed:` part of the refusals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    profile_name: Annotated[str, AfterValidator(_known_profile)] = Field(
        alias="profile", description=" or ".join(sorted(PROFILES))
    )
    account: str = Field(pattern=r"^[0-9]{12}$", description="the 12 digits of an AWS account")
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", description="a region, such as eu-central-1")
    allowed_cidr: Annotated[str, AfterValidator(_narrow_network)] = Field(
        alias="allowedCidr",
        description=f"the IPv4 network that may open Airflow and Grafana: 203.0.113.4/32, at widest a /{_WIDEST}",
    )
    alarm_email: str | None = Field(
        default=None,
        alias="alarmEmail",
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        description="nothing, or the address that alarms go to",
    )

    @classmethod
    def of(cls, app: "App") -> Self:
        """Read the context of an app.

        Raises:
            ContextError: something is missing or wrong.
        """
        names = {field.alias or name: field.description for name, field in cls.model_fields.items()}
        given = {name: app.node.try_get_context(name) for name in names}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise ContextError(
                "\n".join(
                    f"{name} is missing. Allowed: {names[name]}."
                    if problem["type"] == "missing"
                    else f"{name}={given[name]!r} is refused: {problem['msg']}. Allowed: {names[name]}."
                    for problem in error.errors(include_url=False)
                    for name in [str(problem["loc"][0])]
                )
            ) from error

    @property
    def profile(self) -> Profile:
        """The sizes that go with the profile's name."""
        return PROFILES[self.profile_name]
