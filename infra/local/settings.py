"""Settings of the embedded stack, from the environment and the file ``settings.env`` of its folder."""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.local.errors import StackError

SETTINGS_FILE = "settings.env"

Port = Annotated[int, Field(ge=1024, le=65535)]


class Ports(BaseModel):
    """The TCP ports of one stack, all on 127.0.0.1."""

    model_config = ConfigDict(frozen=True)

    kafka: Port = 9092
    kafka_controller: Port = 9095
    postgres: Port = 5433
    airflow: Port = 8080
    prometheus: Port = 9090

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        numbers = self.model_dump()
        for port, uses in Counter(numbers.values()).items():
            if uses > 1:
                names = " and ".join(variable(name) for name, number in numbers.items() if number == port)
                raise ValueError(f"{names} are both {port}; each port serves one component")
        return self


class Settings(BaseSettings):
    """What the owner may choose, each as an environment variable ``CLICKSTREAM_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="CLICKSTREAM_", env_file_encoding="utf-8", extra="ignore")

    port_kafka: Port = 9092
    port_kafka_controller: Port = 9095
    port_postgres: Port = 5433
    port_airflow: Port = 8080
    port_prometheus: Port = 9090
    generator: bool = True
    kafka_heap_mb: Annotated[int, Field(ge=256, le=65536)] = 512

    def ports(self) -> Ports:
        """Return the ports, checked to be distinct."""
        return Ports(
            **{name.removeprefix("port_"): value for name, value in self if name.startswith("port_")},
        )


def variable(port_name: str) -> str:
    """Return the environment variable that sets the port of this name in :class:`Ports`."""
    return f"CLICKSTREAM_PORT_{port_name.upper()}"


def read_settings(folder: Path) -> tuple[Settings, Ports]:
    """Read the settings of the stack in ``folder``; the environment wins over its ``settings.env``.

    Raises:
        StackError: A setting is wrong; names the setting, its value and the rule.
    """
    file = folder / SETTINGS_FILE
    try:
        settings = Settings(_env_file=file)  # type: ignore[call-arg] # pydantic-settings takes it, untyped
        return settings, settings.ports()
    except ValidationError as error:
        raise StackError(
            "\n".join(_explain(dict(problem)) for problem in error.errors()),
            remedy=f"Correct it in the environment or in {file}, then try again.",
        ) from error


def component_environment(folder: Path) -> dict[str, str]:
    """Collect the settings of the pipeline and of the generator, which the stack passes on without reading them.

    These are the CLICKSTREAM_ and GENERATOR_ variables that are no settings of the stack itself.
    """
    given = dotenv_values(folder / SETTINGS_FILE) | os.environ
    own = {f"CLICKSTREAM_{field.upper()}" for field in Settings.model_fields}
    return {
        name: value
        for name, value in given.items()
        if name.startswith(("CLICKSTREAM_", "GENERATOR_")) and name not in own and value is not None
    }


def _explain(problem: dict[str, object]) -> str:
    location = problem["loc"]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not isinstance(location, tuple) or not location:
        return message
    name = str(location[0]).upper()
    setting = name if name.startswith("CLICKSTREAM_") else f"CLICKSTREAM_{name}"
    return f"{setting}={problem['input']!r}: {message}"
