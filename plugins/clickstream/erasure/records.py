"""Files of verbatim records: the raw zone, and the rejected zone, whose rows have an excerpt too."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import pyarrow as pa

from clickstream.erasure import parquet
from clickstream.erasure.mapping import sessions_in, users_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickstream.erasure.mapping import Tokens
    from clickstream.erasure.needles import Needles

VERBATIM = ("key", "value")
COORDINATES = ("topic_id", "partition", "offset")
EXCERPT_CHARACTERS = 1_024
BYTES_PER_CHARACTER = 4


def sessions(path: str, user_id: str, needles: Needles) -> set[str]:
    """The sessionIds that stand beside the user in a record's value."""
    found: set[str] = set()
    for table in parquet.groups(path, ["value"]):
        if needles.may_be_in(parquet.bytes_of(table["value"])):
            for value in table["value"].to_pylist():
                found |= sessions_beside(user_id, value, needles)
    return found


def sessions_beside(user_id: str, value: bytes | None, needles: Needles) -> set[str]:
    """The sessionIds of a value in which the user is."""
    if value is None or not needles.may_be_in(value) or user_id not in users_in(value):
        return set()
    return sessions_in(value)


def concerned(path: str, tokens: Tokens, needles: Needles) -> int:
    """How many records of a file the list changes."""
    names = [name for name in VERBATIM if name in parquet.names(path)]
    return sum(_changed(table, tokens, needles) for table in parquet.groups(path, names))


def rewrite(path: str, target: IO[bytes], tokens: Tokens) -> None:
    """Write the file as the list makes it."""
    parquet.rewrite(path, target, lambda table: _without_erased(table, tokens))


def excerpts(path: str, tokens: Tokens, needles: Needles) -> Iterator[tuple[tuple[str, int, int], str]]:
    """The excerpts of the rejected records that the list changes, as they are to be, by coordinates."""
    for table in parquet.groups(path, [*COORDINATES, "value"]):
        if not needles.may_be_in(parquet.bytes_of(table["value"])):
            continue
        places = zip(*(table[name].to_pylist() for name in COORDINATES), strict=True)
        for place, value in zip(places, table["value"].to_pylist(), strict=True):
            mapped = tokens.value(value)
            if mapped is not None and mapped != value:
                yield place, excerpt(mapped)


def excerpt(value: bytes) -> str:
    """The beginning of a value, as the transformation writes it: U+FFFD for what is not UTF-8 and for NUL."""
    head = value[: EXCERPT_CHARACTERS * BYTES_PER_CHARACTER].decode("utf-8", "replace")
    return head[:EXCERPT_CHARACTERS].replace("\0", "\ufffd")


def _changed(table: pa.Table, tokens: Tokens, needles: Needles) -> int:
    if not any(needles.may_be_in(parquet.bytes_of(table[name])) for name in table.schema.names):
        return 0
    mapped = _mapped(table, tokens)
    before = zip(*(table[name].to_pylist() for name in mapped), strict=True)
    return sum(old != new for old, new in zip(before, zip(*mapped.values(), strict=True), strict=True))


def _mapped(table: pa.Table, tokens: Tokens) -> dict[str, list[bytes | None]]:
    values = table["value"].to_pylist()
    if "key" not in table.schema.names:
        return {"value": [tokens.value(value) for value in values]}
    both = [tokens.record(key, value) for key, value in zip(table["key"].to_pylist(), values, strict=True)]
    return {"key": [key for key, _ in both], "value": [value for _, value in both]}


def _without_erased(table: pa.Table, tokens: Tokens) -> pa.Table:
    before, mapped = table["value"].to_pylist(), _mapped(table, tokens)
    if "excerpt" in table.schema.names:
        known = table["excerpt"].to_pylist()
        pairs = zip(before, mapped["value"], known, strict=True)
        fresh = [was if old == new or new is None else excerpt(new) for old, new, was in pairs]
        table = parquet.replace(table, "excerpt", pa.array(fresh, pa.string()))
    for name, content in mapped.items():
        table = parquet.replace(table, name, pa.array(content, pa.binary()))
    return table
