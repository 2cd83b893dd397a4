"""Real services for every test that needs them: one stack a session, on free ports, in a folder of its own."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pyspark.sql import SparkSession

from infra.local import lifecycle, ports
from infra.local.stack import Stack
from tests.aws import ACCOUNT, REGION, Account, Server
from tests.pipeline import Pipeline

REPOSITORY = Path(__file__).parents[1]
TEMPLATE = "clickstream_template"


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Each of several workers draws from ports of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports, "TEST_PORTS", ports.TEST_PORTS[worker::workers])
        yield


@pytest.fixture(scope="session")
def stack(aws_server: Server) -> Iterator[Stack]:
    """Kafka, PostgreSQL, Airflow with all DAGs paused, Prometheus where installed; no generator."""
    folder = Path(tempfile.mkdtemp(prefix="clickstream-test-"))
    one = Stack.create(folder, dags_paused=True, with_generator=False)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in aws_server.account.environment.items():
                patch.setenv(name, value)
            lifecycle.up(one)
        yield one
    finally:
        lifecycle.down(one)
        shutil.rmtree(folder, ignore_errors=True)


def superuser(stack: Stack, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
    password = (stack.folder / "postgres" / "superuser-password").read_text(encoding="utf-8")
    return psycopg.connect(
        host="127.0.0.1",
        port=stack.ports.postgres,
        user="postgres",
        password=password,
        dbname=database,
        autocommit=True,
    )


@pytest.fixture(scope="session")
def template(stack: Stack) -> str:
    """A database with all migrations applied, to be copied by each test."""
    with superuser(stack) as conn:
        conn.execute(f"CREATE DATABASE {TEMPLATE} OWNER clickstream_owner TEMPLATE template0")
    migrate(stack, TEMPLATE, "up")
    return TEMPLATE


def migrate(stack: Stack, database: str, *arguments: str) -> str:
    """Run the command line of the migrations on a database; returns what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "clickstream.ledger.migrate", *arguments],
        env=os.environ
        | {
            "PYTHONPATH": str(REPOSITORY / "plugins"),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(stack.ports.postgres),
            "PGUSER": "clickstream_owner",
            "PGPASSWORD": (stack.secrets / "clickstream_owner").read_text(encoding="utf-8"),
            "PGDATABASE": database,
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.fixture
def pipeline(stack: Stack, template: str) -> Iterator[Pipeline]:
    """The library on a topic, a database and a storage folder of the test's own."""
    name = f"t_{uuid4().hex[:12]}"
    storage = stack.folder / "test-storage" / name
    storage.mkdir(parents=True)
    with superuser(stack) as conn:
        conn.execute(f"CREATE DATABASE {name} OWNER clickstream_owner TEMPLATE {template}")
    made = Pipeline.create(stack, database=name, topic=name, storage=storage)
    try:
        yield made
    finally:
        made.close()
        with superuser(stack) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
        shutil.rmtree(storage)


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of AWS a session."""
    with Server(tmp_path_factory.mktemp("aws") / "moto.log") as server:
        yield server


@pytest.fixture
def aws(aws_server: Server, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An empty AWS account, which boto3's default chain of this process finds."""
    aws_server.account.reset()
    for name, value in aws_server.account.environment.items():
        monkeypatch.setenv(name, value)
    return aws_server.account


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the stacks on AWS synthesize to: by profile, the folder with templates and assets."""
    folders = {profile: tmp_path_factory.mktemp("cdk") / profile for profile in ("small", "scaled")}
    processes = {profile: synthesize(folder, profile=profile) for profile, folder in folders.items()}
    for profile, process in processes.items():
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, f"{profile}:\n{output}"
    return folders


def synthesize(folder: Path, environment: Mapping[str, str] | None = None, **context: str) -> subprocess.Popen[str]:
    """Start the app of the stacks; what it is not told here is as in the tests' account."""
    given = {"account": ACCOUNT, "region": REGION, "allowedCidr": "203.0.113.4/32", "alarmEmail": "ops@example.org"}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "infra" / "app.py")],
        env=os.environ
        | {"CDK_OUTDIR": str(folder), "CDK_CONTEXT_JSON": json.dumps(given | context)}
        | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A warm session with the options of a submitted one."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    scratch = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config("spark.driver.memory", "1g")
        .config(
            "spark.driver.extraJavaOptions",
            # C1 alone reserves 48 MB for code; when a long session has filled them, nothing more is compiled.
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
        )
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(scratch))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        # Not UTC: the app must not rely on the caller's time zone.
        .config("spark.sql.session.timeZone", "America/St_Johns")
        .getOrCreate()
    )
    yield session
    session.stop()
    logging.getLogger("py4j").setLevel(logging.WARNING)  # its farewell comes after capturing has ended
