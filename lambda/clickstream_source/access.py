"""The user as whom the sources produce, and whom they trust to be a broker: from AWS, or from files."""

import ssl
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from clickstream_source.settings import KafkaSettings

_MECHANISM = "SCRAM-SHA-512"


class AccessError(RuntimeError):
    """Credentials or authority can't be read; the message says which and what to do."""


class _Credentials(BaseModel):
    username: str
    password: SecretStr


@cache
def security_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the client's security options: none without credentials, else SCRAM over TLS, never without TLS.

    They are kept for the life of the process; `security_options.cache_clear()` has them read anew.

    Raises:
        AccessError: credentials or authority can't be read, or are something else.
    """
    if not settings.is_secured:
        return {}
    credentials = _credentials(settings)
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": _MECHANISM,
        "sasl_plain_username": credentials.username,
        "sasl_plain_password": credentials.password.get_secret_value(),
        "ssl_context": _trusting(settings),
    }


def _credentials(settings: KafkaSettings) -> _Credentials:
    if settings.credentials_secret:
        source = f"KAFKA_CREDENTIALS_SECRET={settings.credentials_secret}"
        content = _from_aws(source, "secretsmanager", "get_secret_value", SecretId=settings.credentials_secret)
        text = content["SecretString"]
    else:
        source = f"KAFKA_CREDENTIALS_FILE={settings.credentials_file}"
        text = _from_file(source, settings.credentials_file)
    try:
        return _Credentials.model_validate_json(text)
    except ValidationError:  # its message would show the password
        raise AccessError(
            f'{source} must hold {{"username": ..., "password": ...}}, but holds something else.'
        ) from None


def _trusting(settings: KafkaSettings) -> ssl.SSLContext:
    if settings.ca_parameter:
        source = f"KAFKA_CA_PARAMETER={settings.ca_parameter}"
        pem = _from_aws(source, "ssm", "get_parameter", Name=settings.ca_parameter)["Parameter"]["Value"]
    elif settings.ca_file:
        source = f"KAFKA_CA_FILE={settings.ca_file}"
        pem = _from_file(source, settings.ca_file)
    else:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise AccessError(f"{source} must hold a certificate in PEM: {error}") from error


def _from_file(source: str, file: Path | None) -> str:
    try:
        return Path(str(file)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"{source} can't be read: {error}") from error


def _from_aws(source: str, service: str, operation: str, **arguments: str) -> Any:  # noqa: ANN401 - as boto3
    # Imported here because only a function on AWS needs it, and it costs half a second.
    import boto3  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        return getattr(boto3.client(service), operation)(**arguments)
    except (BotoCoreError, ClientError) as error:
        raise AccessError(f"{source} can't be read: {error}. See that it exists and the role may read it.") from error
