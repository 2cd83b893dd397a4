"""Reading the raw zone and the events zone. Files are named one by one; no folder is ever listed."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql.pandas.types import to_arrow_schema

from clickstream_transform import schemas
from clickstream_transform.protocol import HourFile, Segment
from clickstream_transform.storage import spark_path

LOAD_HEADER = "clickstream-load"
HISTORIC = b"historic"


def read_segments(spark: SparkSession, segments: Sequence[Segment]) -> DataFrame:
    """Return the landed records: coordinates, record_time, historic, value (null as it was).

    A task holds one row group and a few values of 2 MiB at a time, so segments must bound their row groups in bytes.
    """
    raw = spark.read.schema(schemas.RAW).parquet(*(spark_path(segment.path) for segment in segments))
    return raw.select(
        "topic_id",
        "partition",
        "offset",
        F.col("timestamp").alias("record_time"),
        F.exists("headers", _is_historic_mark).alias("historic"),
        "value",
    )


def read_events(spark: SparkSession, files: Sequence[HourFile]) -> DataFrame:
    """Return the accepted events of live files, as the events zone holds them; none for no files."""
    if not files:
        no_events = to_arrow_schema(schemas.EVENTS, timezone="UTC").empty_table()
        return spark.createDataFrame(no_events, schemas.EVENTS)
    return spark.read.schema(schemas.EVENTS).parquet(*(spark_path(file.path) for file in files))


def _is_historic_mark(header: Column) -> Column:
    return (header["key"] == LOAD_HEADER) & header["value"].eqNullSafe(F.lit(HISTORIC))
