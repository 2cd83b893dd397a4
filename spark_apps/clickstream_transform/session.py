"""Session settings that the results or the cost depend on.

All are runtime SQL settings, so that `run` makes any session safe, a shared Spark Connect session too, and
gives it back unchanged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession

ROWS_PER_TASK: Final = 50_000
"""Small enough for a modest heap, large enough that a minute of events takes one task and no shuffle."""

ColumnOrName = Column | str

_SETTINGS: Final = {
    # Results: one calendar, no silent nulls, no silently skipped file, standard timestamps.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    # Cost: row counts are known beforehand, so shuffles are sized by `size_shuffles` and not re-planned.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000",
    # Memory: values may have 2 MiB, so batches are bounded in bytes, and in rows where bytes cannot be.
    "spark.sql.parquet.columnarReaderBatchSize": "64",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(8 * 1024 * 1024),
}


@contextmanager
def settings(spark: SparkSession) -> Iterator[None]:
    """Apply the app's settings for the duration of a run."""
    before = {key: spark.conf.get(key, None) for key in _SETTINGS}
    for key, value in _SETTINGS.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, previous in before.items():
            if previous is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, previous)


def size_shuffles(spark: SparkSession, rows: int) -> int:
    """Let the shuffles of queries planned from here on have as many tasks as `rows` need; return how many."""
    tasks = max(1, -(-rows // ROWS_PER_TASK))
    spark.conf.set("spark.sql.shuffle.partitions", str(tasks))
    return tasks


def colocate(frame: DataFrame, tasks: int, *keys: ColumnOrName) -> DataFrame:
    """Bring rows with equal keys into the same task; a single task needs no shuffle for that."""
    return frame.coalesce(1) if tasks == 1 else frame.repartition(tasks, *keys)
