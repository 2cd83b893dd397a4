"""Files of accepted events: typed columns, whose fingerprint is that of the event as the list makes it."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from clickstream.erasure import parquet
from clickstream.errors import OutputMismatch
from clickstream_transform.event_schema import FIELDS, AmountField
from clickstream_transform.fingerprint import amount_identity, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from clickstream.erasure.mapping import Tokens

IDS = ["user_id", "session_id"]
DIGITS = 18  # of an amount, before the point
AMOUNTS = tuple(field for field in FIELDS if isinstance(field, AmountField))


def sessions(path: str, user_id: str) -> set[str]:
    """The sessions of a user."""
    found: set[str] = set()
    for table in parquet.groups(path, IDS):
        found |= sessions_of(table, user_id)
    return found


def sessions_of(table: pa.Table, user_id: str) -> set[str]:
    """The sessions of a user in a table of events, some of which may be tokens."""
    of_user = table.filter(pc.equal(table["user_id"], user_id))
    return set(of_user["session_id"].unique().to_pylist())


def concerned(path: str, tokens: Tokens) -> int:
    """How many events of a file the list changes."""
    return sum(changes(table, tokens) for table in parquet.groups(path, IDS))


def changes(table: pa.Table, tokens: Tokens) -> int:
    """How many of these events the list changes."""
    return len(_places(table, tokens))


def rewrite(path: str, target: IO[bytes], tokens: Tokens) -> None:
    """Write the file as the list makes it.

    Raises:
        OutputMismatch: If the columns of an event don't give its fingerprint.
    """
    parquet.rewrite(path, target, lambda table: without_erased(table, tokens, path))


def without_erased(table: pa.Table, tokens: Tokens, path: str) -> pa.Table:
    """The events as the list makes them, with their fingerprints where they have that column.

    Args:
        table: Events, in columns named as in the events zone.
        tokens: The list.
        path: Where they are from, for the error.

    Raises:
        OutputMismatch: If the columns of an event don't give its fingerprint.
    """
    places = _places(table, tokens)
    if not places:
        return table
    changed = {name: table[name].to_pylist() for name in table.schema.names if name in {*IDS, "fingerprint"}}
    for place, row in zip(places, _rows(table.take(pa.array(places))), strict=True):
        ids = {
            "user_id": tokens.of_user(row["user_id"]) or row["user_id"],
            "session_id": tokens.of_session(row["session_id"], [row["user_id"]]) or row["session_id"],
        }
        if "fingerprint" in changed:
            changed["fingerprint"][place] = _fingerprint(row, ids, path)
        for name, content in ids.items():
            changed[name][place] = content
    for name, content in changed.items():
        table = parquet.replace(table, name, pa.array(content, table.schema.field(name).type))
    return table


def _places(table: pa.Table, tokens: Tokens) -> list[int]:
    users = [one for one in table["user_id"].unique().to_pylist() if tokens.of_user(one)]
    listed = [one for one in table["session_id"].unique().to_pylist() if tokens.of_session(one)]
    if not users and not listed:
        return []
    of_user = pc.is_in(table["user_id"], pa.array(users, pa.string()))
    of_session = pc.is_in(table["session_id"], pa.array(listed, pa.string()))
    return list(pc.indices_nonzero(pc.or_(of_user, of_session)).to_pylist())


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    for name in table.schema.names:
        if pa.types.is_timestamp(table.schema.field(name).type):
            micros = table[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
            table = table.set_column(table.schema.get_field_index(name), name, micros)
    return list(table.to_pylist())


def _fingerprint(row: Mapping[str, Any], ids: Mapping[str, str], path: str) -> bytes:
    """The fingerprint with other ids; the one with its own tells how many zeros the amount was written with."""
    for spelling in _spellings(row):
        if fingerprint(_identity(row, spelling)) == row["fingerprint"]:
            return fingerprint(_identity({**row, **ids}, spelling))
    raise OutputMismatch(
        f"{path}: the event at {row['topic_id']}/{row['partition']} offset {row['offset']} does not have the"
        " fingerprint of its columns, so it can't get a new one. Nothing was erased. Something else wrote this file:"
        " see docs/personal-data.md."
    )


def _identity(row: Mapping[str, Any], amounts: Mapping[str, str]) -> dict[str, str]:
    """What the fingerprint is of; a file that was written before a field was added lacks its column."""
    columns = {field.name: row.get(field.column) for field in FIELDS}
    return {**{name: str(value) for name, value in columns.items() if value is not None}, **amounts}


def _spellings(row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Every identity that the row's amounts can have had: the decimal column has lost zeros in front."""
    spellings: list[dict[str, str]] = [{}]
    for field in AMOUNTS:
        amount: Decimal | None = row.get(field.column)
        if amount is not None:
            spellings = [{**known, field.name: text} for known in spellings for text in _amounts(amount)]
    yield from spellings


def _amounts(amount: Decimal) -> Iterator[str]:
    shortest = amount_identity(f"{amount:f}")
    for zeros in range(DIGITS + 1 - len(shortest.partition(".")[0])):
        yield "0" * zeros + shortest
