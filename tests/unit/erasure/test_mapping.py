"""What the erasure list makes of records: ids are replaced wherever they are spelt, and nothing else is touched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clickstream.erasure.mapping import SESSION, USER, Listed, Tokens, sessions_in, users_in
from clickstream.errors import SettingsError
from clickstream_transform.event import Event, Rejection, classify_value
from tests.kit.records import event

KEY = b"a key that nobody knows"
TOKEN = "erased-" + 32 * "0"


def tokens(*, users: dict[str, str] | None = None, sessions: dict[str, str] | None = None, key: bytes = KEY) -> Tokens:
    empty = Tokens(key, {})
    rows = {empty.hash(USER, user): Listed(token, 1) for user, token in (users or {}).items()}
    rows |= {empty.hash(SESSION, session): Listed(token, 1) for session, token in (sessions or {}).items()}
    return Tokens(key, {empty.mark: Listed("erased-key", 1), **rows})


LISTED = tokens(users={"ann": TOKEN}, sessions={"her": "erased-her"})


def value(**fields: Any) -> bytes:
    return json.dumps(event(**fields)).encode()


def test_the_user_and_every_session_beside_her_are_replaced() -> None:
    mapped = json.loads(LISTED.value(value(userId="ann", sessionId="new")) or b"")
    assert mapped == event(userId=TOKEN, sessionId=LISTED.derive(TOKEN, "new"))
    assert re.fullmatch("erased-[0-9a-f]{32}", mapped["sessionId"])


def test_a_listed_session_is_replaced_whoever_is_in_it() -> None:
    assert json.loads(LISTED.value(value(userId="bob", sessionId="her")) or b"") == event(
        userId="bob", sessionId="erased-her"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"userId": "Ann"},
        {"userId": "ann "},
        {"eventId": "ann", "page": "/ann", "device": "her"},
        {"page": '"userId": "ann"'},
        {"page": '\\"userId": "ann"'},
        {"userId": "her", "sessionId": "ann"},
        {"userIds": "ann", "user_id": "ann", "sessionid": "her"},
        {"x": "userId", "y": "ann"},
    ],
)
def test_others_are_left_alone(other: dict[str, Any]) -> None:
    given = value(**{"userId": "u", "sessionId": "s", **other})
    assert LISTED.value(given) is given


@pytest.mark.parametrize(
    ("given", "mapped"),
    [
        (rb'{"userId":"\u0061nn"}', b'{"userId":"%T"}'),
        (rb'{"user\u0049d" :	"ann" , "x":1}', rb'{"user\u0049d" :	"%T" , "x":1}'),
        (
            b'{"a":[{"b":{"userId":"ann"}}], "sessionId":"her"}',
            b'{"a":[{"b":{"userId":"%T"}}], "sessionId":"erased-her"}',
        ),
        (b'{"userId":"ann","userId":"ann"}', b'{"userId":"%T","userId":"%T"}'),
        (b'{"userId":"bob","userId":"ann"}', b'{"userId":"bob","userId":"%T"}'),
        (b'[[[{"userId": "ann"', b'[[[{"userId": "%T"'),
        (b'{"x":"\xff","userId":"ann"} trailing \xfe', b'{"x":"\xff","userId":"%T"} trailing \xfe'),
        (b'{"userId":"ann', b'{"userId":"%T'),
        (b'\xef\xbb\xbf{"userId":\n"ann"}', b'\xef\xbb\xbf{"userId":\n"%T"}'),
        (b'{"page":"/tv-55"-lg","userId":"ann"}', b'{"page":"/tv-55"-lg","userId":"%T"}'),
        (b'garbage " {"sessionId":"her"}', b'garbage " {"sessionId":"erased-her"}'),
        (b'{"x":"userId":"ann"sessionId":"her"}', b'{"x":"userId":"%T"sessionId":"erased-her"}'),
    ],
)
def test_however_it_is_spelt_and_whether_it_is_json_or_not(given: bytes, mapped: bytes) -> None:
    assert LISTED.value(given) == mapped.replace(b"%T", TOKEN.encode())


AWKWARD = tokens(users={'ÄÖ"\\/\n😀': TOKEN})


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_ids_that_json_escapes(ensure_ascii: bool) -> None:  # noqa: FBT001 - a parameter of the test
    given = json.dumps({"userId": 'ÄÖ"\\/\n😀'}, ensure_ascii=ensure_ascii).replace("/", "\\/").encode()
    assert json.loads(AWKWARD.value(given) or b"") == {"userId": TOKEN}


def test_values_without_an_object_and_empty_ids() -> None:
    assert LISTED.value(None) is None
    assert LISTED.value(b"") == b""
    assert LISTED.value(b'{"userId":"","sessionId":""}') == b'{"userId":"","sessionId":""}'
    assert LISTED.value(b'{"userId":"ann","sessionId":""}') == b'{"userId":"%s","sessionId":""}' % TOKEN.encode()
    assert LISTED.value(b'{"userId":7,"sessionId":null}') == b'{"userId":7,"sessionId":null}'


def key_of(key: bytes | None, value: bytes | None) -> bytes | None:
    return LISTED.record(key, value)[0]


def test_keys() -> None:
    plain, hers = value(), value(userId="ann")
    assert key_of(None, hers) is None
    assert key_of(b"her", plain) == b"erased-her"
    assert key_of(b"her", None) == b"erased-her"
    assert key_of(b"ann", None) == TOKEN.encode()
    assert key_of(b"k", plain) == b"k"
    assert key_of(b"k", hers) == LISTED.derive(TOKEN, "k").encode()
    assert key_of(b"\xff", plain) == b"\xff"


def test_another_key_is_noticed() -> None:
    rows = {Tokens(KEY, {}).mark: Listed("erased-key", 1), Tokens(KEY, {}).hash(USER, "ann"): Listed(TOKEN, 1)}
    Tokens(KEY, rows)
    with pytest.raises(SettingsError, match="is not the one"):
        Tokens(b"another", rows)


SPELLINGS = st.sampled_from(["ann", "bob", "her", "s", "", "é", "😀", 'a"b', "a\\", "\0", "n" * 257])
SCALARS = st.one_of(SPELLINGS, st.none(), st.booleans(), st.integers(-5, 5))
NAMES = st.one_of(st.sampled_from(["userId", "sessionId"]), SPELLINGS)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def renamed(document: Any, users: list[str]) -> Any:
    """The same mapping on what the JSON says, written anew."""
    if isinstance(document, list):
        return [renamed(one, users) for one in document]
    if not isinstance(document, dict):
        return document
    mapped = {}
    for name, content in document.items():
        token = None
        if isinstance(content, str) and name == "userId":
            token = LISTED.of_user(content)
        elif isinstance(content, str) and name == "sessionId":
            token = LISTED.of_session(content, users)
        if token is None:
            mapped[name] = renamed(content, users)
        else:
            fault = "\0" if "\0" in content else ""
            mapped[name] = (token.ljust(257, "-") if len(content) > 256 else token) + fault
    return mapped


def ids(document: Any) -> Iterator[str]:
    inner = document if isinstance(document, list) else list(document.values()) if isinstance(document, dict) else []
    if isinstance(document, dict) and isinstance(document.get("userId"), str):
        yield document["userId"]
    for one in inner:
        yield from ids(one)


@given(document=DOCUMENTS, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 1]))
@example(document={"userId": "ann", "sessionId": "\0"}, ensure_ascii=True, indent=None)
@example(document={"userId": "ann", "x": [{"sessionId": "n" * 257}]}, ensure_ascii=True, indent=None)
def test_any_document(document: Any, ensure_ascii: bool, indent: int | None) -> None:  # noqa: FBT001 - drawn
    text = json.dumps(document, ensure_ascii=ensure_ascii, indent=indent)
    users = list(ids(document))
    mapped = LISTED.value(text.encode()) or b""
    assert json.loads(mapped) == renamed(document, users)
    assert LISTED.value(mapped) == mapped
    assert users_in(text.encode()) == set(ids(document)) - {""}
    assert "ann" not in users_in(mapped)
    assert "her" not in sessions_in(mapped)


PIECES = st.lists(
    st.sampled_from(
        [b'"userId"', b'"sessionId"', b":", b" ", b'"ann"', b'"her"', b'"s"', b'"', b"\\", b"\xff", b"{", b"}", b",",
         b"ann", b"\\u0061", b"\n", b"\x01", b"\\q", b"\\ud800"]
    ),
    max_size=24,
).map(b"".join)  # fmt: skip


@given(PIECES)
def test_any_bytes(given: bytes) -> None:
    mapped = LISTED.value(given) or b""
    assert LISTED.value(mapped) == mapped
    assert "ann" not in users_in(mapped)
    assert "her" not in sessions_in(mapped)
    if not {"ann", "her"} & (users_in(given) | sessions_in(given)):
        assert mapped == given


@given(
    st.sampled_from(["userId", "sessionId"]),
    st.lists(
        st.sampled_from([b"s", b"n" * 257, b"\xc3\xa9", b"\xff", b"\xe2\x82", b"\\u0000", b"\\ud800", b"\\q", b"\\u12",
                         b"\x01", b"\n", b'\\"', b"\\\\", b"\\\xc3\xa9", b"\\u00e9"]),
        min_size=1, max_size=4,
    ).map(b"".join),
)  # fmt: skip
def test_what_a_record_is_rejected_for_stays(name: str, content: bytes) -> None:
    other = "sessionId" if name == "userId" else "userId"
    given = value(**{name: "@", other: "ann"}).replace(b'"@"', b'"' + content + b'"')
    listed = tokens(users=dict.fromkeys(users_in(given), TOKEN)) if name == "userId" else LISTED
    before, after = classify_value(given), classify_value(listed.value(given))
    if isinstance(before, Rejection):
        assert after == before
    else:
        assert isinstance(after, Event)
    assert not users_in(listed.value(given) or b"") & users_in(given)


PEOPLE, PLACES = st.sampled_from(["ann", "bob", "cy", "dee"]), st.sampled_from(["s1", "s2", "s3"])
RECORDS = st.lists(st.tuples(PEOPLE, PLACES, PEOPLE), min_size=1, max_size=12)


@given(RECORDS, RECORDS, st.permutations(["ann", "bob", "cy"]))
def test_one_erasure_after_the_other_is_the_same_as_all_at_once(
    early: list[tuple[str, str, str]], later: list[tuple[str, str, str]], erased: list[str]
) -> None:
    originals = [json.dumps({"userId": u, "sessionId": s, "x": {"userId": v}}).encode() for u, s, v in early + later]
    plain = Tokens(KEY, {})
    listed = {plain.mark: Listed("erased-key", 0)}
    landed: list[tuple[bytes | None, bytes | None]] = [(b"s1", one) for one in originals[: len(early)]]
    for order, user in enumerate(erased):
        token = f"erased-{order:032x}"
        beside = {s for _, v in landed if user in users_in(v or b"") for s in sessions_in(v or b"")}
        rows = {plain.hash(SESSION, one): Listed(plain.derive(token, one), order) for one in beside}
        listed = {**rows, plain.hash(USER, user): Listed(token, order), **listed}
        landed = [Tokens(KEY, listed).record(*one) for one in landed]
        if order == 0:  # what comes after the first erasure and before the second
            landed += [Tokens(KEY, listed).record(b"s1", one) for one in originals[len(early) :]]
    at_once = [Tokens(KEY, listed).record(b"s1", one) for one in originals]
    assert landed == at_once
