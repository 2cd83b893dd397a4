"""compose.yaml's services as processes: each is healthy by its own check, and together they are the pipeline."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from clickstream.aggregate.spark import SUBMIT, driver_address, submit_conf
from clickstream.settings import Settings
from infra.bootstrap import roles
from infra.local import spark_cds
from infra.local.ports import LOOPBACK
from tests.kit.one_host import Host
from tests.kit.waiting import wait_for

SETTINGS = Settings(kafka_bootstrap_servers="kafka:9094", storage_url="file:///nowhere")
pytestmark = pytest.mark.needs("openssl", "prometheus", "prometheus-alertmanager")
AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """All services up in the order in which compose starts them; the generator makes one minute instead of each."""
    one = Host(tmp_path_factory.mktemp("host"))
    with one.start("kafka", "postgres", "spark-master"):
        done = one.run("init")
        assert done.returncode == 0, done.stdout + done.stderr
        with one.start("spark-worker", *AIRFLOW), one.start("prometheus", "alertmanager"):
            made = one.run("generator", "--burst", "100")
            assert made.returncode == 0, made.stdout + made.stderr
            yield one


@pytest.mark.long
def test_the_generator_is_healthy_by_what_it_made(host: Host) -> None:
    assert host.is_healthy("generator")


@pytest.mark.long
def test_init_may_run_again_at_any_time(host: Host) -> None:
    done = host.run("init")
    assert done.returncode == 0, done.stdout + done.stderr
    reader = json.loads((host.secrets / "grafana_reader.json").read_text())
    with psycopg.connect(
        host=LOOPBACK,
        port=host.port("postgres", "5432"),
        dbname="clickstream",
        user=reader["username"],
        password=reader["password"],
    ) as conn:
        assert conn.execute("SELECT count(*) FROM ledger.partitions").fetchone() is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM ledger.partitions")


@pytest.mark.long
def test_a_batch_runs_on_the_worker_of_the_standalone_master(host: Host, tmp_path: Path) -> None:
    master = f"spark://{LOOPBACK}:{host.port('spark-master', '7077')}"
    spec = spark_cds._small_batch(tmp_path)
    conf = [f"--conf={name}={value}" for name, value in submit_conf(master, SETTINGS).items()]
    app = "spark_apps/aggregate_windows.py"
    command = [str(SUBMIT), "--master", master, *conf, app, "--spec", spec.as_uri()]
    done = host.run("airflow-scheduler", command=command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["landed"] == 2
    assert list((host.data / "spark" / "work").glob("app-*")) != []


@pytest.mark.long
def test_prometheus_scrapes_all_and_knows_alertmanager(host: Host) -> None:
    prometheus = f"http://{LOOPBACK}:{host.port('prometheus', '9090')}/api/v1"

    def up() -> dict[str, str]:
        found = httpx.get(f"{prometheus}/query", params={"query": "up"}, timeout=30).json()["data"]["result"]
        return {one["metric"]["job"]: one["value"][1] for one in found}

    wait_for(
        lambda: up() == {"prometheus": "1", "alertmanager": "1", "clickstream": "1"}, lambda: f"scrape, but {up()}"
    )
    known = httpx.get(f"{prometheus}/alertmanagers", timeout=30).json()["data"]["activeAlertmanagers"]
    assert known == [{"url": f"http://{LOOPBACK}:{host.port('alertmanager', '9093')}/api/v2/alerts"}]
    groups = httpx.get(f"{prometheus}/rules", timeout=30).json()["data"]["groups"]
    assert {group["name"] for group in groups} == {"airflow", "batches", "freshness", "monitoring", "partitions"}
    runbook = httpx.get(f"{prometheus.removesuffix('/api/v1')}/user/Watchdog.md", timeout=30)
    assert runbook.text.startswith("# Watchdog")


@pytest.mark.long
def test_every_component_is_well(host: Host) -> None:
    done = host.run("airflow-scheduler", command=["python", "-m", "clickstream.health"])
    rows = {row["component"]: row for row in map(json.loads, done.stdout.splitlines())}
    slow = {name for name, row in rows.items() if row["reason"].startswith("Slow: ")}  # with all at once on few cores
    assert [row for name, row in rows.items() if row["status"] != "ok" and name not in slow] == []
    assert done.returncode == 0, done.stderr
    assert "workers alive: 1" in rows["spark"]["reason"]
    assert "targets: 3" in rows["prometheus"]["reason"]
    assert {"kafka", "kafka_canary", "postgresql", "ledger", "storage", "generator", "airflow"} <= set(rows)


def test_a_master_user_that_is_no_superuser_makes_roles_and_databases(tmp_path: Path) -> None:
    """As on RDS, whose master user may create both and no more."""
    alone = Host(tmp_path)
    where: dict[str, Any] = {"host": LOOPBACK, "port": alone.port("postgres", "5432"), "autocommit": True}
    superuser = (alone.secrets / "postgres-superuser").read_text()
    passwords = dict.fromkeys(roles.ROLES, "first")
    with alone.start("postgres"):
        with psycopg.connect(**where, dbname="postgres", user="postgres", password=superuser) as conn:
            conn.execute("CREATE ROLE master LOGIN CREATEDB CREATEROLE PASSWORD 'master'")
        with psycopg.connect(**where, dbname="postgres", user="master", password="master") as conn:  # noqa: S106
            roles.ensure_roles(conn, passwords)
            roles.ensure_roles(conn, passwords | {roles.OWNER: "second"})
        with psycopg.connect(**where, dbname=roles.DATABASE, user=roles.OWNER, password="second") as conn:  # noqa: S106
            conn.execute("CREATE SCHEMA ledger")
        with psycopg.connect(**where, dbname=roles.DATABASE, user=roles.READER, password="first") as conn:  # noqa: S106
            assert conn.execute("SELECT current_user").fetchone() == (roles.READER,)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(**where, dbname=roles.AIRFLOW_DATABASE, user=roles.READER, password="first")  # noqa: S106


def test_the_driver_is_found_where_this_host_faces_the_master() -> None:
    assert driver_address("local[2]") == driver_address(f"spark://{LOOPBACK}:7077") == LOOPBACK
    others = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    assert driver_address(f"spark://{others[0]}:7077,standby:7077") == others[0]
    with pytest.raises(OSError, match=r"not known|resolution"):
        driver_address("spark://no-such-master.invalid:7077")
