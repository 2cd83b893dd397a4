"""An AppCDS archive for Spark's JVM: the classes of a small job, loaded and verified beforehand.

It takes a third off the start of each spark-submit. Making it is a job of its own, in the background of the
first ``up``; while there is none, the JVM says nothing and starts as ever.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark

from infra.local.files import exclusive
from infra.local.java import Java
from infra.local.stack import CACHE, PYTHON, REPOSITORY, VENV
from infra.local.supervision import Program

APP = REPOSITORY / "spark_apps" / "aggregate_windows.py"


def archive_path(java: Java) -> Path:
    """Return where the archive for this Spark and this Java is, or will be."""
    return CACHE / f"spark-{pyspark.__version__}-{java.version}.jsa"


def program(java: Java) -> Program:
    """Describe the making of the archive to the supervisor."""
    return Program(
        name="spark-cds",
        command=["nice", "-n", "15", PYTHON, "-m", "infra.local.spark_cds", archive_path(java)],
        environment={
            "JAVA_HOME": str(java.home),
            "PYTHONPATH": f"{REPOSITORY / 'spark_apps'}:{REPOSITORY}",
        },
        once=True,
    )


def make(archive: Path) -> int:
    """Run the app over a small batch and keep the classes it loaded; returns the exit code."""
    partial = archive.with_suffix(".partial")
    with exclusive(archive.with_suffix(".lock"), what="making the archive", wait=True):
        if archive.exists():
            return 0
        with tempfile.TemporaryDirectory() as folder:
            spec = _small_batch(Path(folder))
            code = subprocess.run(  # noqa: S603 - our own programs and paths
                [
                    VENV / "bin" / "spark-submit",
                    *("--master", "local[2]"),
                    *("--conf", "spark.ui.enabled=false"),
                    *("--conf", "spark.driver.bindAddress=127.0.0.1"),
                    *("--conf", "spark.driver.host=127.0.0.1"),
                    "--driver-java-options",
                    f"-XX:ArchiveClassesAtExit={partial} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
                    APP,
                    *("--spec", spec.as_uri()),
                ],
                cwd=folder,
                check=False,
            ).returncode
        if code == 0:
            os.replace(partial, archive)  # noqa: PTH105 - one step, whatever was there
        else:
            partial.unlink(missing_ok=True)
    return code


def _small_batch(folder: Path) -> Path:
    """Write the spec and the raw file of a batch of two records: an event, and one that is rejected."""
    names = ("eventId", "userId", "sessionId", "device", "region", "producerId", "page")
    event = {
        **dict.fromkeys(names, "x"),
        "eventType": "PAGE_VIEW",
        "eventTime": "2026-01-01T00:00:00Z",
        "sequence": 0,
        "schemaVersion": 1,
    }
    headers = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
    raw = pa.table(
        {
            "topic_id": ["t", "t"],
            "partition": pa.array([0, 0], pa.int32()),
            "offset": [0, 1],
            "timestamp": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2, pa.timestamp("ms", "UTC")),
            "timestamp_type": pa.array([1, 1], pa.int8()),
            "key": pa.nulls(2, pa.binary()),
            "value": [json.dumps(event).encode(), b"no event"],
            "headers": pa.array([[], []], headers),
        }
    )
    segment = folder / "0-2.parquet"
    pq.write_table(raw, segment, compression="zstd")
    output = {name: (folder / name).as_uri() for name in ("events", "rejected", "tables")}
    spec: dict[str, Any] = {
        "batch_id": 0,
        "attempt_id": str(uuid4()),
        "settings": {"allowed_lateness_seconds": 86_400, "max_future_seconds": 300, "window_minutes": [5, 60]},
        "segments": [
            {
                "topic_id": "t", "partition": 0, "first_offset": 0, "end_offset": 2, "records": 2,
                "path": segment.as_uri(),
            }
        ],
        "retired_hours": [],
        "event_files": [],
        "output": output | {"report": (folder / "report.json").as_uri()},
    }  # fmt: skip
    path = folder / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(make(Path(sys.argv[1])))
