"""Real services for every test that needs them, started once by a worker, in folders that go with the run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.kit")  # before it is imported: its assertions tell what they compared

from pyspark.sql import SparkSession
from xdist.scheduler import LoadFileScheduling

from clickstream.provisioning.provision import Planned
from clickstream.provisioning.synthesis import Assembly
from infra.local import lifecycle, ports
from infra.local.files import exclusive
from infra.local.stack import Stack
from tests.kit import aging, deployment, erasing, examples, janitor, published
from tests.kit.aws import Account, Server
from tests.kit.open_batch import OpenBatch
from tests.kit.pipeline import Pipeline
from tests.kit.programs import closing_lines, require
from tests.kit.rollback import RolledBack
from tests.kit.services import migrate, superuser
from tests.kit.templates import PROFILES, synthesize
from tests.oracle import Record

TEMPLATE = "clickstream_template"
PORTS_OF_A_WORKER = 200
WATCHED = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a folder for all that is temporary, and somebody who cleans up after it."""
    examples.load_profile("long" if config.option.markexpr == "long" else "short")
    if hasattr(config, "workerinput"):
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as orderly an end as Ctrl+C
    folder = Path(tempfile.mkdtemp(prefix="clickstream-tests-"))
    folder.chmod(0o711)  # PostgreSQL, which may be another user, passes through it
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    config.stash[WATCHED] = janitor.start(folder)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    examples.mark_long(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        require(*marker.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in closing_lines(str(report.longrepr) for report in terminalreporter.getreports("skipped")):
        terminalreporter.write_line(line)


class AirflowOnOneWorker(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Files as a whole, and all that need Airflow together, so that it is started once."""

    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/acceptance/"
        return folder if nodeid.startswith(folder) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> AirflowOnOneWorker:
    return AirflowOnOneWorker(config, log)


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Each worker of each run on this machine draws from ports of its own, as it holds the first of them."""
    for first in ports.TEST_PORTS[::PORTS_OF_A_WORKER]:
        with socket.socket() as holder, pytest.MonkeyPatch.context() as patch:
            try:
                holder.bind((ports.LOOPBACK, first))
            except OSError:
                continue
            patch.setattr(ports, "TEST_PORTS", range(first + 1, first + PORTS_OF_A_WORKER))
            yield
            return
    pytest.exit("All ports for tests are taken by other runs of them.", returncode=2)


@pytest.fixture(scope="session")
def services(aws_server: Server) -> Iterator[Stack]:
    """Kafka and PostgreSQL, without Airflow, in a folder of their own on free ports.

    What Airflow is to find of AWS is handed down by the supervisor, which begins here.
    """
    one = Stack.create(
        Path(tempfile.mkdtemp(prefix="stack-")),
        with_airflow=False, with_prometheus=False, with_generator=False, disposable=True, dags_paused=True,
    )  # fmt: skip
    try:
        with aws_server.account.known():
            lifecycle.up(one)
        yield one
    finally:
        janitor.clean_up(one.folder)


@pytest.fixture(scope="session")
def template(services: Stack) -> str:
    """A database with all migrations applied, to be copied by each test."""
    with superuser(services) as conn:
        conn.execute(f"CREATE DATABASE {TEMPLATE} OWNER clickstream_owner TEMPLATE template0")
    migrate(services, TEMPLATE, "up")
    return TEMPLATE


@pytest.fixture
def pipeline(services: Stack, template: str) -> Iterator[Pipeline]:
    """The library on a topic, a database and a storage folder of the test's own."""
    made = Pipeline.new(services, template)
    try:
        yield made
    finally:
        made.drop()


@pytest.fixture(scope="session")
def shared(services: Stack, template: str) -> Iterator[Pipeline]:
    """A database that many tests look at, each of which leaves it as it was."""
    made = Pipeline.new(services, template)
    try:
        yield made
    finally:
        made.drop()


@pytest.fixture
def rolled_back(shared: Pipeline) -> Iterator[RolledBack]:
    """The library in one transaction of the test's own, of which nothing stays; for what needs no second connection."""
    with RolledBack.on_that_of(shared) as made:
        yield made


@pytest.fixture(scope="session")
def written(services: Stack, template: str, spark: SparkSession) -> Iterator[tuple[Pipeline, list[Record]]]:
    """Five batches, two of them of one hour of long ago, published soon after their records; to be copied."""
    pipeline = Pipeline.new(services, template)
    records = aging.publish(pipeline, spark, aging.MOMENTS)
    aging.backdate(pipeline)
    aging.mark_days_published(pipeline)
    pipeline.close()
    yield pipeline, records
    pipeline.drop()


@pytest.fixture(scope="session")
def known_user(services: Stack, template: str, spark: SparkSession) -> Iterator[Pipeline]:
    """A user who is everywhere, as `erasing.make_known` says; to be copied."""
    pipeline = Pipeline.new(services, template)
    erasing.make_known(pipeline, spark)
    pipeline.close()
    yield pipeline
    pipeline.drop()


@pytest.fixture
def known(known_user: Pipeline) -> Iterator[Pipeline]:
    """A copy of it; whoever produces gives it a topic of its own before."""
    pipeline = known_user.copied()
    yield pipeline
    pipeline.drop()


@pytest.fixture(scope="session")
def closed_days(services: Stack, template: str, spark: SparkSession) -> Iterator[Pipeline]:
    """The records of `published.two_days`, which close two days, of which none is published; to be copied."""
    pipeline = Pipeline.new(services, template)
    published.take(pipeline, spark, published.two_days())
    pipeline.close()
    yield pipeline
    pipeline.drop()


@pytest.fixture
def closed(closed_days: Pipeline) -> Iterator[Pipeline]:
    """A copy of it."""
    pipeline = closed_days.copied()
    yield pipeline
    pipeline.drop()


@pytest.fixture(scope="session")
def open_batch(services: Stack, template: str, spark: SparkSession) -> Iterator[OpenBatch]:
    """A batch that waits to be published; to be copied."""
    with Pipeline.new(services, template) as pipeline:
        made = OpenBatch.on(pipeline, spark)
        pipeline.close()
        yield made


@pytest.fixture
def batch(open_batch: OpenBatch) -> Iterator[OpenBatch]:
    """A batch that waits to be published, the test's own."""
    with open_batch.pipeline.copied() as pipeline:
        yield replace(open_batch, pipeline=pipeline)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Server]:
    """One server of AWS a worker, which starts when its account is first asked for."""
    with Server(Path(tempfile.mkdtemp(prefix="aws-"))) as server:
        yield server


@pytest.fixture
def aws(aws_server: Server, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An empty AWS account, which boto3's default chain of this process finds."""
    aws_server.start()
    aws_server.account.reset()
    for name, value in aws_server.account.environment.items():
        monkeypatch.setenv(name, value)
    return aws_server.account


@pytest.fixture(scope="session")
def prepared_account(aws_server: Server, templates: dict[str, Path]) -> Iterator[Account]:
    """An account with what the stacks are deployed from, to be copied."""
    aws_server.start()
    with aws_server.account.copied() as account:
        account.reset()
        with account.in_use():
            deployment.upload(account, Assembly(templates["small"]))
        yield account


@pytest.fixture(scope="session")
def deployed_account(prepared_account: Account, templates: dict[str, Path]) -> Iterator[tuple[Account, list[Planned]]]:
    """An account with the stacks, to be copied, and what was executed there."""
    with prepared_account.copied() as account:
        with account.in_use():
            planned = deployment.deploy(Assembly(templates["small"]))
        yield account, planned


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the stacks on AWS synthesize to, once a run: by profile, the folder with templates and assets."""
    require("node")
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cdk"
    with exclusive(shared.with_suffix(".lock"), what="synthesizing the stacks", wait=True):
        if not shared.exists():
            processes = {profile: synthesize(shared / profile, profile=profile) for profile in PROFILES}
            for profile, process in processes.items():
                output, _ = process.communicate(timeout=240)
                assert process.returncode == 0, f"{profile}:\n{output}"
    return {profile: shared / profile for profile in PROFILES}


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A warm session with the options of a submitted one."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    scratch = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[1]" if "PYTEST_XDIST_WORKER" in os.environ else "local[2]")
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
