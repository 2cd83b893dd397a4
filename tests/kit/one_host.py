"""The services of docker/compose.yaml as processes of this machine.

Command, environment and health check are those of the file. What a container would change is mapped: its paths to
folders of the test, its ports to free ones, names of other containers to loopback. Nothing else differs, but that a
program gets told to listen on loopback, where its container's network would keep it in, that DAGs wait for their test,
and that Prometheus looks every second.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from infra.local import kafka, postgres
from infra.local.java import find_java
from infra.local.ports import LOOPBACK, draw_ports
from infra.local.supervision import base_environment
from tests.kit import compose_file
from tests.kit.compose_file import DOCKER
from tests.kit.installations import started
from tests.kit.waiting import wait_for

REPOSITORY = DOCKER.parent
COPIED = ("kafka", "prometheus.yml")
PORTS = {
    "kafka": ("9092", "9093", "9094", "9095"),
    "postgres": ("5432",),
    "airflow-api-server": ("8080",),
    "spark-master": ("7077", "8080"),
    "spark-worker": ("8081",),
    "prometheus": ("9090",),
    "alertmanager": ("9093",),
}
LISTENING: Mapping[str, tuple[list[str], dict[str, str]]] = {  # arguments and variables beyond the file's
    "airflow-api-server": ([], {"AIRFLOW__API__HOST": LOOPBACK}),
    "postgres": (["-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="], {}),
    "spark-master": ([], {"SPARK_LOCAL_IP": LOOPBACK}),
    "spark-worker": ([], {"SPARK_LOCAL_IP": LOOPBACK}),
    "prometheus": (["--web.listen-address=127.0.0.1:9090"], {}),
    "alertmanager": (["--web.listen-address=127.0.0.1:9093"], {}),
}


class Host:
    """A host that `configure --local` has prepared, in a folder of the test's.

    Attributes:
        secrets: The files of secrets, with the test's ports in them.
        data: The folders of the containers' data.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        configure = [sys.executable, str(DOCKER / "host" / "configure"), "--local", "--root", str(folder)]
        given = {"HOST_ADDRESS": LOOPBACK, "DATABASE_HOST": LOOPBACK} | settings
        subprocess.run(configure, check=True, env=base_environment() | given, capture_output=True)
        self.folder = folder
        self.secrets = folder / "run" / "clickstream" / "secrets"
        self.data = folder / "var" / "lib" / "clickstream"
        written = dotenv_values(folder / "run" / "clickstream" / "compose.env", interpolate=False)
        self.services: dict[str, dict[str, Any]] = compose_file.filled(
            {name: str(value or "") for name, value in written.items()}
        )["services"]
        drawn = draw_ports()
        self.ports = {service: {port: str(next(drawn)) for port in ports} for service, ports in PORTS.items()}
        self._folders = {service: dict(self._mounted(service)) for service in self.services}
        self._java = find_java()
        self._map_secrets()
        self._map_configurations()

    def port(self, service: str, port: str) -> int:
        """Where the port of a container is."""
        return int(self.ports[service][port])

    def here(self, service: str, text: str) -> str:
        """A text of a container as it has to be on this machine."""
        network = "kafka" if service == "init" else service
        for name, ports in self.ports.items():
            for port, there in ports.items():
                text = text.replace(f"{name}:{port}", f"{LOOPBACK}:{there}")
                if name == network:
                    text = there if text == port else text
                    for before in (f"{LOOPBACK}:", f"{LOOPBACK}/", "//:", "}:"):
                        mapped = f"//{LOOPBACK}:" if before == "//:" else before
                        text = text.replace(f"{before}{port}", f"{mapped}{there}")
        if text == "5432":
            text = self.ports["postgres"]["5432"]
        folders = self._folders[service]
        text = re.sub("|".join(map(re.escape, folders)), lambda found: folders[found[0]], text)
        return LOOPBACK if text == "spark-master" else text  # its own name, as an argument

    def _mounted(self, service: str) -> Iterator[tuple[str, str]]:
        """Paths of a container with those of this machine; a configuration that names paths or ports has a copy."""
        for volume in self.services[service].get("volumes", []):
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                copied = Path(source).name in COPIED
                yield (
                    target,
                    str(self.folder / "mounted" / Path(source).name if copied else (DOCKER / source).resolve()),
                )
            else:
                yield target, source
        yield "/run/secrets", str(self.secrets)
        yield "/opt/clickstream", str(REPOSITORY)
        yield "/tmp/", f"{self.folder}/tmp/{service}/"  # noqa: S108 - of the container

    def _map_configurations(self) -> None:
        mounted = self.folder / "mounted"
        shutil.copytree(DOCKER / "kafka", mounted / "kafka")
        shutil.copy(DOCKER / "prometheus" / "prometheus.yml", mounted)
        for service, file in (("kafka", "kafka/server.properties"), ("prometheus", "prometheus.yml")):
            text = (mounted / file).read_text(encoding="utf-8").replace("interval: 15s", "interval: 1s")
            (mounted / file).write_text(self.here(service, text), encoding="utf-8")

    def _map_secrets(self) -> None:
        url = self.secrets / "airflow-metadata-url"
        url.write_text(url.read_text().replace(":5432/", f":{self.ports['postgres']['5432']}/"))
        file = self.secrets / "airflow-connections.json"
        connections = json.loads(file.read_text())
        connections["clickstream_db"]["port"] = self.port("postgres", "5432")
        assert connections["clickstream_spark"]["host"] == "spark://spark-master"
        connections["clickstream_spark"] |= {
            "host": f"spark://{LOOPBACK}",
            "port": self.port("spark-master", "7077"),
            "extra": {"webui-port": self.ports["spark-master"]["8080"]},
        }
        file.write_text(json.dumps(connections))

    def environment(self, service: str) -> dict[str, str]:
        """All that a container's process has in its environment."""
        scratch = self.folder / "tmp" / service
        scratch.mkdir(parents=True, exist_ok=True)
        tools = f"{self._java.home}/bin:{postgres.binaries()}:{base_environment()['PATH']}"
        own = {name: self.here(service, value) for name, value in self.services[service]["environment"].items()}
        if service == "kafka":
            own["KAFKA_JARS"] = str(kafka.fetch_jars(self._java))
        if service == "postgres":
            own["PGPORT"] = self.ports[service]["5432"]  # of the server and of its health check
        if service.startswith("airflow-"):
            own["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "true"  # what runs is what a test starts
        if service == "alertmanager":
            tools = f"{self._named_alike(scratch)}:{tools}"
        return (
            base_environment()
            | {"HOME": str(scratch), "PATH": tools, "PYTHONDONTWRITEBYTECODE": "1"}
            | own
            | LISTENING.get(service, ([], {}))[1]
        )

    def _named_alike(self, folder: Path) -> Path:
        """A folder in which Debian's Alertmanager has the name of the image's."""
        link = folder / "alertmanager"
        if not link.is_symlink():
            link.symlink_to(str(shutil.which("prometheus-alertmanager")))
        return folder

    def command(self, service: str) -> list[str]:
        """What the container runs."""
        given = self.services[service]
        words = [*given.get("entrypoint", []), *given.get("command", []), *LISTENING.get(service, ([], {}))[0]]
        return [self.here(service, word) for word in words]

    def run(
        self, service: str, *arguments: str, command: Sequence[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a service that ends, or another command in its container."""
        return subprocess.run(
            [*(self.command(service) if command is None else command), *arguments],
            env=self.environment(service),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )

    def is_healthy(self, service: str) -> bool:
        """The answer to the question of its health check."""
        kind, *words = [self.here(service, word) for word in self.services[service]["healthcheck"]["test"]]
        assert kind == "CMD"
        if words[0] == "wget":  # of the image's busybox
            try:
                return httpx.get(words[-1], timeout=30).is_success
            except httpx.TransportError:
                return False
        return self.run(service, command=words).returncode == 0

    @contextmanager
    def start(self, *services: str) -> Iterator[None]:
        """Start services and wait until all are healthy, in any order."""
        with ExitStack() as opened:
            processes = {}
            for service in services:
                log = self.folder / f"{service}.log"
                process = opened.enter_context(started(self.launch(service), log, **self.environment(service)))
                processes[service] = (process, log)
            for service, (process, log) in processes.items():
                self._wait_until_healthy(service, process, log)
            yield

    def _wait_until_healthy(self, service: str, process: subprocess.Popen[bytes], log: Path) -> None:
        def end_of_log() -> str:
            return log.read_text(encoding="utf-8")[-3000:]

        def look() -> bool:
            assert process.poll() is None, f"{service} ended:\n{end_of_log()}"
            return self.is_healthy(service)

        wait_for(look, lambda: f"health of {service}, whose log ends with\n{end_of_log()}\n")

    def launch(self, service: str) -> list[str]:
        """The command, behind what its image brings: of Prometheus the program, of PostgreSQL also the first start."""
        command = self.command(service)
        if service == "prometheus":
            return ["prometheus", *command]
        if service != "postgres":
            return command
        user = postgres.account(self.data / "postgres")
        password = self.secrets / "postgres-superuser"
        for path in (self.data / "postgres", password):
            os.chown(path, user.uid, user.gid)
        cluster = self.data / "postgres" / "data"
        initdb = [
            *("setpriv", *user.privileges, "initdb", "--pgdata", str(cluster), "--username=postgres"),
            f"--pwfile={password}",
            *self.services[service]["environment"]["POSTGRES_INITDB_ARGS"].split(),
        ]
        subprocess.run(initdb, env=self.environment(service), cwd="/", check=True, capture_output=True)
        return ["setpriv", *user.privileges, *command, "-D", str(cluster)]
