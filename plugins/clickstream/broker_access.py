"""How clients reach and trust Kafka's brokers, in the one place that all of them use.

Without credentials in the settings the connection is plain. With them it is SASL_SSL with SCRAM-SHA-512: the password
never leaves this host without TLS. The file is read for each client, so that a rotated password needs no restart.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaConnectionError, SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from pydantic import BaseModel, SecretStr, ValidationError

from clickstream.errors import BrokerRefused, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clickstream.settings import Settings

    Received = tuple[bytes, Exception | None]

BOOTSTRAP_MILLISECONDS = 10_000  # an absent broker is for the task's retries, and the next minute's run
MECHANISM = "SCRAM-SHA-512"
WRONG_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"  # OpenSSL's name for it, of which the client keeps the text


class Credentials(BaseModel):
    """A SCRAM user of Kafka; the password shows in no text of it."""

    username: str
    password: SecretStr


class _Hidden(str):
    """A password for the client, which shows its options when it logs in full."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class _Manager(KafkaConnectionManager):  # type: ignore[misc] # no types
    """Connections that end where there is no trust; the client alone would try again until its time is up."""

    async def _connect(self, node: Any, conn: Any, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - no types
        await super()._connect(node, conn, *arguments, **options)
        error = conn.init_future.exception
        if isinstance(error, SaslAuthenticationFailedError) or WRONG_CERTIFICATE in str(error):
            self._auth_failures[node.node_id] = error

    async def _build_transport(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - no types
        transport = await super()._build_transport(*arguments, **options)
        transport._sock_recv = _data_before_end(transport._sock_recv)  # noqa: SLF001 - no public way
        return transport


def _data_before_end(receive: Callable[[], Received]) -> Callable[[], Received]:
    """Read a closed connection's last data first and its end with the next read.

    A broker that refuses a user says so and closes. Where a busy client reads both at once, its transport keeps only
    the end, and the reason of the refusal is lost.
    """

    def received() -> Received:
        data, error = receive()
        return data, None if data else error

    return received


def _client(**options: Any) -> KafkaNetClient:  # noqa: ANN401 - the client's options
    net = NetworkSelector(**options)
    return KafkaNetClient(net, _Manager(net, **options))


def connection_options(settings: Settings) -> dict[str, Any]:
    """The options by which every client of kafka-python connects.

    Raises:
        SettingsError: If the file of credentials or of the authority can't be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "bootstrap_timeout_ms": BOOTSTRAP_MILLISECONDS,
    }
    if settings.kafka_credentials_file is None:
        return options
    credentials = _credentials(settings.kafka_credentials_file)
    return options | {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": MECHANISM,
        "sasl_plain_username": credentials.username,
        "sasl_plain_password": _Hidden(credentials.password.get_secret_value()),
        "ssl_context": _tls(settings.kafka_ca_file),
        "kafka_client": _client,
    }


@contextmanager
def refusals_explained(settings: Settings) -> Iterator[None]:
    """Say what to do where connecting fails for lack of trust.

    Raises:
        BrokerRefused: If the brokers refuse the user, or if their certificate is not of the authority in the settings.
    """
    try:
        yield
    except SaslAuthenticationFailedError as error:
        raise BrokerRefused(
            f"Kafka at {settings.kafka_bootstrap_servers} refuses the user in {settings.kafka_credentials_file}"
            f" ({error}). Its password was probably rotated on one side only: write the present one into that file and"
            " into Kafka (docker/host/start does both)."
        ) from error
    except KafkaConnectionError as error:
        if WRONG_CERTIFICATE not in str(error):
            raise
        raise BrokerRefused(
            f"The certificate of Kafka at {settings.kafka_bootstrap_servers} is not accepted ({error}). Give"
            " CLICKSTREAM_KAFKA_CA_FILE the authority that signed it, and the certificate the name or address that"
            " CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS uses."
        ) from error


def _credentials(file: Path) -> Credentials:
    try:
        return Credentials.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        # An error of pydantic shows its input, which is the password.
        why = error if isinstance(error, OSError) else "it holds something else"
        raise SettingsError(
            f'CLICKSTREAM_KAFKA_CREDENTIALS_FILE names {file}, which must hold {{"username": ..., "password": ...}}:'
            f" {why}. Write it, readable by this user alone."
        ) from None


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError too
        raise SettingsError(
            f"CLICKSTREAM_KAFKA_CA_FILE names {ca_file}, which must hold a certificate in PEM: {error}. Write it there."
        ) from error
