"""The library and the Lambda's handler against Kafka as compose starts it: users with passwords, over TLS.

Users and their rights are as the service `init` makes them, certificates as docker/host/configure does.
"""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CoordinatorNotAvailableError, TopicAuthorizationFailedError
from kafka.net.transport import KafkaSSLTransport

from clickstream import broker, broker_access
from clickstream.broker_access import connection_options
from clickstream.errors import BrokerRefused, SettingsError
from clickstream.health import kafka, kafka_canary, run
from clickstream.health.check import Installation
from clickstream.settings import Settings, settings
from clickstream_generator import handler
from clickstream_source import access, delivery
from clickstream_source.delivery import DeliveryError
from infra.bootstrap.__main__ import prepare_kafka
from infra.local.ports import LOOPBACK
from tests.kit.aws import Account
from tests.kit.compose_file import DOCKER
from tests.kit.installations import patient
from tests.kit.one_host import Host
from tests.kit.programs import require
from tests.kit.waiting import eventually

TOPIC = "clickstream-events"
SECRET = "clickstream/kafka/generator"  # noqa: S105 - a name
AUTHORITY = "/clickstream/kafka-ca"
EVENT = {"time": "2026-01-31T12:05:00Z", "detail": {}}


@dataclass(frozen=True)
class Broker:
    """Where it listens for users, and for its own host; the folder of its secrets; another authority's certificate."""

    address: str
    own: str
    secrets: Path
    stranger: Path

    def settings(self, **changes: Any) -> Settings:
        values: dict[str, Any] = {
            "kafka_bootstrap_servers": self.address,
            "kafka_credentials_file": self.secrets / "kafka-pipeline.json",
            "kafka_ca_file": self.secrets / "kafka-ca.pem",
            "storage_url": "file:///nowhere",
        }
        return Settings(**(values | changes))

    def password(self, user: str) -> str:
        return str(json.loads((self.secrets / f"kafka-{user}.json").read_text())["password"])


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    require("openssl")
    host = Host(tmp_path_factory.mktemp("host"))
    stranger = tmp_path_factory.mktemp("stranger")
    make_certificates = DOCKER / "host" / "certificates"
    subprocess.run([str(make_certificates), str(stranger), LOOPBACK], check=True, capture_output=True)
    with host.start("kafka"):
        one = Broker(
            address=f"{LOOPBACK}:{host.port('kafka', '9094')}",
            own=f"{LOOPBACK}:{host.port('kafka', '9092')}",
            secrets=host.secrets,
            stranger=stranger / "authority.pem",
        )
        prepare_kafka(host.secrets, bootstrap_servers=one.own, topic=TOPIC)
        yield one


@pytest.fixture
def lambda_environment(
    secured: Broker, aws: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Broker]:
    """What the deployed function has: names of a secret and of a parameter, and a role that may read them."""
    aws.client("secretsmanager").create_secret(
        Name=SECRET, SecretString=json.dumps({"username": "generator", "password": secured.password("generator")})
    )
    publish_authority(aws, secured.secrets / "kafka-ca.pem")
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": secured.address,
        "KAFKA_CREDENTIALS_SECRET": SECRET,
        "KAFKA_CA_PARAMETER": AUTHORITY,
        "KAFKA_DELIVERY_TIMEOUT_SECONDS": "20",
        "ARCHIVE_URL": tmp_path.as_uri(),
        "GENERATOR_EVENTS_PER_MINUTE": "20",
    }.items():
        monkeypatch.setenv(name, value)
    access.security_options.cache_clear()
    yield secured
    access.security_options.cache_clear()


def publish_authority(aws: Account, file: Path) -> None:
    aws.client("ssm").put_parameter(Name=AUTHORITY, Type="String", Value=file.read_text(), Overwrite=True)


def put_password(aws: Account, password: str) -> None:
    secret = json.dumps({"username": "generator", "password": password})
    aws.client("secretsmanager").put_secret_value(SecretId=SECRET, SecretString=secret)


def refusal() -> DeliveryError:
    """What the handler says where it is refused, which its client takes for silence until its time is up."""

    def impatient(**options: Any) -> Any:
        return KafkaProducer(**(options | {"bootstrap_timeout_ms": 1_000}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "KafkaProducer", impatient)  # not a setting, by which what was read is kept
        with pytest.raises(DeliveryError, match="its user and authority are those in the settings") as failed:
            handler(EVENT, None)
    return failed.value


def rotate(broker: Broker, user: str, password: str) -> None:
    """A new password in the file, then in Kafka, as a new start of the host does it."""
    (broker.secrets / f"kafka-{user}.json").write_text(json.dumps({"username": user, "password": password}))
    prepare_kafka(broker.secrets, bootstrap_servers=broker.own, topic=TOPIC)


def test_the_handler_produces_and_the_library_describes_and_reads(lambda_environment: Broker) -> None:
    current = lambda_environment.settings()
    before = sum(broker.describe(current).ends.values())
    made = handler(EVENT, None)
    state = broker.describe(current)
    assert sum(state.ends.values()) - before == made["events"] != 0
    assert state.log_append_time
    read = 0
    with broker.consumer_of(current) as consumer:
        for partition, end in state.ends.items():
            read += sum(map(len, broker.RangeReader(consumer, TOPIC, partition, state.starts[partition], end)))
    assert read == sum(state.ends.values())
    assert eventually(lambda: advises(current, state.ends))


def advises(current: Settings, offsets: Mapping[int, int]) -> bool:
    """Whether the group's offsets can be set; Kafka makes its topic for them when it is first asked."""
    try:
        broker.advise_group_offsets(current, offsets)
    except CoordinatorNotAvailableError:
        return False
    return True


def test_the_health_checks_pass_with_the_rights_of_the_pipeline(secured: Broker) -> None:
    where = Installation(settings=secured.settings(), connect=pytest.fail, spark=pytest.fail, airflow_url=pytest.fail)
    rows = run.run(where, [patient(kafka.CHECK), patient(kafka_canary.CHECK)])
    assert [(row.status, row.reason) for row in rows if row.status != "ok"] == []


def test_the_generator_may_write_its_topic_and_nothing_else(secured: Broker) -> None:
    options = connection_options(secured.settings(kafka_credentials_file=secured.secrets / "kafka-generator.json"))
    producer = KafkaProducer(**options, acks="all", max_block_ms=60_000)
    producer.send(TOPIC, b"{}").get(timeout=60)
    with pytest.raises(TopicAuthorizationFailedError):
        producer.send(kafka_canary.TOPIC, b"{}").get(timeout=60)
    producer.close(timeout=1)
    consumer = KafkaConsumer(**options, group_id=None)
    at = TopicPartition(TOPIC, 0)
    consumer.assign([at])
    consumer.seek(at, 0)
    with pytest.raises(TopicAuthorizationFailedError):
        assert eventually(lambda: bool(consumer.poll(timeout_ms=1_000)))
    consumer.close()


def test_a_rotated_password_is_read_anew_by_both(lambda_environment: Broker, aws: Account) -> None:
    handler(EVENT, None)
    for user in ("generator", "pipeline"):
        rotate(lambda_environment, user, f"second of {user}")
    assert broker.describe(lambda_environment.settings()).topic == TOPIC
    put_password(aws, "second of generator")
    refusal()
    assert handler(EVENT, None)["events"] != 0


def test_a_wrong_password_is_refused_and_shown_nowhere(
    lambda_environment: Broker, aws: Account, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "kafka")
    wrong = "wr0ng-and-private"
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"username": "pipeline", "password": wrong}))
    with pytest.raises(BrokerRefused, match=f"refuses the user in {file} .*write the present one") as refused:
        broker.describe(lambda_environment.settings(kafka_credentials_file=file))
    assert "Starting KafkaAdminClient with configuration" in caplog.text
    put_password(aws, wrong)
    failed = refusal()
    assert wrong not in f"{refused.value!r} {failed!r} {failed.__cause__!r} {caplog.text}"


def test_the_refusal_is_heard_where_the_broker_has_closed_before_it_is_read(
    secured: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive: Any = KafkaSSLTransport._sock_recv

    def receive_late(transport: KafkaSSLTransport) -> Any:
        time.sleep(0.3)
        return receive(transport)

    monkeypatch.setattr(KafkaSSLTransport, "_sock_recv", receive_late)
    monkeypatch.setattr(broker_access, "BOOTSTRAP_MILLISECONDS", 20_000)
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"username": "pipeline", "password": "another"}))
    with pytest.raises(BrokerRefused, match="refuses the user"):
        broker.describe(secured.settings(kafka_credentials_file=file))


def test_a_broker_of_another_authority_is_refused(lambda_environment: Broker, aws: Account) -> None:
    with pytest.raises(BrokerRefused, match=r"certificate of .* is not accepted .* Give CLICKSTREAM_KAFKA_CA_FILE"):
        broker.describe(lambda_environment.settings(kafka_ca_file=lambda_environment.stranger))
    publish_authority(aws, lambda_environment.stranger)
    refusal()
    publish_authority(aws, lambda_environment.secrets / "kafka-ca.pem")
    assert handler(EVENT, None)["events"] != 0


def test_a_broker_that_can_not_be_reached_stays_what_it_is(secured: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_access, "BOOTSTRAP_MILLISECONDS", 300)
    with pytest.raises(Exception, match="Unable to bootstrap"):
        broker.describe(secured.settings(kafka_bootstrap_servers=f"{LOOPBACK}:1"))


@pytest.mark.parametrize("content", ["", "{}", '{"username": "pipeline", "password": 1234567}', None])
def test_a_file_without_credentials_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "credentials.json"
    if content is not None:
        file.write_text(content)
    given = Settings(kafka_bootstrap_servers="host:1", storage_url="file:///nowhere", kafka_credentials_file=file)
    with pytest.raises(SettingsError, match=f"CLICKSTREAM_KAFKA_CREDENTIALS_FILE names {file}.*Write it") as refused:
        connection_options(given)
    assert (
        "1234567" not in f"{refused.value} {(refused.value.__context__ and refused.value.__suppress_context__) or ''}"
    )


@pytest.mark.usefixtures("lambda_environment")
def test_a_secret_without_credentials_is_refused_by_name(aws: Account) -> None:
    aws.client("secretsmanager").put_secret_value(SecretId=SECRET, SecretString='{"password": "1234567"}')
    with pytest.raises(DeliveryError, match=f"KAFKA_CREDENTIALS_SECRET={SECRET} must hold") as failed:
        handler(EVENT, None)
    assert "1234567" not in str(failed.value)
    aws.client("secretsmanager").delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
    with pytest.raises(DeliveryError, match=f"KAFKA_CREDENTIALS_SECRET={SECRET} can't be read: .*the role may read it"):
        handler(EVENT, None)


def test_an_authority_without_credentials_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS": "host:1",
        "CLICKSTREAM_STORAGE_URL": "file:///nowhere",
        "CLICKSTREAM_KAFKA_CA_FILE": "/ca.pem",
    }.items():
        monkeypatch.setenv(name, value)
    words = "CLICKSTREAM_KAFKA_CA_FILE is '/ca.pem'.*only together with CLICKSTREAM_KAFKA_CREDENTIALS_FILE"
    with pytest.raises(SettingsError, match=words):
        settings.__wrapped__()  # not the cached ones of this process
