"""The vectors were computed once; here they are derived again, by an implementation that shares no code."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

import clickstream_transform
from clickstream_transform.event import Event, classify_value
from clickstream_transform.fingerprint import amount_identity
from tests.kit.lake import value

VECTORS = json.loads((Path(clickstream_transform.__file__).parent / "fingerprint_vectors.json").read_text("utf-8"))


def derive(identity: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(identity):
        for text in (name, identity[name]):
            digest.update(struct.pack(">I", len(text.encode())) + text.encode())
    return digest.hexdigest()


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 8
    assert len({vector["fingerprint"] for vector in VECTORS}) >= 7


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["shows"])
def test_vectors(vector: dict[str, Any]) -> None:
    event = classify_value(vector["value"].encode())
    assert isinstance(event, Event)
    assert event.fingerprint.hex() == vector["fingerprint"]
    assert derive(vector["identity"]) == vector["fingerprint"]


def fingerprint(**changes: Any) -> bytes:
    event = classify_value(value(**changes))
    assert isinstance(event, Event)
    return event.fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"eventTime": "2026-11-22T12:00:00Z"}, {"eventTime": "2026-11-22t13:30:00.0000009+01:30"}),
        ({"amount": "1.50"}, {"amount": "1.5"}),
        ({"amount": "100.000000"}, {"amount": "100"}),
        ({"unknown": 1}, {}),
    ],
)
def test_same_identity(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(**one) == fingerprint(**other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"amount": "01.5"}, {"amount": "1.5"}),
        ({"amount": "100"}, {"amount": "1"}),
        ({"userId": "e\u0301"}, {"userId": "\u00e9"}),  # no normalization
        ({"userId": "u "}, {"userId": "u"}),
        ({"userId": "ab", "sessionId": "c"}, {"userId": "a", "sessionId": "bc"}),
        ({"referrer": "x"}, {"productId": "x"}),
        ({"sequence": 1}, {"sequence": 10}),
    ],
)
def test_different_identity(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(**one) != fingerprint(**other)


@pytest.mark.parametrize(
    ("amount", "identity"), [("0", "0"), ("0.0", "0"), ("10", "10"), ("10.10", "10.1"), ("00.50", "00.5")]
)
def test_amounts(amount: str, identity: str) -> None:
    assert amount_identity(amount) == identity
