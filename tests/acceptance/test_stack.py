"""The embedded stack itself: what it promises about start, stop, recovery, sockets and credentials."""

import json
import os
import re
import stat
import subprocess
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from infra.local import credentials, lifecycle, postgres
from infra.local.cli import environment
from infra.local.errors import StackError
from infra.local.files import exclusive
from infra.local.settings import Ports
from infra.local.stack import PYTHON, REPOSITORY, TOPIC, Stack
from infra.local.status import local_data, read_status
from infra.local.supervision import Supervisor
from tests.kit.metrics import counters
from tests.kit.processes import kill, members_with_backends, supervisor_of
from tests.kit.services import superuser


def test_everything_is_up_and_a_second_up_is_harmless(stack: Stack) -> None:
    before = {one.component: one.pid for one in read_status(stack)}
    lifecycle.up(stack)
    status = read_status(stack)
    assert all(one.is_fine for one in status), status
    assert {one.component: one.pid for one in status} == before


def test_the_status_shows_what_the_data_takes_and_what_is_to_be_removed(stack: Stack) -> None:
    with superuser(stack, "clickstream") as conn:  # which other tests have used
        conn.execute("DELETE FROM ledger.removals")
        oldest = conn.execute(
            "SELECT to_char(min(hour) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI\"Z\"') FROM ledger.event_files WHERE live"
        ).fetchone()
    shown = dict(local_data(stack))
    assert re.fullmatch(r"ledger [\d.]+ MB, windows [\d.]+ MB, sessions and users [\d.]+ MB", shown["PostgreSQL"])
    assert "ledger 0.0 MB" not in shown["PostgreSQL"]
    assert shown["to be removed"] == "nothing"
    assert shown["oldest hour kept"].startswith(str((oldest and oldest[0]) or "none"))
    with superuser(stack, "clickstream") as conn:
        conn.execute(
            "INSERT INTO ledger.removals (path, zone, bytes, reason, decided_at) VALUES"
            " ('raw/a', 'raw', 2500000, 'retention', '2026-01-31T12:05Z'),"
            " ('batches/b/', 'batches', NULL, 'dead', '2026-01-31T13:00Z')"
        )
        try:
            shown = dict(local_data(stack))
        finally:
            conn.execute("DELETE FROM ledger.removals")
    assert shown["to be removed"] == "2 paths, 2.5 MB and 1 of unknown size, since 2026-01-31 12:05Z"


def test_it_listens_on_loopback_only(stack: Stack) -> None:
    listening = []
    for process in members_with_backends(stack):
        with suppress(psutil.NoSuchProcess):  # it has ended
            connections = process.net_connections(kind="tcp")
            listening += [one.laddr for one in connections if one.status == psutil.CONN_LISTEN]
    expected = set(stack.ports.model_dump().values())
    assert expected - {stack.ports.prometheus} <= {address.port for address in listening}
    assert {address.ip for address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_no_secret_is_in_an_environment_or_a_command_line(stack: Stack) -> None:
    of_airflow = ("airflow_admin", "airflow_jwt_key", "metrics_token", "fernet_key", "erasure_key")
    names = (*credentials.DATABASE_ROLES, "airflow", *of_airflow)
    secrets = [(stack.secrets / name).read_text() for name in names]
    shown = ""
    for process in members_with_backends(stack):
        with suppress(psutil.Error):
            shown += " ".join(process.cmdline()) + json.dumps(process.environ())
    logs = "".join(path.read_text(errors="replace") for path in stack.folder.rglob("*.log"))
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD" in shown
    assert [name for name, secret in zip(names, secrets, strict=True) if secret in shown or secret in logs] == []


def test_credentials_are_readable_by_their_owner_only(stack: Stack) -> None:
    assert stat.S_IMODE(stack.secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in stack.secrets.iterdir()} == {0o600}


def test_the_environment_lets_an_outside_program_in(stack: Stack) -> None:
    shown = environment(stack)
    assert list(shown) == [
        "KAFKA_BOOTSTRAP_SERVERS",
        "DATABASE_URL",
        "AIRFLOW_URL",
        "AIRFLOW_USERNAME",
        "AIRFLOW_PASSWORD",
        "PROMETHEUS_URL",
        "STORAGE_URL",
        "METRICS_URL",
    ]
    with psycopg.connect(shown["DATABASE_URL"]) as reader:
        assert reader.execute("SELECT count(*) >= 0 FROM analytics.traffic_by_window").fetchone() == (True,)
    login = {"username": shown["AIRFLOW_USERNAME"], "password": shown["AIRFLOW_PASSWORD"]}
    answer = httpx.post(f"{shown['AIRFLOW_URL']}/auth/token", json=login, timeout=30)
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    pools = httpx.get(f"{shown['AIRFLOW_URL']}/api/v2/pools", headers=bearer, timeout=30).json()["pools"]
    assert {pool["name"]: pool["slots"] for pool in pools} == {"default_pool": 128, "drain": 2, "spark": 1}


def test_airflow_keeps_no_password_of_its_own_and_refuses_strangers(stack: Stack) -> None:
    assert httpx.get(f"{stack.airflow_url}/api/v2/dags", timeout=30).status_code == 401
    wrong = {"username": "admin", "password": "admin"}
    assert httpx.post(f"{stack.airflow_url}/auth/token", json=wrong, timeout=30).status_code == 401


def test_the_topic_is_as_the_contract_wants_it(stack: Stack) -> None:
    topic, broker = ConfigResource(ConfigResourceType.TOPIC, TOPIC), ConfigResource(ConfigResourceType.BROKER, "1")
    with closing(KafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)) as admin:
        (described,) = admin.describe_topics([TOPIC])
        config = admin.describe_configs([topic])["topic"][TOPIC]
        static = admin.describe_configs([broker], config_filter="all")["broker"]["1"]
    assert len(described["partitions"]) == 3
    assert {name: entry["value"] for name, entry in config.items()} == {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "max.message.bytes": "2097152",
        "retention.ms": str(7 * 24 * 3600 * 1000),
    }
    assert static["auto.create.topics.enable"]["value"] == "false"


@pytest.mark.parametrize("role", ["clickstream_writer", "grafana_reader"])
def test_only_the_owner_of_the_database_may_change_its_schema(stack: Stack, role: str) -> None:
    with (
        psycopg.connect(
            host="127.0.0.1",
            port=stack.ports.postgres,
            dbname="clickstream",
            user=role,
            passfile=str(stack.secrets / "pgpass"),
        ) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE analytics.mine (x int)")


def test_a_password_whose_file_is_removed_is_rotated_by_the_next_up(stack: Stack) -> None:
    before = credentials.reader_url(stack)
    (stack.secrets / "grafana_reader").unlink()
    postgres.ensure_roles(stack)
    with psycopg.connect(credentials.reader_url(stack)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(before)


def test_another_up_on_other_ports_is_refused_while_it_runs(stack: Stack) -> None:
    with pytest.raises(StackError, match="runs with the ports"):
        lifecycle.up(Stack.create(stack.folder))


def test_two_commands_at_once_do_not_collide(stack: Stack) -> None:
    with (
        exclusive(stack.folder / "lock", what="testing"),
        pytest.raises(StackError, match=rf"pid {os.getpid()}\) is starting or stopping"),
    ):
        lifecycle.down(stack)


def test_a_taken_port_is_named_before_anything_starts(stack: Stack, tmp_path: Path) -> None:
    taken = {**Stack.create(tmp_path).ports.model_dump(), "kafka": stack.ports.kafka}
    other = Stack.create(tmp_path, ports=Ports(**taken))
    with pytest.raises(StackError, match=f"Port {stack.ports.kafka} for kafka is taken by java") as caught:
        lifecycle.up(other)
    assert "CLICKSTREAM_PORT_KAFKA=<port>" in caught.value.remedy
    assert not Supervisor(other).is_running()


def test_a_wrong_setting_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for name, value in {"CLICKSTREAM_DRAIN_GROUPS": "many", "GENERATOR_SEED": "-1", "CLICKSTREAM_SPEED": "1"}.items():
        other = Stack.create(tmp_path, environment={name: value})
        with pytest.raises(StackError, match=name):
            lifecycle.up(other)
        assert not Supervisor(other).is_running()


def test_the_commands_of_a_clone_do_not_see_other_stacks(stack: Stack) -> None:
    shown = subprocess.run(
        [PYTHON, "-m", "infra.local", "env"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert str(stack.ports.kafka) not in shown.stdout


def test_after_a_kill_and_after_a_reboot_the_next_up_finds_all_data(stack: Stack) -> None:
    with superuser(stack, "clickstream") as connection:
        connection.execute("CREATE TABLE public.kept AS SELECT 1 AS x")
    counted = counters(stack)
    assert kill(supervisor_of(stack), members_with_backends(stack)) == []
    assert {one.reason for one in read_status(stack)} >= {"its supervisor was killed; `make up` recovers"}
    services = replace(stack, with_airflow=False, with_prometheus=False)
    lifecycle.up(services)
    assert all(one.is_fine for one in read_status(services))
    assert kept(stack) == [(1,)]

    members = members_with_backends(stack)
    lifecycle.down(services)
    assert not any(member.is_running() for member in members)
    assert all(one.state == "down" for one in read_status(stack))
    assert (stack.folder / "kafka" / "data" / ".kafka_cleanshutdown").exists()
    assert "database system is shut down" in stack.log("postgres").read_text()
    # As after a reboot: pid files and a socket of processes that are gone.
    data = stack.folder / "postgres" / "data"
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    (stack.folder / "run" / "supervisord.pid").write_text(f"{2**22 + 1}")
    (stack.folder / "run" / "supervisor.sock").touch()
    lifecycle.up(stack)  # with Airflow, which was killed too
    assert all(one.is_fine for one in read_status(stack))
    assert kept(stack) == [(1,)]
    now = counters(stack)
    assert [key for key in counted if now[key] < counted[key]] == []
    with superuser(stack, "clickstream") as connection:
        connection.execute("DROP TABLE public.kept")


def kept(stack: Stack) -> list[tuple[object, ...]]:
    with superuser(stack, "clickstream") as connection:
        return connection.execute("SELECT x FROM public.kept").fetchall()


@pytest.mark.long
def test_down_ends_airflow_too_and_up_brings_it_back(stack: Stack) -> None:
    members = members_with_backends(stack)
    lifecycle.down(stack)
    assert not any(member.is_running() for member in members)
    lifecycle.up(stack)
    assert all(one.is_fine for one in read_status(stack))


def test_a_component_that_does_not_start_is_named_with_the_end_of_its_log(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = stack.folder / "kafka" / "server.properties"
    good = properties.read_text()
    properties.write_text(good.replace("node.id=1", "node.id=2"))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle, "RESTARTS_SECONDS", 0)  # one failed start says it all
            with pytest.raises(StackError, match="kafka did not start") as caught:
                lifecycle.restart(stack, "kafka")
        assert "node id 2 must be included" in caught.value.problem
        assert str(stack.log("kafka")) in caught.value.remedy
    finally:
        properties.write_text(good)
        lifecycle.restart(stack, "kafka")
    assert all(one.is_fine for one in read_status(stack))
