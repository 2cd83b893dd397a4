"""Rows of a query as a table on the terminal."""

from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table


def show(conn: psycopg.Connection[Any], console: Console, query: str, **values: object) -> list[dict[str, Any]]:
    """Run a query, print its rows, and return them by column name."""
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(query, values).fetchall()
    table = Table()
    for name in rows[0] if rows else ():
        table.add_column(name.replace("_", " "), justify="right" if isinstance(rows[0][name], int) else "left")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console.print(table if rows else "  (no rows)")
    return rows


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("[", r"\[")  # which would begin a colour
