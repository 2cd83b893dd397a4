"""Parquet files, a row group at a time: how many rows would change, and the same file with other content."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import pyarrow.parquet as pq
from airflow.sdk import ObjectStoragePath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa


def groups(path: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a file, with all or only these columns."""
    with ObjectStoragePath(path).open("rb") as stream:
        file = pq.ParquetFile(stream)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns)


def names(path: str) -> list[str]:
    """The names of a file's columns."""
    with ObjectStoragePath(path).open("rb") as stream:
        return list(pq.ParquetFile(stream).schema_arrow.names)


def rewrite(path: str, target: IO[bytes], change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a file anew: the same schema, compression and row groups, each row group as `change` makes it.

    Args:
        path: URL of the file.
        target: Where to write.
        change: Gets a row group and returns as many rows, in the same order and of the same columns.
    """
    with ObjectStoragePath(path).open("rb") as stream:
        file = pq.ParquetFile(stream)
        compression = file.metadata.row_group(0).column(0).compression if file.num_row_groups else "snappy"
        with pq.ParquetWriter(target, file.schema_arrow, compression=compression) as writer:
            for number in range(file.num_row_groups):
                writer.write_table(change(file.read_row_group(number)))


def bytes_of(column: pa.ChunkedArray) -> bytes:
    """All of a binary or text column's content, one value after the other."""
    buffers = [chunk.buffers()[-1] for chunk in column.chunks]
    return b"".join(buffer.to_pybytes() for buffer in buffers if buffer is not None)


def replace(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    """The table with another column of this name, at the same place and of the same type."""
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), column.cast(table.schema.field(at).type))
