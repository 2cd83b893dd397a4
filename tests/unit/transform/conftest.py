from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from clickstream_transform import session as session_settings
from tests.kit.lake import Lake


@pytest.fixture(scope="module")
def steps_session(spark: SparkSession) -> Iterator[SparkSession]:
    """The session as `pipeline.run` prepares it for the steps."""
    with session_settings.settings(spark):
        yield spark


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)
