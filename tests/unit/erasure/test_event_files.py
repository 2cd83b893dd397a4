"""Event files get the fingerprints of what the list makes of them, whichever optional columns they have."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickstream.erasure import events
from clickstream.erasure.mapping import SESSION, USER, Listed, Tokens
from clickstream_transform.fingerprint import fingerprint

KEY = b"a key of sixteen bytes or more"
COORDINATES = {"topic_id": "t", "partition": 0, "offset": 7}
FIELDS = {
    "eventId": "e1", "userId": "alice", "sessionId": "s1", "device": "phone", "region": "EU", "producerId": "p",
    "eventType": "PAGE_VIEW", "eventTime": "1764000000000000", "page": "/", "sequence": "1", "schemaVersion": "1",
}  # fmt: skip
COLUMNS = {
    "event_id": "e1", "user_id": "alice", "session_id": "s1", "device": "phone", "region": "EU", "producer_id": "p",
    "event_type": "PAGE_VIEW", "event_time": 1764000000000000, "page": "/", "sequence": 1, "schema_version": 1,
}  # fmt: skip
AMOUNT = pa.decimal128(24, 6)


def tokens() -> Tokens:
    plain = Tokens(KEY, {})
    alice, session = "erased-" + 32 * "a", "erased-" + 32 * "b"
    return Tokens(
        KEY,
        {
            plain.mark: Listed("", 1),
            plain.hash(USER, "alice"): Listed(alice, 1),
            plain.hash(SESSION, "s1"): Listed(session, 1),
        },
    )


@pytest.mark.parametrize(
    ("extra", "fields"),
    [
        ({}, {}),
        ({"referrer": "https://example.org"}, {"referrer": "https://example.org"}),
        ({"amount": Decimal("7.500000"), "currency": "EUR"}, {"amount": "007.5", "currency": "EUR"}),
        ({"referrer": None, "product_id": None, "amount": None, "currency": None}, {}),
    ],
    ids=["from before any was added", "with one of text", "with an amount", "with all, empty"],
)
def test_optional_columns_may_be_missing(tmp_path: Path, extra: dict[str, object], fields: dict[str, str]) -> None:
    row = COORDINATES | COLUMNS | extra | {"fingerprint": fingerprint(FIELDS | fields)}
    types = {"event_time": pa.timestamp("us", tz="UTC"), "amount": AMOUNT, "fingerprint": pa.binary()}
    table = pa.table({name: pa.array([value], types.get(name)) for name, value in row.items()})
    path = tmp_path / "events.parquet"
    pq.write_table(table, path)
    written = io.BytesIO()
    events.rewrite(path.as_uri(), written, tokens())
    (after,) = pq.read_table(io.BytesIO(written.getvalue())).to_pylist()
    ids = {"userId": "erased-" + 32 * "a", "sessionId": "erased-" + 32 * "b"}
    assert (after["user_id"], after["session_id"]) == tuple(ids.values())
    assert after["fingerprint"] == fingerprint(FIELDS | fields | ids)
    assert list(after) == list(row)
