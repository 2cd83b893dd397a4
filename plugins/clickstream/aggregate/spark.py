"""Spark as a child of the task that can neither see its secrets nor outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from clickstream.aggregate import attempt, s3a
from clickstream.links import AGGREGATE_LINKS
from clickstream.orchestration import SPARK, ledger
from clickstream.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context, XComArg

    from clickstream.settings import Settings

SPARK_APPS = Path(__file__).parents[3] / "spark_apps"
SUBMIT = SPARK_APPS / "bin" / "spark-submit-alone"
STANDALONE = "spark://"
LOOPBACK = "127.0.0.1"
PR_SET_PDEATHSIG = 1


class AggregateBatchOperator(SparkSubmitOperator):
    """Runs the aggregation of a batch through spark-submit, each try as an attempt of its own.

    Returns the id of the attempt, whose spec and report are in the storage. The submit command runs through
    `spark_apps/bin/spark-submit-alone`, which gives Spark an explicit environment and ends it with the task; and
    the task itself ends with the worker that runs it.

    Args:
        batch_id: The open batch (templated).
    """

    template_fields: Sequence[str] = ("batch_id",)
    operator_extra_links = AGGREGATE_LINKS

    def __init__(self, *, batch_id: int | XComArg, **kwargs: Any) -> None:  # noqa: ANN401 - as its base
        super().__init__(
            conn_id=SPARK,
            application=str(SPARK_APPS / "aggregate_windows.py"),
            spark_binary=str(SUBMIT),
            durable=False,
            **kwargs,
        )
        self.batch_id: Any = batch_id

    def execute(self, context: Context) -> str:  # type: ignore[override] # an id for XCom
        """Register an attempt, write its spec, run Spark on it."""
        _end_with_parent()
        current = settings()
        with ledger() as conn:
            attempt_id = attempt.begin(conn, current, int(self.batch_id), context["dag_run"].run_id)
        self.application_args = ["--spec", str(attempt.folder(current, attempt_id) / "spec.json")]
        self.name = f"clickstream-batch-{self.batch_id}"
        self._driver_memory = current.spark_driver_memory
        self.conf = submit_conf(master_url(), current)
        super().execute(context)
        return str(attempt_id)


def master_url() -> str:
    """Where the connection `clickstream_spark` submits to, such as `local[2]` or `spark://host:port`."""
    return str(SparkSubmitHook(conn_id=SPARK)._connection["master"])  # noqa: SLF001 - as it will be submitted to


def submit_conf(master: str, settings: Settings) -> dict[str, str]:
    """Spark's configuration of every job, with the class data archive where there is one, and S3A where it is needed.

    Raises:
        OSError: The name of a standalone master can't be resolved, or no way leads to it.
    """
    java = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    if settings.spark_cds_archive and Path(settings.spark_cds_archive).exists():
        java.append(f"-XX:SharedArchiveFile={settings.spark_cds_archive}")
    address = driver_address(master)
    return {
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.driver.host": address,
        "spark.driver.bindAddress": address,
        "spark.pyspark.driver.python": str(SPARK_APPS / "bin" / "python-with-parent"),
        "spark.pyspark.python": sys.executable,
        "spark.ui.enabled": "false",
        **(s3a.conf(settings.spark_s3_jars) if settings.storage_url.startswith(s3a.SCHEME) else {}),
    }


def driver_address(master: str) -> str:
    """The address of this host at which executors find the driver, and the only one it listens at.

    For a standalone master it is the one that faces the master, since its workers are beside it; otherwise loopback.
    """
    if not master.startswith(STANDALONE):
        return LOOPBACK
    host, _, port = master.removeprefix(STANDALONE).partition(",")[0].rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as facing:
        facing.connect((host, int(port)))  # sends nothing; the kernel chooses the way
        return str(facing.getsockname()[0])


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies (Linux, prctl(2)), so that no orphan goes on."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
