"""Writing the outputs. Every folder belongs to this attempt alone, so an existing one is an error."""

from pyspark.sql import Column, DataFrame, DataFrameWriter
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform import schemas
from clickstream_transform.protocol import EventFile, OutputFile
from clickstream_transform.session import ColumnOrName, colocate
from clickstream_transform.storage import list_parquet, spark_path

ROWS_PER_FILE = 100_000
EXCERPT_CHARACTERS = 1_024
_MAX_BYTES_PER_CHARACTER = 4
_HOUR_FOLDER = "hour="
_REPLACEMENT = "\ufffd"
_COORDINATES = ["topic_id", "partition", "offset"]
_FOR_LARGE_VALUES = {
    "parquet.block.size": str(16 * 1024 * 1024),
    "parquet.page.size.row.check.min": "1",  # by default, 100 values of 2 MiB each would be buffered first
}


def write_events(accepted: DataFrame, folder: str, *, largest_hour: int, tasks: int) -> tuple[EventFile, ...]:
    """Write accepted events, a folder per hour, and return the files with the rows of their footers.

    An hour is one file up to 100,000 events; larger ones are split by event_id, so that they are written in
    parallel.

    Args:
        accepted: rows with the events zone's columns and `hour`.
        folder: URL of the folder to create.
        largest_hour: events of the largest hour.
        tasks: how many tasks to spread the work over.
    """
    slices = _slices(largest_hour)
    by_hour: list[ColumnOrName] = ["hour"]
    if slices > 1:
        by_hour.append(F.pmod(F.hash("event_id"), F.lit(slices)))
    rows = accepted.select("hour", *schemas.EVENTS.names)
    ordered = colocate(rows, tasks, *by_hour).sortWithinPartitions("hour", "topic_id", "partition", "offset")
    _writer(ordered).partitionBy("hour").parquet(spark_path(folder))
    return tuple(
        EventFile(hour=_hour_of(file.path), path=file.path, records=file.records, bytes=file.bytes)
        for file in list_parquet(folder)
    )


def write_rejected(rejected: DataFrame, raw: DataFrame, folder: str, *, records: int) -> tuple[OutputFile, ...]:
    """Write rejected records with their verbatim value and return the files with their footers' rows.

    The values are fetched from the raw records again: so no other query has to carry them along.

    Args:
        rejected: classified rows with disposition `rejected`.
        raw: the landed records that they come from.
        folder: URL of the folder to create.
        records: how many they are.
    """
    marks = rejected.select(*_COORDINATES, "reason", "detail")
    found = raw.join(F.broadcast(marks) if records <= ROWS_PER_FILE else marks, on=_COORDINATES, how="inner")
    rows = found.withColumn("excerpt", _excerpt()).to(schemas.REJECTED).coalesce(_slices(records))
    return _write(_writer(rows).options(**_FOR_LARGE_VALUES), folder)


def write_table(rows: DataFrame, folder: str) -> tuple[OutputFile, ...]:
    """Write a table's rows and return the files with the rows of their footers."""
    return _write(_writer(rows), folder)


def _excerpt() -> Column:
    """Return the first 1,024 characters of the value; U+FFFD for bytes that are not UTF-8 and for NUL."""
    head = F.substring("value", 1, EXCERPT_CHARACTERS * _MAX_BYTES_PER_CHARACTER).cast("string")
    return F.translate(F.substring(F.make_valid_utf8(head), 1, EXCERPT_CHARACTERS), "\0", _REPLACEMENT)


def _write(writer: DataFrameWriter, folder: str) -> tuple[OutputFile, ...]:
    writer.parquet(spark_path(folder))
    return tuple(OutputFile(path=file.path, records=file.records, bytes=file.bytes) for file in list_parquet(folder))


def _writer(rows: DataFrame) -> DataFrameWriter:
    return rows.write.mode("error").option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")


def _slices(rows: int) -> int:
    return max(1, -(-rows // ROWS_PER_FILE))


def _hour_of(path: str) -> str:
    (folder,) = (part for part in path.split("/") if part.startswith(_HOUR_FOLDER))
    return folder.removeprefix(_HOUR_FOLDER)
