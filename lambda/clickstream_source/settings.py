"""Settings of the sources, read from the environment and refused by name when they are wrong."""

import os
import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "GENERATOR_"
_BROKER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s,:\[\]]+):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65_535


class SettingsError(ValueError):
    """One or more settings are missing or wrong; the message names each, its value and what is allowed."""


def _broker_list(value: str) -> str:
    for broker in value.split(","):
        match = _BROKER.fullmatch(broker)
        if match is None or not 1 <= int(match["port"]) <= _MAX_PORT:
            raise ValueError(f"{broker!r} is not host:port")
    return value


def _archive_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.query or parts.fragment:
        raise ValueError("a query or fragment has no meaning here")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return value.rstrip("/")
    if parts.scheme == "s3" and parts.netloc:
        return value.rstrip("/")
    raise ValueError("it is neither a file nor an s3 URL")


ProducerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
EventsPerMinute = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class KafkaSettings(BaseSettings):
    """Where records go. Field descriptions are the `Allowed:` part of the refusals."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    bootstrap_servers: Annotated[str, AfterValidator(_broker_list)] = Field(
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        description="host:port of one or more brokers, separated by commas (`make env` prints it)",
    )
    topic: str = Field(
        default="clickstream-events",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        validation_alias="TOPIC",
        description="an existing topic: 1 to 249 of the characters A-Z a-z 0-9 . _ -",
    )
    delivery_timeout_seconds: float = Field(
        default=30,
        ge=1,
        le=600,
        allow_inf_nan=False,
        validation_alias="KAFKA_DELIVERY_TIMEOUT_SECONDS",
        description="1 to 600 seconds for reaching a broker, and again for its acknowledgement",
    )

    credentials_secret: str | None = Field(
        default=None,
        min_length=1,
        validation_alias="KAFKA_CREDENTIALS_SECRET",
        description='ARN or name of a secret of Secrets Manager, {"username": ..., "password": ...}; none where Kafka'
        " asks for no user",
    )
    credentials_file: Path | None = Field(
        default=None,
        validation_alias="KAFKA_CREDENTIALS_FILE",
        description="path of a file with the same content, instead of KAFKA_CREDENTIALS_SECRET",
    )
    ca_parameter: str | None = Field(
        default=None,
        min_length=1,
        validation_alias="KAFKA_CA_PARAMETER",
        description="name of an SSM parameter with the authority that signs the brokers' certificates, in PEM, only"
        " together with credentials; none where this system trusts it already, as with MSK",
    )
    ca_file: Path | None = Field(
        default=None,
        validation_alias="KAFKA_CA_FILE",
        description="path of a file with the same content, instead of KAFKA_CA_PARAMETER; only with credentials",
    )

    @field_validator("credentials_file", "ca_file")
    @classmethod
    def _one_source(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        other = {"credentials_file": "credentials_secret", "ca_file": "ca_parameter"}[str(info.field_name)]
        if file is not None and info.data.get(other) is not None:
            raise ValueError("it is given twice")
        return file

    @field_validator("ca_parameter", "ca_file")
    @classmethod
    def _only_with_credentials(cls, authority: object, info: ValidationInfo) -> object:
        if authority is not None and not (info.data.get("credentials_secret") or info.data.get("credentials_file")):
            raise ValueError("an authority without credentials")
        return authority

    @property
    def is_secured(self) -> bool:
        """Whether the brokers ask for a user, and show a certificate."""
        return self.credentials_secret is not None or self.credentials_file is not None

    @classmethod
    def load(cls, **overrides: str) -> Self:
        """Read the settings from the environment.

        Args:
            **overrides: values by environment name that win over the environment.

        Raises:
            SettingsError: a setting is missing or wrong.
        """
        try:
            return cls.model_validate(overrides)
        except ValidationError as error:
            raise SettingsError(_refusals(cls, error)) from error


class GeneratorSettings(KafkaSettings):
    """What the generator makes, how much of it, and where the archive is."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    archive_url: Annotated[str, AfterValidator(_archive_url)] = Field(
        validation_alias="ARCHIVE_URL",
        description="file:///absolute/folder or s3://bucket/prefix",
    )
    producer_id: ProducerId = Field(
        default="lambda-1",
        description="1 to 64 of the characters A-Z a-z 0-9 _ . -, the first a letter or digit",
    )
    events_per_minute: EventsPerMinute = Field(
        default=600,
        description="0 to 100000 events a minute, on average over a day",
    )
    day_night_amplitude: Rate = Field(
        default=0.6,
        description="0 (no day and night) to 1 (no events at the quietest minute)",
    )
    users: int = Field(default=5_000, ge=1, le=1_000_000, description="1 to 1000000 people who may visit")
    view_to_cart_rate: Rate = Field(
        default=0.18,
        description="0 to 1: the share of product views that put the product into the cart",
    )
    cart_to_purchase_rate: Rate = Field(
        default=0.45,
        description="0 to 1: the share of sessions with a cart that buy it",
    )
    seed: int = Field(default=1, ge=0, le=2**63 - 1, description="an integer from 0 to 2^63-1")

    @classmethod
    def load(cls, **overrides: str) -> Self:
        """Read the settings from the environment, where an unknown `GENERATOR_` name is refused too."""
        known = {_environment_name(field) for field in cls.model_fields}
        given = {name.upper() for name in os.environ if name.upper().startswith(PREFIX)}
        if unknown := sorted(given - known):
            raise SettingsError(f"{', '.join(unknown)}: there is no such setting. Allowed: {', '.join(sorted(known))}.")
        return super().load(**overrides)


def _environment_name(field: str) -> str:
    alias = GeneratorSettings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def _refusals(settings: type[KafkaSettings], error: ValidationError) -> str:
    names = {_environment_name(field): field for field in settings.model_fields}
    names |= {field: field for field in settings.model_fields}
    lines = []
    for problem in error.errors(include_url=False):
        field = names[str(problem["loc"][0])]
        what = (
            f"{_environment_name(field)} is not set"
            if problem["type"] == "missing"
            else f"{_environment_name(field)}={problem['input']!r} is refused: {problem['msg']}"
        )
        lines.append(f"{what}. Allowed: {settings.model_fields[field].description}.")
    return "\n".join(lines)
