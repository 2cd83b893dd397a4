"""Bring the services of a host to what the pipeline needs: `python -m infra.bootstrap`, at each start.

Kafka's users, their rights and the topic; PostgreSQL's roles and databases; both sets of migrations; Airflow's own
database and its pools. Each step looks first, so running it again changes nothing but a password that was rotated.

Environment: `BOOTSTRAP_SECRETS`, a folder with `kafka-pipeline.json`, `kafka-generator.json`, `database-master.json`
and a file for each database role, all {"username": ..., "password": ...}; `BOOTSTRAP_KAFKA`, the broker's listener
that asks for no user and takes no connection from elsewhere; `CLICKSTREAM_TOPIC`; `PGHOST`, `PGPORT` and other
variables of libpq for the server; all of Airflow's.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import psycopg
from kafka.admin import KafkaAdminClient

from infra.bootstrap import kafka_users, roles
from infra.bootstrap.topic import ensure_topic
from infra.periods import PeriodError, periods

POOLS = Path(__file__).with_name("pools.json")
WAIT_SECONDS = 30

log = logging.getLogger("bootstrap")


def main() -> None:
    """Run all steps; ends with 1 before the first, saying why, where the pipeline would refuse a period.

    Raises:
        KafkaError: Kafka can't be reached or refuses a step.
        psycopg.Error: PostgreSQL can't be reached or refuses a step.
        subprocess.CalledProcessError: A migration failed; its own output says why, and it changed nothing.
    """
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    try:
        periods()
    except PeriodError as error:
        sys.exit(str(error))
    secrets = Path(os.environ["BOOTSTRAP_SECRETS"])
    prepare_kafka(secrets, bootstrap_servers=os.environ["BOOTSTRAP_KAFKA"], topic=os.environ["CLICKSTREAM_TOPIC"])
    prepare_database(secrets)
    log.info("done")


def prepare_kafka(secrets: Path, *, bootstrap_servers: str, topic: str) -> None:
    """Make Kafka's users, their rights and the topic."""
    pipeline, generator = (_read(secrets / f"kafka-{user}.json") for user in ("pipeline", "generator"))
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers, bootstrap_timeout_ms=WAIT_SECONDS * 1000)
    with closing(admin):
        kafka_users.ensure_passwords(admin, {user["username"]: user["password"] for user in (pipeline, generator)})
        kafka_users.ensure_rights(admin, pipeline=pipeline["username"], generator=generator["username"], topic=topic)
        ensure_topic(admin, topic)
    log.info("Kafka has its users and the topic %s", topic)


def prepare_database(secrets: Path) -> None:
    """Make roles and databases, then migrate both."""
    master = _read(secrets / "database-master.json")
    passwords = {role: _read(secrets / f"{role}.json")["password"] for role in roles.ROLES}
    with psycopg.connect(
        user=master["username"],
        password=master["password"],
        dbname="postgres",
        connect_timeout=WAIT_SECONDS,
        autocommit=True,
    ) as connection:
        roles.ensure_roles(connection, passwords)
    log.info("PostgreSQL has its roles and databases")
    with tempfile.TemporaryDirectory() as folder:
        pgpass = Path(folder) / "pgpass"
        pgpass.touch(mode=0o600)
        pgpass.write_text("".join(f"*:*:*:{role}:{_escaped(passwords[role])}\n" for role in roles.ROLES))
        _migrate(pgpass)


def _migrate(pgpass: Path) -> None:
    def as_owner(role: str, database: str) -> dict[str, str]:
        return {"PGPASSFILE": str(pgpass), "PGUSER": role, "PGDATABASE": database}

    as_airflow = as_owner(roles.AIRFLOW_ROLE, roles.AIRFLOW_DATABASE)
    _run([sys.executable, "-m", "clickstream.ledger.migrate", "up"], as_owner(roles.OWNER, roles.DATABASE))
    counters = [sys.executable, "-m", "clickstream.airflow_metadata.migrate"]
    airflow = Path(sys.executable).with_name("airflow")
    if not _is_current(airflow):
        if _has_counters(as_airflow):  # PostgreSQL refuses to change a column that a trigger looks at
            _run([*counters, "down", "0001"], as_airflow)
        _run([airflow, "db", "migrate"])
    _run([airflow, "pools", "import", POOLS])
    _run([*counters, "up"], as_airflow)
    log.info("all migrations are applied")


def _is_current(airflow: Path) -> bool:
    """Whether Airflow's database is that of the installed version."""
    command = [str(airflow), "db", "check-migrations", "--migration-wait-timeout", "0"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - Airflow's own


def _has_counters(as_airflow: Mapping[str, str]) -> bool:
    with psycopg.connect(
        user=as_airflow["PGUSER"], dbname=as_airflow["PGDATABASE"], passfile=as_airflow["PGPASSFILE"]
    ) as connection:
        return connection.execute("SELECT to_regnamespace('clickstream') IS NOT NULL").fetchone() == (True,)


def _run(command: list[str | Path], environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, env=os.environ | (environment or {}), check=True)  # noqa: S603 - the pipeline's own programs


def _read(file: Path) -> dict[str, str]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _escaped(password: str) -> str:
    """The password as libpq's password file wants it."""
    return password.replace("\\", "\\\\").replace(":", "\\:")


if __name__ == "__main__":
    main()
