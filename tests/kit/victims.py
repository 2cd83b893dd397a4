""""""

from __future__ import annotations

import os

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
