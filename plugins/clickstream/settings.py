"""Every setting of the pipeline, in one place, read from the environment.

`python -m clickstream.settings` checks them and prints what is in force.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path  # noqa: TC003 - pydantic reads it at run time
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from clickstream.errors import SettingsError
from clickstream.retention import HOURS_A_DAY, KEEP, Retention, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "CLICKSTREAM_"


class MetricsSettings(BaseSettings):
    """What the metrics endpoint needs; apart from the rest, whose mistakes must not silence it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    metrics_token_file: Annotated[
        Path | None, Field(description="path of a file with the token that Prometheus sends")
    ] = None
    revision: Annotated[str, Field(description="revision of the source that is deployed, for annotations")] = "unknown"


class PageSettings(BaseSettings):
    """What the page and the links need; apart from the rest, whose mistakes must not hide them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    grafana_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^/@]+(/[^@]*)?$",
            description="URL of Grafana without credentials, or unset where there is none",
        ),
    ] = None


class Settings(MetricsSettings, PageSettings):
    """Settings, each from the environment variable `CLICKSTREAM_<NAME>`."""

    kafka_bootstrap_servers: Annotated[
        str, Field(pattern=r"^[^\s:,]+:\d+(,[^\s:,]+:\d+)*$", description="host:port[,host:port...]")
    ]
    kafka_credentials_file: Annotated[
        Path | None,
        Field(description='path of a JSON file {"username": ..., "password": ...}, or unset where Kafka asks for none'),
    ] = None
    kafka_ca_file: Annotated[
        Path | None,
        Field(
            description="path of a PEM file with the authority that signs the brokers' certificates, only together with"
            f" {PREFIX}KAFKA_CREDENTIALS_FILE; unset where this system trusts it already, as with MSK"
        ),
    ] = None
    topic: Annotated[
        str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="1 to 249 of letters, digits, . _ -")
    ] = "clickstream-events"
    storage_url: Annotated[
        str,
        Field(description="file:///absolute/folder, or s3://bucket/prefix with credentials where the AWS SDKs look"),
    ]
    drain_groups: Annotated[
        int, Field(ge=1, le=64, description="1 to 64 groups of partitions, drained in parallel")
    ] = 2
    drain_max_offsets: Annotated[
        int, Field(ge=1, le=10_000_000, description="1 to 10,000,000 offsets a partition and drain")
    ] = 200_000
    batch_max_offsets: Annotated[
        int,
        Field(ge=1, le=100_000_000, description="1 to 100,000,000 offsets a batch (at least one segment)"),
    ] = 600_000
    allowed_lateness_hours: Annotated[int, Field(ge=1, le=8_760, description="1 to 8,760 hours")] = 24
    spark_driver_memory: Annotated[
        str, Field(pattern=r"^[1-9][0-9]*[mg]$", description="a size such as 1g or 1536m")
    ] = "1g"
    spark_cds_archive: Annotated[
        str | None, Field(description="path of a JVM class data archive that shortens Spark's start")
    ] = None

    spark_s3_jars: Annotated[
        Path | None,
        Field(description="a folder with the jars of S3A, or unset where Spark brings them or the storage is local"),
    ] = None
    archive_max_age_minutes: Annotated[
        int | None,
        Field(ge=2, le=1_440, description="2 to 1,440 minutes, or unset where no generator is expected to write"),
    ] = None
    database_folder: Annotated[
        Path | None, Field(description="a folder on the disk that holds the database, or unset where that is not here")
    ] = None
    aws_region: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$",
            description="region of the stacks, such as eu-central-1, or unset where nothing is on AWS",
        ),
    ] = None
    prometheus_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^/@]+(/[^@]*)?$",
            description="URL of Prometheus without credentials, or unset where there is none",
        ),
    ] = None

    retention: Retention = Field(default_factory=Retention, description="how long what is kept")
    erasure_key_file: Annotated[
        Path | None,
        Field(description="path of a file with the key of the erasure list, or unset where nobody is ever erased"),
    ] = None

    @field_validator("kafka_ca_file")
    @classmethod
    def _only_with_credentials(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.data.get("kafka_credentials_file") is None:
            raise ValueError("an authority without credentials")
        return file

    @field_validator("storage_url")
    @classmethod
    def _storage_scheme(cls, url: str) -> str:
        if not re.fullmatch(r"file:///.+|s3://[^@/]+(/.*)?", url):
            raise ValueError("unknown kind of storage")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _events_outlive_kafka(self) -> Self:
        kept, kafka, lateness = self.retention.events_days, self.retention.kafka_days, self.allowed_lateness_hours
        if kept * HOURS_A_DAY < kafka * HOURS_A_DAY + lateness:
            raise ValueError(
                f"{KEEP}EVENTS_DAYS is {kept}, {KEEP}KAFKA_DAYS is {kafka} and {PREFIX}ALLOWED_LATENESS_HOURS is"
                f" {lateness}; the first must be at least the other two together, since a record that waits in Kafka"
                f" may be that late for its hour, whose events it then joins. Raise {KEEP}EVENTS_DAYS or lower one of"
                " the others where the stack is started."
            )
        return self


@cache
def settings() -> Settings:
    """The settings in force in this process.

    Raises:
        SettingsError: With one line for each wrong setting: its name, its value and what is allowed; and one for each
            period that is set and unknown.
    """
    wrong = list(unknown())
    try:
        retention = Retention()
    except ValidationError as error:
        wrong += _explained(error, Retention, KEEP)
        retention = Retention.model_construct()
    try:
        found = Settings(retention=retention)  # type: ignore[call-arg] # the rest is read from the environment
    except ValidationError as error:
        wrong = [*_explained(error, Settings, PREFIX, between=not wrong), *wrong]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return found


def _explained(error: ValidationError, model: type[BaseModel], prefix: str, *, between: bool = True) -> Iterator[str]:
    """A line for each problem; those between settings, which their rules word themselves, only if they are wanted."""
    for problem in error.errors():
        if problem["loc"]:
            name = str(problem["loc"][0])
            given = "is not set" if problem["type"] == "missing" else f"is {problem['input']!r}"
            rule = model.model_fields[name].description
            yield f"{prefix}{name.upper()} {given}; it must be {rule}. Change it where the stack is started."
        elif between:
            yield str(problem["ctx"]["error"])


def main() -> int:
    """Print the settings in force, or what is wrong with them; returns the exit code."""
    try:
        found = settings()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line's output
        return 2
    for name, value in found.model_dump(exclude={"retention"}).items():
        print(f"{PREFIX}{name.upper()}={'' if value is None else value}")  # noqa: T201
    for name, value in found.retention.model_dump().items():
        print(f"{KEEP}{name.upper()}={value}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
