"""What health checks look at in tests: a pipeline of the test's own, with parts replaced by broken ones."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from clickstream.health import run as checks
from clickstream.health.check import Check, Installation
from clickstream.health.spark import Master
from clickstream.ledger.health import Row
from infra.local import kafka
from infra.local.commands import run
from infra.local.java import find_java
from infra.local.ports import LOOPBACK, free_ports
from infra.local.stack import Stack
from infra.local.supervision import base_environment
from tests.kit.pipeline import Pipeline

CLOSED_PORT = 1
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # options of a JVM that is to start soon
NOWHERE = f"http://{LOOPBACK}:{CLOSED_PORT}"


def installation(pipeline: Pipeline, **changes: Any) -> Installation:
    """The pipeline with Spark on this host and its stack's Airflow; settings or attributes changed."""
    attributes: dict[str, Any] = {
        "connect": pipeline.connect,
        "spark": lambda: Master(url="local[2]"),
        "airflow_url": lambda: pipeline.stack.airflow_url,
    }
    attributes |= {name: changes.pop(name) for name in attributes.keys() & changes.keys()}
    return Installation(settings=pipeline.settings.model_copy(update=changes), **attributes)


def patient(check: Check) -> Check:
    """The check, to which a busy machine isn't slow."""
    return replace(check, slow_seconds=60, deadline_seconds=max(check.deadline_seconds, 60))


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def serving(answers: dict[str, str]) -> Iterator[str]:
    """The URL of a server that gives these bodies by path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own, with the options of mount(8)."""
    folder.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], purpose="mount a small disk", remedy="Be root.")
    try:
        yield folder
    finally:
        run(["umount", "--lazy", folder], purpose="unmount the small disk", remedy="Look who uses it.")


@contextmanager
def started(command: list[Any], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the test's own, killed at the end with all that it started and that would outlive it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", *map(str, command)],
            env=base_environment() | environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        family = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()


@contextmanager
def two_brokers() -> Iterator[tuple[Stack, list[subprocess.Popen[bytes]]]]:
    """Kafka brokers 1 and 2 of one cluster; the first is its controller too."""
    with tempfile.TemporaryDirectory(prefix="clickstream-brokers-") as folder:
        stack = Stack.create(Path(folder))
        java = find_java()
        jars = kafka.fetch_jars(java)
        kafka.prepare(stack, java, jars)
        home = stack.folder / "kafka"
        first = home / "server.properties"
        second = home / "second.properties"
        data = home / "second"
        own_address = f"PLAINTEXT://{LOOPBACK}:{free_ports().kafka}"
        lines = dict(line.split("=", 1) for line in first.read_text().splitlines())
        lines |= {
            "process.roles": "broker",
            "node.id": "2",
            "listeners": own_address,
            "advertised.listeners": own_address,
            "log.dirs": str(data),
        }
        second.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        identity = dict(
            line.split("=", 1) for line in (home / "data" / "meta.properties").read_text().splitlines() if "=" in line
        )
        run_java = kafka._java_command(java, jars, home, "-Xmx256m", *SHORT_LIVED.split())
        with started([*run_java, "kafka.Kafka", first], home / "first.log") as one:
            subprocess.run(
                [
                    *map(str, run_java),
                    "kafka.tools.StorageTool",
                    "format",
                    "--cluster-id",
                    identity["cluster.id"],
                    "--config",
                    second,
                ],
                env=base_environment(),
                check=True,
                capture_output=True,
            )
            with started([*run_java, "kafka.Kafka", second], home / "second.log") as two:
                yield stack, [one, two]


def spark_daemon(name: str, log: Path, *arguments: str) -> Any:
    """A real process of a standalone Spark cluster, `master.Master` or `worker.Worker`."""
    return started(
        ["spark-class", f"org.apache.spark.deploy.{name}", *arguments],
        log,
        JAVA_HOME=str(find_java().home),
        SPARK_LOCAL_IP=LOOPBACK,
        SPARK_WORKER_DIR=str(log.parent),
        SPARK_LAUNCHER_OPTS=SHORT_LIVED,
        SPARK_DAEMON_JAVA_OPTS=SHORT_LIVED,
    )


def prometheus_configuration(folder: Path, targets: dict[str, int]) -> Path:
    """A configuration that scrapes these ports five times a second, by job."""
    jobs = [
        {"job_name": job, "scrape_interval": "200ms", "static_configs": [{"targets": [f"{LOOPBACK}:{port}"]}]}
        for job, port in targets.items()
    ]
    path = folder / "prometheus.yml"
    path.write_text(json.dumps({"scrape_configs": jobs}))
    return path


def is_root() -> bool:
    return os.geteuid() == 0


def look(check: Check, where: Installation, **changes: Any) -> Row:
    (row,) = checks.run(where, [replace(patient(check), **changes)])
    assert row.component == check.component
    return row


def says(row: Row, status: str, *words: str) -> None:
    assert row.status == status, row
    for word in words:
        assert word in row.reason, row
