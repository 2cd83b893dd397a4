"""spark-submit as the DAG's task runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clickstream.aggregate import attempt
from clickstream.aggregate.spark import SPARK_APPS, SUBMIT, submit_conf
from infra.local import spark_cds
from infra.local.java import find_java

if TYPE_CHECKING:
    from uuid import UUID

    from tests.kit.pipeline import Pipeline

MASTER = "local[2]"


def command(pipeline: Pipeline, attempt_id: UUID) -> list[str]:
    """What submits an attempt; it starts faster where this clone has the class data archive."""
    settings = pipeline.settings.model_copy(update={"spark_cds_archive": spark_cds.archive_path(find_java())})
    return [
        *(str(SUBMIT), f"--master={MASTER}", "--driver-memory=1g"),
        *(f"--conf={name}={value}" for name, value in submit_conf(MASTER, settings).items()),
        *(str(SPARK_APPS / "aggregate_windows.py"), "--spec"),
        str(attempt.folder(pipeline.settings, attempt_id) / "spec.json"),
    ]


def environment() -> dict[str, str]:
    """That of the caller, in which spark-submit is found."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
