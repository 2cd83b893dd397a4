"""compose.yaml, .env.example, the image and the scripts of a host say the same.

compose-spec.json is the schema of Compose files as compose-go 2.16.2 has it, under the Apache License 2.0.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dotenv import dotenv_values

from clickstream.retention import KEEP, Retention
from infra.local.kafka import VERSION as KAFKA_VERSION
from tests.kit import compose_file
from tests.kit.compose_file import DOCKER
from tests.kit.programs import require

REPOSITORY = DOCKER.parent
HOST = DOCKER / "host"
SERVICES: dict[str, dict[str, Any]] = compose_file.content()["services"]
BUILT = "clickstream-pipeline:0.1.0"
EXAMPLE = dotenv_values(DOCKER / ".env.example", interpolate=False)
BY_COMPOSE = {"COMPOSE_PROFILES"}  # read by compose itself
each_service = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root below which `configure --local` has written."""
    require("openssl")
    root = tmp_path_factory.mktemp("root")
    subprocess.run([sys.executable, str(HOST / "configure"), "--local", "--root", str(root)], check=True)
    return root


def test_it_is_a_compose_file() -> None:
    schema = json.loads((Path(__file__).with_name("compose-spec.json")).read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(compose_file.content())] == []
    wrong = compose_file.content()
    wrong["services"]["kafka"]["memory"] = "1g"
    assert not validator.is_valid(wrong)


@each_service
def test_a_service_is_contained(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "${CLICKSTREAM_UID:?}:${CLICKSTREAM_GID:?}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(service)
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["restart"] == ("no" if name == "init" else "on-failure")
    assert name == "init" or service["healthcheck"]["test"][0] == "CMD"  # it ends instead, and its end is waited for


@each_service
def test_the_documentation_says_how_much_memory_it_may_take(name: str) -> None:
    size, unit = re.fullmatch(r"(\d+)([gm])", SERVICES[name]["mem_limit"]).groups()  # type: ignore[union-attr]
    row = re.search(
        rf"^\| `{name}` \| .* \| (\d+) ([GM])iB", (REPOSITORY / "docs" / "docker.md").read_text(), re.MULTILINE
    )
    assert row, name
    assert row.groups() == (size, unit.upper())


@each_service
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z-]+(/[a-z-]+)?:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image), image
    assert "build" in SERVICES["init"]
    assert [one for one, service in SERVICES.items() if "build" in service] == ["init"]
    assert SERVICES[name].get("pull_policy") == ({"init": "build"}.get(name, "never") if image == BUILT else None)


def test_the_broker_is_the_one_that_is_tested() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@each_service
def test_ports_are_on_one_address(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:(\d+):\1", port)
    assert "network_mode" not in SERVICES[name] or name == "init"


@each_service
def test_what_is_waited_for_exists_and_gets_healthy(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other == "init" else "service_healthy"
        assert how["condition"] == wanted
        profiles = SERVICES[other].get("profiles")
        assert profiles is None or profiles == SERVICES[name].get("profiles") or how["required"] is False


def test_every_variable_is_explained_and_none_is_left_over() -> None:
    assert set(EXAMPLE) == compose_file.variables() | BY_COMPOSE
    lines = (DOCKER / ".env.example").read_text().splitlines()
    assert lines[0].startswith("#")
    blocks = "\n".join(lines).split("\n\n")
    assert all(block.startswith("#") for block in blocks)


def test_every_period_reaches_airflow_and_the_topic() -> None:
    periods = {f"{KEEP}{name.upper()}" for name in Retention.model_fields}
    for service in ("init", "airflow-scheduler", "airflow-api-server"):
        assert {name for name in SERVICES[service]["environment"] if name.startswith(KEEP)} == periods


def test_the_example_is_a_working_file(configured: Path) -> None:
    written = dotenv_values(configured / "run" / "clickstream" / "compose.env", interpolate=False)
    assert set(written) <= set(EXAMPLE)
    machine = {"SECRETS_REVISION", "CLICKSTREAM_SECRETS", "CLICKSTREAM_DATA", "CLICKSTREAM_UID", "CLICKSTREAM_GID"}
    assert {name: written[name] for name in set(written) - machine} == {
        name: EXAMPLE[name] for name in set(written) - machine
    }
    compose_file.filled({name: str(value or "") for name, value in written.items()})


def test_every_mounted_file_of_the_repository_is_there(configured: Path) -> None:
    data = configured / "var" / "lib" / "clickstream"
    mounted = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":") if not volume.startswith("${") else _of_data(volume)
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
                assert mode == ["ro"]
            else:
                assert (data / source).is_dir(), source
                mounted.add(source)
            assert target.startswith("/")
    assert mounted == {folder.name for folder in data.iterdir()} - {"certificates", "generated"}


def _of_data(volume: str) -> tuple[str, str]:
    match = re.fullmatch(r"\$\{CLICKSTREAM_DATA:\?\}/([a-z-]+):(.+)", volume)
    assert match, volume
    return match[1], match[2]


def test_every_secret_is_written_used_and_private(configured: Path) -> None:
    declared = compose_file.content()["secrets"]
    for name, secret in declared.items():
        assert secret == {"file": f"${{CLICKSTREAM_SECRETS:?}}/{name}"}
    used = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    written = {file.name: file for file in (configured / "run" / "clickstream" / "secrets").iterdir()}
    assert used == set(declared) == set(written)
    assert {oct(file.stat().st_mode & 0o777) for file in written.values()} == {"0o600"}


@each_service
def test_a_service_gets_each_secret_that_it_reads_and_no_other(name: str) -> None:
    service = SERVICES[name]
    told = json.dumps([service.get("environment"), service.get("command"), service.get("entrypoint")])
    told += "".join(
        file.read_text()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
        for file in [DOCKER / volume.split(":")[0]]
        for file in ([file] if file.is_file() else [one for one in file.iterdir() if one.is_file()])
    )
    told += str(EXAMPLE) if "AIRFLOW__SECRETS__BACKEND" in told else ""
    for secret in compose_file.content()["secrets"]:
        read = f"/run/secrets/{secret}" in told or f"$secrets/{secret}" in told
        if name != "init":  # it is given the folder
            assert read == (secret in service.get("secrets", [])), secret


def test_a_second_run_keeps_what_is_there(configured: Path, tmp_path: Path) -> None:
    def everything() -> dict[Path, str]:
        return {file: file.read_text() for file in configured.rglob("*") if file.is_file()}

    before = everything()
    configure = [sys.executable, str(HOST / "configure"), "--local", "--root", str(configured)]
    subprocess.run(configure, check=True, cwd=tmp_path)
    assert everything() == before


# The image


LINES = (DOCKER / "pipeline" / "Dockerfile").read_text().replace("\\\n", "").splitlines()
INSTRUCTIONS = [(line.split()[0], line.partition(" ")[2].strip()) for line in LINES if line and line[0] != "#"]


def test_the_image_is_pinned_small_and_has_its_user() -> None:
    kinds = [kind for kind, _ in INSTRUCTIONS]
    assert kinds.count("FROM") == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", INSTRUCTIONS[0][1])
    assert "ADD" not in kinds
    assert kinds[-1] == "USER"
    assert INSTRUCTIONS[-1][1] == "clickstream"
    runs = [text for kind, text in INSTRUCTIONS if kind == "RUN"]
    for run in runs:
        assert ("apt-get" in run) == ("--no-install-recommends" in run) == ("rm -rf /var/lib/apt/lists/*" in run)
        assert "pip install" not in run or "--no-cache-dir" in run
        assert not re.search(r"https?://|\bsudo\b|--mount", run)


def test_a_change_of_the_source_installs_nothing_anew() -> None:
    """Layers are rebuilt from the first whose files changed."""
    texts = [f"{kind} {text}" for kind, text in INSTRUCTIONS]
    install = next(index for index, text in enumerate(texts) if "pip install" in text)
    copies = [index for index, text in enumerate(texts) if text.startswith("COPY")]
    assert [texts[index] for index in copies if index < install] == ["COPY requirements.txt ./"]


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines[1:] if line.startswith("!")}
    copied = {text.split()[0] for kind, text in INSTRUCTIONS if kind == "COPY"}
    assert allowed == {path for path in copied if not any(path.startswith(f"{other}/") for other in copied)}
    assert all((REPOSITORY / path).exists() for path in copied)


# The scripts of a host


SCRIPTS = [
    *(HOST / name for name in ("start", "init", "check-health", "certificates")),
    DOCKER / "local-secrets",
    DOCKER / "kafka" / "start",
    REPOSITORY / "infra" / "monitoring" / "alertmanager" / "start",
]


@pytest.mark.needs("shellcheck")
def test_the_scripts_are_clean() -> None:
    subprocess.run(["shellcheck", *map(str, SCRIPTS)], check=True)


def test_the_scripts_can_be_started() -> None:
    for script in [*SCRIPTS, HOST / "configure", DOCKER / "pipeline" / "healthy"]:
        assert script.stat().st_mode & 0o111, script


def test_the_unit_starts_what_is_there() -> None:
    unit = (HOST / "clickstream.service").read_text()
    paths = re.findall(r"/opt/clickstream/(\S+)", unit)
    assert paths == ["docker/host/start", "docker/compose.yaml"]
    assert all((REPOSITORY / path).exists() for path in paths)


def test_prometheus_of_compose_is_that_of_the_embedded_stack_with_an_alertmanager() -> None:
    configuration = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    assert configuration["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    assert jobs["clickstream"]["metrics_path"] == "/clickstream/metrics"
    assert jobs["clickstream"]["static_configs"][0]["targets"] == ["airflow-api-server:8080"]
