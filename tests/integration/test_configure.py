"""docker/host/configure as a host on AWS runs it: everything from Secrets Manager and SSM into files."""

from __future__ import annotations

import base64
import json
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cryptography.fernet import Fernet
from dotenv import dotenv_values

from infra.local.supervision import base_environment
from tests.kit.aws import REGION, Account, Server
from tests.kit.compose_file import DOCKER
from tests.kit.installations import serving

CONFIGURE = DOCKER / "host" / "configure"
pytestmark = pytest.mark.needs("openssl")
BUCKET = "s3://clickstream-zones"
BUNDLE = "-----BEGIN CERTIFICATE-----\nof RDS\n-----END CERTIFICATE-----\n"
ROLES = ("clickstream_owner", "clickstream_writer", "grafana_reader", "airflow")
WITH_USER = [f"database/{role}" for role in (*ROLES, "master")] + ["kafka/pipeline", "kafka/generator"]
PLAIN = [
    "airflow/fernet-key",
    "airflow/api-key",
    "airflow/jwt-key",
    "airflow/admin",
    "metrics-token",
    "erasure-key",
    "grafana/admin",
]


def password(name: str) -> str:
    return f"p@ss of {name}: 100%"


@pytest.fixture(scope="module")
def furnished(aws_server: Server) -> Iterator[Account]:
    """An account with all that the two stacks make, to be copied."""
    aws_server.start()
    with aws_server.account.copied() as account:
        account.reset()
        secrets = account.client("secretsmanager")
        for name in WITH_USER:
            content = json.dumps({"username": name.rpartition("/")[2], "password": password(name)})
            secrets.create_secret(Name=f"clickstream/{name}", SecretString=content)
        for name in PLAIN:
            secrets.create_secret(Name=f"clickstream/{name}", SecretString=password(name))
        account.client("ssm").put_parameter(Name="/clickstream/storage-url", Value=BUCKET, Type="String")
        yield account


@pytest.fixture
def account(furnished: Account) -> Iterator[Account]:
    with furnished.copied() as account:
        yield account


@dataclass(frozen=True)
class Configured:
    """One run of the script, and the files below its root."""

    root: Path
    succeeded: bool
    said: str

    def secret(self, name: str) -> str:
        return (self.root / "run" / "clickstream" / "secrets" / name).read_text()

    def json(self, name: str) -> Any:
        return json.loads(self.secret(name))

    @property
    def variables(self) -> dict[str, str | None]:
        return dotenv_values(self.root / "run" / "clickstream" / "compose.env", interpolate=False)


Configure = Callable[..., Configured]


@pytest.fixture
def configure(account: Account, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Configure:
    """Runs the script in this process, with nothing of its environment."""

    def run(*, bundle: str = "/bundle.pem", **settings: str) -> Configured:
        with serving({"/bundle.pem": BUNDLE, "/other": "<html>"}) as url:
            given = {
                "HOST_ADDRESS": "10.0.0.10",
                "DATABASE_HOST": "db.example.org",
                "WEB_HOST": "203.0.113.4",
                "DATABASE_CA_URL": f"{url}{bundle}",
            }
            environment = base_environment() | dict(account.environment) | given | settings
            refusal = None
            with (
                mock.patch.dict(os.environ, environment, clear=True),
                mock.patch.object(sys, "argv", [str(CONFIGURE), "--root", str(tmp_path)]),
            ):
                try:
                    runpy.run_path(str(CONFIGURE), run_name="__main__")
                except SystemExit as ended:
                    refusal = ended.code
        printed = capfd.readouterr()
        return Configured(tmp_path, succeeded=refusal is None, said=f"{printed.out}{printed.err}{refusal or ''}")

    return run


def test_every_secret_is_in_the_form_of_its_reader_and_nowhere_else(configure: Configure) -> None:
    made = configure()
    assert made.succeeded, made.said
    for role in ROLES:
        assert made.json(f"{role}.json") == {"username": role, "password": password(f"database/{role}")}
    for user in ("pipeline", "generator"):
        assert made.json(f"kafka-{user}.json") == {"username": user, "password": password(f"kafka/{user}")}
    url = "postgresql+psycopg2://airflow:p%40ss%20of%20database%2Fairflow%3A%20100%25@db.example.org:5432/airflow"
    assert made.secret("airflow-metadata-url") == url
    assert made.secret("airflow-api-key") == password("airflow/api-key")
    assert made.json("airflow-passwords.json") == {"admin": password("airflow/admin")}
    assert made.secret("grafana-reader-password") == password("database/grafana_reader")
    assert made.secret("database-ca.pem") == BUNDLE
    Fernet(made.secret("airflow-fernet-key"))
    assert "p@ss" not in made.said + str(made.variables)


def test_a_fernet_key_that_is_one_stays_as_it_is(account: Account, configure: Configure) -> None:
    key = base64.urlsafe_b64encode(bytes(range(32))).decode()
    account.client("secretsmanager").put_secret_value(SecretId="clickstream/airflow/fernet-key", SecretString=key)
    assert configure().secret("airflow-fernet-key") == key


def test_the_environment_is_that_of_aws(configure: Configure) -> None:
    given = {"SMTP_SMARTHOST": "mail.example.org:587", "CLICKSTREAM_KEEP_RAW_DAYS": "31"}
    found = configure(**given).variables
    assert found["CLICKSTREAM_KEEP_RAW_DAYS"] == "31"
    assert {name: found[name] for name in ("STORAGE_URL", "DATABASE_HOST", "DATABASE_SSLMODE", "COMPOSE_PROFILES")} == {
        "STORAGE_URL": BUCKET,
        "DATABASE_HOST": "db.example.org",
        "DATABASE_SSLMODE": "verify-full",
        "COMPOSE_PROFILES": "",
    }
    assert found["BIND_ADDRESS"] == found["KAFKA_ADVERTISED_HOST"] == "10.0.0.10"
    assert found["AWS_DEFAULT_REGION"] == found["CLICKSTREAM_AWS_REGION"] == REGION
    assert found["SMTP_ENABLED"] == "true"
    assert str(found["AIRFLOW_SECRETS_BACKEND"]).endswith("SecretsManagerBackend")
    backend = json.loads(str(found["AIRFLOW_SECRETS_BACKEND_KWARGS"]))
    assert backend["connections_prefix"] == "clickstream/airflow/connections"
    assert set(found) <= set(dotenv_values(DOCKER / ".env.example"))


def test_a_period_that_compose_does_not_pass_on_is_refused(configure: Configure) -> None:
    done = configure(CLICKSTREAM_KEEP_RAW_DAY="31")
    assert not done.succeeded
    assert "KEEP_RAW_DAY is no setting; the nearest one is CLICKSTREAM_KEEP_RAW_DAYS." in done.said


def test_the_lambda_learns_the_authority_which_outlives_a_restart(account: Account, configure: Configure) -> None:
    first = configure()
    second = configure()
    published = account.client("ssm").get_parameter(Name="/clickstream/kafka-ca")["Parameter"]["Value"]
    assert published == first.secret("kafka-ca.pem") == second.secret("kafka-ca.pem")
    moved = configure(HOST_ADDRESS="10.0.0.11")
    assert "new certificate" in moved.said
    assert moved.secret("kafka-ca.pem") == published


def test_a_rotated_secret_is_in_the_same_file_after_the_next_run(
    account: Account, configure: Configure, tmp_path: Path
) -> None:
    first = configure().variables
    file = tmp_path / "run" / "clickstream" / "secrets" / "metrics-token"
    before = file.stat().st_ino
    account.client("secretsmanager").put_secret_value(SecretId="clickstream/metrics-token", SecretString="second")
    second = configure().variables
    assert (file.read_text(), file.stat().st_ino) == ("second", before)  # the file that a container has mounted
    assert {name for name in first if first[name] != second[name]} == {"SECRETS_REVISION"}


def test_addresses_of_alerts_are_optional(account: Account, configure: Configure) -> None:
    assert configure().secret("alert-page-url") == ""
    missing = configure(ALERTING="true")
    assert "no secret clickstream/alerting" in missing.said
    content = json.dumps({"page_url": "https://page", "heartbeat_url": "https://beat", "smtp_password": "private"})
    account.client("secretsmanager").create_secret(Name="clickstream/alerting", SecretString=content)
    made = configure(ALERTING="true")
    names = ("alert-page-url", "alert-heartbeat-url", "smtp-password")
    assert [made.secret(name) for name in names] == ["https://page", "https://beat", "private"]


def test_what_is_not_there_yet_is_named(account: Account, configure: Configure) -> None:
    wrong = configure(bundle="/other")
    assert not wrong.succeeded
    assert "no bundle of certificates. Set DATABASE_CA_URL" in wrong.said
    account.client("ssm").delete_parameter(Name="/clickstream/storage-url")
    early = configure()
    assert not early.succeeded
    assert "SSM has no parameter /clickstream/storage-url. Deploy ClickstreamLambdaStack" in early.said
    account.client("secretsmanager").delete_secret(
        SecretId="clickstream/metrics-token", ForceDeleteWithoutRecovery=True
    )
    empty = configure()
    assert not empty.succeeded
    assert "no secret clickstream/metrics-token. Deploy InfrastructureStack" in empty.said
