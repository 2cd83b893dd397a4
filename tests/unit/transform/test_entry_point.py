import json
import os
import subprocess
import sys
from pathlib import Path

import clickstream_transform
from clickstream_transform import jsonform
from clickstream_transform.protocol import Report
from tests.unit.transform.records import Lake, local, url, value

ENTRY_POINT = Path(clickstream_transform.__file__).parent.parent / "aggregate_windows.py"


def submit(lake: Lake, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run spark-submit where neither folder nor environment leads to the package."""
    scripts = Path(sys.executable).parent
    environment = {key: os.environ[key] for key in ("HOME", "JAVA_HOME") if key in os.environ}
    command = [
        str(scripts / "spark-submit"),
        *("--master", "local[1]", "--driver-memory", "512m"),
        *("--driver-java-options", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"),
        *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1"),
        str(ENTRY_POINT),
        *arguments,
    ]
    path = f"{scripts}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=lake.root,
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_spark_submit_transforms_a_batch_by_its_spec(lake: Lake) -> None:
    spec = lake.spec(lake.segment([value(), value(), b"x"]))
    path = lake.root / "spec.json"
    path.write_text(json.dumps(jsonform.encode(spec)))
    done = submit(lake, "--spec", url(path))
    assert done.returncode == 0, done.stdout
    report = Report.from_json(local(spec.output.report).read_text())
    assert (report.landed, report.accepted, report.duplicate, report.rejected) == (3, 1, 1, 1)
    assert "landed 3 = accepted 1 + duplicate 1 + late 0 + rejected 1" in done.stdout


def test_a_failed_batch_fails_the_process(lake: Lake) -> None:
    done = submit(lake, "--spec", "nowhere.json")
    assert done.returncode != 0
    assert "nowhere.json: no such file" in done.stdout
