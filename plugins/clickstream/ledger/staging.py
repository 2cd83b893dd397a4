"""Rows on their way into `analytics`: temporary tables of the publishing transaction, filled by COPY."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from psycopg import sql
from pyarrow import csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection
    from pyarrow import RecordBatch


@dataclass(frozen=True)
class Staged:
    """New rows of a table of `analytics`, in a temporary table with some of its columns.

    Attributes:
        name: The table's name.
        columns: The columns that are given.
    """

    name: str
    columns: tuple[str, ...]

    @property
    def source(self) -> sql.Identifier:
        """The temporary table."""
        return sql.Identifier("pg_temp", f"staged_{self.name}")

    @property
    def target(self) -> sql.Identifier:
        """The table the rows are for."""
        return sql.Identifier("analytics", self.name)

    def listed(self, alias: str | None = None, *, columns: Sequence[str] | None = None) -> sql.Composed:
        """Its columns, or these, as a list, each of the alias."""
        prefix = (alias,) if alias else ()
        return sql.SQL(", ").join(sql.Identifier(*prefix, name) for name in columns or self.columns)

    def assignments(self, columns: Iterable[str]) -> sql.Composed:
        """These columns set to what was to be inserted, for ON CONFLICT."""
        return sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns)


def stage(conn: Connection[Any], name: str, columns: Sequence[str], batches: Iterable[RecordBatch]) -> Staged:
    """Copy rows into a temporary table that ends with the transaction.

    Args:
        conn: Connection in the publishing transaction.
        name: The table of `analytics` they are for.
        columns: Columns of that table, and of the batches, in one order.
        batches: The rows.
    """
    staged = Staged(name, tuple(columns))
    parts = {"source": staged.source, "columns": staged.listed(), "target": staged.target}
    with conn.cursor() as cursor:
        cursor.execute("SET LOCAL TimeZone = 'UTC'")
        cursor.execute(
            sql.SQL("CREATE TEMP TABLE {source} ON COMMIT DROP AS SELECT {columns} FROM {target} WITH NO DATA").format(
                **parts
            )
        )
        copying = sql.SQL("COPY {source} ({columns}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')").format(**parts)
        with cursor.copy(copying) as copy:
            for batch in batches:
                lines = io.BytesIO()  # strings are quoted, and nulls are not: so they stay apart
                csv.write_csv(_without_zone(batch), lines, csv.WriteOptions(include_header=False))
                copy.write(lines.getbuffer())
        cursor.execute(sql.SQL("ANALYZE {source}").format(**parts))  # or every join with it reads whole tables
    return staged


def _without_zone(batch: RecordBatch) -> RecordBatch:
    """Times as UTC without saying so: writing the zone takes five times as long as all the rest."""
    columns = [c.cast(pa.timestamp("us")) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
