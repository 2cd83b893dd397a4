"""An AppCDS archive for Spark's JVM: the classes of a small job, loaded and verified beforehand.

It takes a third off the start of each spark-submit. Making it is a job of its own, in the background of the
first ``up``; while there is none, the JVM says nothing and starts as ever.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

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
    """Run the app over an empty batch and keep the classes it loaded; returns the exit code."""
    partial = archive.with_suffix(".partial")
    with exclusive(archive.with_suffix(".lock"), what="making the archive", wait=True):
        if archive.exists():
            return 0
        with tempfile.TemporaryDirectory() as folder:
            spec = _empty_batch(Path(folder))
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


def _empty_batch(folder: Path) -> Path:
    """Write the spec of a batch without records."""
    output = {name: (folder / name).as_uri() for name in ("events", "rejected", "tables")}
    spec = {
        "batch_id": 0,
        "attempt_id": str(uuid4()),
        "settings": {"allowed_lateness_seconds": 86_400, "max_future_seconds": 300, "window_minutes": [5, 60]},
        "segments": [],
        "retired_hours": [],
        "event_files": [],
        "output": output | {"report": (folder / "report.json").as_uri()},
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(make(Path(sys.argv[1])))
