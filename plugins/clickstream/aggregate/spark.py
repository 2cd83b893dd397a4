"""Spark as a child of the task that can neither see its secrets nor outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from clickstream.aggregate import attempt
from clickstream.links import AGGREGATE_LINKS
from clickstream.orchestration import SPARK, ledger
from clickstream.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context, XComArg

SPARK_APPS = Path(__file__).parents[3] / "spark_apps"
SUBMIT = SPARK_APPS / "bin" / "spark-submit-alone"
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
        self.conf = submit_conf(current.spark_cds_archive)
        super().execute(context)
        return str(attempt_id)


def submit_conf(cds_archive: str | None) -> dict[str, str]:
    """Spark's configuration of every job, with the class data archive where there is one."""
    java = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    if cds_archive and Path(cds_archive).exists():
        java.append(f"-XX:SharedArchiveFile={cds_archive}")
    return {
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.pyspark.driver.python": str(SPARK_APPS / "bin" / "python-with-parent"),
        "spark.pyspark.python": sys.executable,
        "spark.ui.enabled": "false",
    }


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies (Linux, prctl(2)), so that no orphan goes on."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
