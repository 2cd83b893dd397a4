import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from clickstream_transform import session as session_settings
from tests.unit.transform.records import Lake


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    scratch = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[2]")
        .appName("unit tests of the transformation")
        .config("spark.driver.memory", "512m")
        .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(scratch))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        # Not UTC: the app must not rely on the caller's time zone.
        .config("spark.sql.session.timeZone", "America/St_Johns")
        .getOrCreate()
    )
    yield session
    session.stop()
    logging.getLogger("py4j").setLevel(logging.WARNING)  # its farewell comes after capturing has ended


@pytest.fixture
def steps_session(spark: SparkSession) -> Iterator[SparkSession]:
    """The session as `pipeline.run` prepares it for the steps."""
    with session_settings.settings(spark):
        yield spark


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)
