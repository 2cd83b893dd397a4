"""spark-submit as anyone may run it by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import clickstream_transform
from clickstream_transform import jsonform
from clickstream_transform.protocol import Report, Spec
from tests.kit.lake import local, url

SPARK_APPS = Path(clickstream_transform.__file__).parent.parent


def submit(folder: Path, *arguments: str, spark_apps: Path = SPARK_APPS) -> subprocess.CompletedProcess[str]:
    """Run spark-submit where neither folder nor environment leads to the package."""
    scripts = Path(sys.executable).parent
    environment = {key: os.environ[key] for key in ("HOME", "JAVA_HOME") if key in os.environ}
    command = [
        str(scripts / "spark-submit"),
        *("--master", "local[1]", "--driver-memory", "512m"),
        *("--driver-java-options", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"),
        *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1"),
        str(spark_apps / "aggregate_windows.py"),
        *arguments,
    ]
    path = f"{scripts}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def submit_spec(folder: Path, spec: Spec, *, spark_apps: Path) -> tuple[Report, str]:
    """Run a spec in a process of its own; return its report and what it printed."""
    path = folder / f"{spec.attempt_id}.json"
    path.write_text(json.dumps(jsonform.encode(spec)))
    done = submit(folder, "--spec", url(path), spark_apps=spark_apps)
    assert done.returncode == 0, done.stdout + done.stderr
    return Report.from_json(local(spec.output.report).read_text()), done.stdout
