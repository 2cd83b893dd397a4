"""Spark: the way a job is submitted, and the workers of a standalone master."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clickstream.aggregate.spark import STANDALONE, SUBMIT, submit_conf
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.health.fetch import NoAnswer, fetch

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBMIT_TIMEOUT_SECONDS = 25
DEFAULT_UI_PORT = 8080
SHOWN_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Master:
    """Where jobs are submitted.

    Attributes:
        url: Such as `local[2]` or `spark://host:port[,host:port...]`.
        ui_port: Port of a standalone master's pages.
    """

    url: str
    ui_port: int = DEFAULT_UI_PORT


def look(installation: Installation) -> Finding:
    """Start the submit command as the aggregation does, and ask a standalone master for its workers.

    Raises:
        subprocess.TimeoutExpired: The submit command hangs.
    """
    master = installation.spark()
    version, problems = _submit(master.url, submit_conf(master.url, installation.settings))
    found = f"spark-submit {version} for {master.url}" if version else f"Master {master.url}"
    if master.url.startswith(STANDALONE):
        workers, of_workers = _workers(master)
        found += f", workers alive: {workers}"
        problems += of_workers
    return finding(f"{found}.", problems)


def _submit(master: str, conf: Mapping[str, str]) -> tuple[str | None, list[Problem]]:
    """The version that answers, or why none does."""
    ended = subprocess.run(  # noqa: S603 - the pipeline's own program
        [SUBMIT, "--master", master, *(f"--conf={name}={value}" for name, value in conf.items()), "--version"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SUBMIT_TIMEOUT_SECONDS,
        check=False,
    )
    shown = ended.stdout + ended.stderr
    version = re.search(r"version (\S+)", shown)
    if ended.returncode == 0 and version:
        return version[1], []
    problem = (
        f"spark-submit --version ended with code {ended.returncode}: {shown.strip()[-SHOWN_CHARACTERS:]!r}. Install"
        " pyspark in Airflow's environment with its bin on PATH, and point JAVA_HOME at a Java 17 or later."
    )
    return None, [Problem(Status.DOWN, problem)]


def _workers(master: Master) -> tuple[int, list[Problem]]:
    """The workers alive of all masters, of which one leads and the others stand by."""
    alive = 0
    problems = []
    for address in master.url.removeprefix(STANDALONE).split(","):
        host = address.rpartition(":")[0]
        try:
            page = fetch(f"http://{host}:{master.ui_port}/json/").json()
        except NoAnswer as error:
            remedy = "Start the master, or set webui-port in the extra of connection clickstream_spark."
            problems.append(Problem(Status.DEGRADED, f"{error} {remedy}"))
        else:
            alive += sum(worker["state"] == "ALIVE" for worker in page["workers"])
    if not alive:
        problems.append(Problem(Status.DOWN, f"{master.url} has no worker alive: start one (start-worker.sh)."))
    return alive, problems


CHECK = Check(
    component="spark",
    look=look,
    remedy="Run spark_apps/bin/spark-submit-alone --version by hand, and look at the load of this host.",
    slow_seconds=15,
    deadline_seconds=30,
)
