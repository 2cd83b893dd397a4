"""Steps of the pipeline in processes of their own, which are killed at a point of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.kit.pipeline import Pipeline
from tests.kit.services import REPOSITORY


def environment(pipeline: Pipeline) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY / 'spark_apps'}:{REPOSITORY}",
        "CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS": pipeline.settings.kafka_bootstrap_servers,
        "CLICKSTREAM_TOPIC": pipeline.settings.topic,
        "CLICKSTREAM_STORAGE_URL": pipeline.settings.storage_url,
        "DSN": pipeline.dsn,
    }


def kill(pipeline: Pipeline, point: str, argument: object) -> None:
    """Run a step in a process of its own that is killed at this point."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.victim", point, str(argument)],
        cwd=REPOSITORY,
        env=environment(pipeline),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
