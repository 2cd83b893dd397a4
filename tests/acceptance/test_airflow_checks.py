"""The health checks of Airflow, against a real one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest

from clickstream.health import airflow
from clickstream.health.check import Check
from infra.local.supervision import Supervisor
from tests.kit.installations import installation, look, says
from tests.kit.pipeline import Pipeline
from tests.kit.services import superuser
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.usefixtures("stack")


@pytest.mark.parametrize(
    ("check", "program", "job"),
    [
        (airflow.CHECKS[0], "airflow-scheduler", "SchedulerJob"),
        (airflow.CHECKS[1], "airflow-dag-processor", "DagProcessorJob"),
    ],
)
def test_a_process_of_airflow_that_stands_still(pipeline: Pipeline, check: Check, program: str, job: str) -> None:
    says(look(check, installation(pipeline)), "ok", "The last heartbeat was at")
    pid = Supervisor(pipeline.stack).process(program)["pid"]
    try:
        wait_for(lambda: stands_still(pipeline, pid, job), f"{program} between two heartbeats")
        row = look(check, installation(pipeline))
    finally:
        os.kill(pid, signal.SIGCONT)
    name = program.removeprefix("airflow-")
    says(row, "down", f"Airflow calls its {name} unhealthy: start it", f"COMPONENT={program}")


def stands_still(pipeline: Pipeline, pid: int, job: str) -> bool:
    """Stop the process as if an hour ago, unless it is in the middle of a heartbeat and holds the row."""
    os.kill(pid, signal.SIGSTOP)
    with superuser(pipeline.stack, "airflow") as conn:
        conn.execute("SET lock_timeout = '2s'")
        try:
            conn.execute("UPDATE job SET latest_heartbeat = now() - interval '1 hour' WHERE job_type = %s", [job])
        except psycopg.errors.LockNotAvailable:
            os.kill(pid, signal.SIGCONT)
            return False
        return True


def test_the_exporter_is_read_as_prometheus_reads_it(pipeline: Pipeline, tmp_path: Path) -> None:
    token = pipeline.stack.secrets / "metrics_token"
    where = installation(pipeline, metrics_token_file=token)
    says(look(airflow.CHECKS[2], where), "ok", "Metrics of the exporter: ")
    with superuser(pipeline.stack, "clickstream") as conn:
        conn.execute("REVOKE USAGE ON SCHEMA ledger FROM clickstream_writer")
        try:
            row = look(airflow.CHECKS[2], where)
        finally:
            conn.execute("GRANT USAGE ON SCHEMA ledger TO clickstream_writer")
    says(row, "degraded", "exporter_scrape_success is not 1", "the API server's log names them")
    wrong = tmp_path / "token"
    words = "CLICKSTREAM_METRICS_TOKEN_FILE can't be read (FileNotFoundError). Create it with mode 0600"
    says(look(airflow.CHECKS[2], installation(pipeline, metrics_token_file=wrong)), "down", words)
    wrong.write_text("secret-but-wrong")
    row = look(airflow.CHECKS[2], installation(pipeline, metrics_token_file=wrong))
    says(row, "down", "/clickstream/metrics answers 403", "See whether the API server")
    assert "secret-but-wrong" not in row.reason
