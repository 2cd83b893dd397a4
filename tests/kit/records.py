"""Records for tests: builders, cases decided by hand from the data contract, and Hypothesis strategies."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.oracle import Record

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

Headers = tuple[tuple[str, bytes | None], ...]
Case = tuple[str, bytes | None, int, Headers, str, str | None, str | None]

NOW_MS = 1_795_372_200_000  # 2026-11-22T18:30:00Z
END_MS = 4_133_980_800_000  # 2101-01-01T00:00:00Z
HISTORIC: Headers = (("clickstream-load", b"historic"),)
TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAQ"
ABSENT = object()
MAX_BYTES = 262_144
REQUIRED = (
    "eventId", "userId", "sessionId", "device", "region", "producerId",
    "eventType", "eventTime", "page", "sequence", "schemaVersion",
)  # fmt: skip


def event(**overrides: object) -> dict[str, Any]:
    """A valid PAGE_VIEW 30 s before `NOW_MS`; a field given as `ABSENT` is left out."""
    fields: dict[str, object] = {
        "eventId": "e",
        "userId": "u",
        "sessionId": "s",
        "device": "mobile",
        "region": "EU",
        "producerId": "p",
        "eventType": "PAGE_VIEW",
        "eventTime": "2026-11-22T18:29:30Z",
        "page": "/",
        "sequence": 0,
        "schemaVersion": 1,
    }
    return {name: value for name, value in (fields | overrides).items() if value is not ABSENT}


def purchase(**overrides: object) -> dict[str, Any]:
    return event(**{"eventType": "PURCHASE", "amount": "12.5", "currency": "EUR", **overrides})


def record(
    value: dict[str, Any] | bytes | None,
    *,
    topic_id: str = TOPIC_ID,
    partition: int = 0,
    offset: int = 0,
    timestamp_ms: int = NOW_MS,
    key: bytes | None = b"s",
    headers: Headers = (),
) -> Record:
    return Record(topic_id, partition, offset, timestamp_ms, key, encoded(value), headers)


def encoded(value: dict[str, Any] | bytes | None) -> bytes | None:
    return json.dumps(value, ensure_ascii=False).encode() if isinstance(value, dict) else value


def literal(text: str | bytes, fields: dict[str, Any] | None = None) -> bytes:
    """A valid event with `text`, verbatim, as further members, which win over equal names before them."""
    raw = text.encode() if isinstance(text, str) else text
    return (encoded(fields or event()) or b"")[:-1] + b", " + raw + b"}"


def padded(size: int) -> bytes:
    """A valid event of exactly `size` bytes."""
    empty = literal('"pad": ""')
    return literal(f'"pad": "{"x" * (size - len(empty))}"')


def nested(levels: int, opening: str = "[", closing: str = "]", inner: str = "") -> bytes:
    """A valid event that nests to `levels` in all, its own object being the first."""
    return literal('"deep": ' + opening * (levels - 1) + inner + closing * (levels - 1))


def case(
    name: str,
    value: dict[str, Any] | bytes | None,
    reason: str | None = None,
    detail: str | None = None,
    *,
    timestamp_ms: int = NOW_MS,
    headers: Headers = (),
    late: bool = False,
) -> Case:
    """Accepted, or late, or rejected if there is a reason."""
    disposition = "rejected" if reason else "late" if late else "accepted"
    return (name, encoded(value), timestamp_ms, headers, disposition, reason, detail)


NOT_UTF8 = {
    "a byte that UTF-8 never has": b'"x": "\xff"',
    "an overlong NUL": b'"x": "\xc0\x80"',
    "a surrogate in three bytes": b'"x": "\xed\xa0\x80"',
    "a code point beyond U+10FFFF": b'"x": "\xf4\x90\x80\x80"',
    "a Latin-1 page": b'"page": "/caf\xe9"',
}
NOT_JSON = {
    "an empty value": b"",
    "only whitespace": b" \t\r\n",
    "a byte order mark": b"\xef\xbb\xbf" + literal('"x": 1'),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"),
    "trailing text": literal('"x": 1') + b" x",
    "two objects": literal('"x": 1') * 2,
    "a trailing NUL": literal('"x": 1') + b"\0",
    "a cut value": literal('"x": 1')[:-1],
    "an unclosed string": b'{"x": "',
    "a trailing comma": b'{"x": 1,}',
    "a trailing comma in an array": literal('"x": [1,]'),
    "a missing comma": b'{"x": 1 "y": 2}',
    "a missing colon": b'{"x" 1}',
    "a missing value": b'{"x":}',
    "brackets that cross": literal('"x": [{]}'),
    "a key that is no string": literal("1: 2"),
    "an unquoted key": literal("x: 2"),
    "single quotes": literal("'x': 2"),
    "a comment": literal('"x": 2 /* two */'),
    "NaN": literal('"x": NaN'),
    "Infinity": literal('"x": Infinity'),
    "negative Infinity": literal('"x": -Infinity'),
    "True": literal('"x": True'),
    "a word that begins with null": literal('"x": nullx'),
    "a leading zero": literal('"sequence": 01'),
    "a leading plus": literal('"sequence": +1'),
    "a number that ends with its point": literal('"x": 1.'),
    "a number that begins with its point": literal('"x": .5'),
    "an empty exponent": literal('"x": 1e'),
    "a hexadecimal number": literal('"x": 0x1'),
    "a number in Arabic digits": literal('"x": \u0661'),
    "a raw tab in a string": literal('"x": "a\tb"'),
    "a raw newline in a string": literal('"x": "a\nb"'),
    "a raw NUL in a string": literal('"x": "a\0b"'),
    "a raw tab in a key": literal('"a\tb": 1'),
    "an unknown escape": literal(r'"x": "\x41"'),
    "an escaped apostrophe": literal(r'''"x": "\'"'''),
    "a short escape": literal(r'"x": "\u041"'),
    "a capital escape": literal(r'"x": "\U00000041"'),
    "a no-break space around": "\u00a0".encode() + literal('"x": 1'),
    "a no-break space after": literal('"x": 1') + "\u00a0".encode(),
    "a form feed between": literal('"x":\f1'),
    "a vertical tab between": literal('"x":\v1'),
    "a lone high surrogate in a contract field": literal(r'"page": "\ud83d"'),
    "a lone low surrogate in an unknown field": literal(r'"x": "\ude00"'),
    "a lone surrogate in a key": literal(r'"\ud83d": 1'),
    "a lone surrogate in a nested array": literal(r'"x": [{"y": ["\udc00"]}]'),
    "a lone surrogate in a nested key": literal(r'"x": {"\ud800": 1}'),
    "a surrogate pair in the wrong order": literal(r'"x": "\ude00\ud83d"'),
    "a high surrogate before a pair": literal(r'"x": "\ud83d\ud83d\ude00"'),
    "a lone surrogate that a later duplicate hides": literal(r'"x": "\ud83d", "x": 1'),
    "nesting of 1,025 levels": nested(1025),
    "nesting of 1,025 objects": nested(1025, '{"a": ', "}", "1"),
    "an array of 1,025 levels": b"[" * 1025 + b"]" * 1025,
    "an unclosed array within": literal('"x": [1'),
}
NOT_AN_OBJECT = {
    "an array of the event": b"[" + literal('"x": 1') + b"]",
    "an array of 1,024 levels": b"[" * 1024 + b"]" * 1024,
    **{f"the root {text}": text.encode() for text in ('"a"', "1", "-0.0e-9", "1e400", "true", "null", "[]")},
}
IGNORED: dict[str, dict[str, Any] | bytes] = {  # of no effect: the event is accepted
    "whitespace of all four kinds around": b"\t\r\n " + literal('"x"\t:\r\n 1') + b" \n\r\t",
    "unknown fields of every type": literal('"a": null, "b": [1, {"c": -1.5E+3}], "": {}, "d": false, "e": 1e999'),
    "an integer of 5,000 digits in an unknown field": literal('"x": ' + "9" * 5000),
    "NUL in an unknown field": literal(r'"x": "a\u0000b"'),
    "NUL in an unknown key": literal(r'"a\u0000b": 1'),
    "DEL and line separators, raw": literal('"x": "\x7f\u2028\u2029\u0085"'),
    "a byte order mark within a string": literal('"page": "\ufeff"'),
    "a non-character": literal('"page": "\uffff"'),
    "a surrogate pair, escaped": literal(r'"page": "\uD83d\uDe00"'),
    "every escape": literal(r'"page": "\"\\\/\b\f\n\r\t\u00e9"'),
    "brackets and quotes in strings": literal(r'"x": "]}[{\"", "y": ["}"]'),
    "nesting of 1,024 levels": nested(1024),
    "nesting of 1,024 objects": nested(1024, '{"a": ', "}", "1"),
    "wide nesting": literal('"x": [' + "[[]]," * 2000 + "[]]"),
    "exactly 262,144 bytes": padded(MAX_BYTES),
    "a null referrer": event(referrer=None),
    "an empty referrer": event(referrer=""),
    "an empty productId": event(productId=""),
    "null amount and currency outside a purchase": event(amount=None, currency=None),
    "amount without currency outside a purchase": event(amount="1"),
    "currency without amount outside a purchase": event(eventType="LOGIN", currency="EUR"),
    "an eventId that wins over a duplicate": literal('"eventId": 1, "eventId": null, "eventId": "b"'),
    "a duplicate key, escaped": literal(r'"sequence": "x", "s\u0065quence": 1'),
    "a space for every text": event(userId=" ", sessionId=" ", device=" ", region=" ", producerId=" ", page=" "),
    "256 characters": event(eventId="x" * 256, userId="\U0001f600" * 256, device="e\u0301" * 128, productId="é" * 256),
    "1,024 characters": event(page="\U0001f600" * 1024, referrer="ü" * 1024),
    "newlines": event(userId="a\nb", device="\r\n", referrer="\n", productId="\n"),
    "a page with newlines to 1,024 characters": event(page="\n" * 1024),
    "sequence 0": event(sequence=0),
    "sequence -0": literal('"sequence": -0'),
    "sequence 2^63-1": event(sequence=2**63 - 1),
    "a logout": event(eventType="LOGOUT"),
    "a whole amount": purchase(amount="0"),
    "18 and 6 digits": purchase(amount="999999999999999999.999999"),
    "an amount with leading zeros": purchase(amount="000000000000000001.50"),
    "an amount of zeros": purchase(amount="000.000000"),
}
MISSING: dict[str, tuple[dict[str, Any] | bytes, ...]] = {  # detail: (value, ...)
    "amount": (purchase(amount=ABSENT), purchase(amount=None), purchase(amount=""), event(eventType="PURCHASE")),
    "currency": (purchase(currency=ABSENT), purchase(currency=None), purchase(currency="", amount=1)),
    "userId": (
        event(userId="", sessionId=None),
        event(userId=None, eventId=7),
        literal('"userId": "u", "userId": null'),
    ),
    "page": (event(page="", eventTime="x"), event(page=None, eventType="X"), literal(r'"p\u0061ge": null')),
    "sequence": (
        event(sequence="", device="\0"),
        event(sequence=None, amount="x"),
        event(sequence="", eventId="x" * 257),
    ),
    "schemaVersion": (event(schemaVersion="", page=1), event(schemaVersion=ABSENT, eventTime="x")),
}
WRONG_TYPE: dict[str, tuple[object, ...]] = {
    "eventId": (1, True, [], {}, ["e"], 1.5, "x" * 257, "\U0001f600" * 257, "e\u0301" * 129, "\0" * 257),
    "userId": (0, "x" * 257),
    "sessionId": (False, "\u200f" * 257),
    "device": ({}, "x" * 257),
    "region": ([""], "x" * 257),
    "producerId": (1e9, "x" * 257),
    "eventType": (5, ["PURCHASE"], True),
    "eventTime": (NOW_MS, {"s": 0}),
    "page": (0, "x" * 1025, "\U0001f600" * 1025),
    "sequence": ("1", True, False, 1.0, 1e2, -1, 2**63, 10**400, [], {}, "0"),
    "schemaVersion": ("1", "2", True, 1.0, 2.0, [1], {}),
    "referrer": (0, False, [], "x" * 1025),
    "productId": (0, "x" * 257),
    "amount": (12.5, 12, "", "x", "1.", ".5", "-1", "+1", "1e3", " 1", "1 ", "1\n", "1,5", "1.5.5", "1_0", "0x1",
               "1" * 19, "1.0000000", "\u0661", "\uff11", "1\0", "NaN", True, []),
    "currency": ("", "EU", "EURO", "eur", "EuR", "EUR\n", " EUR", "\uff25\uff35\uff32", "E\0R", 978, []),
}  # fmt: skip
UNKNOWN_TYPES = (
    "CLICK",
    "page_view",
    "PAGE_VIEW ",
    "PURCHASE\n",
    "purchase",
    "x" * 2000,
    "PAGE VIEW",
    "\u0420AGE_VIEW",
)
GOOD_TIMES = (
    "2026-11-22t18:29:30z", "2026-11-22T18:29:30.0Z", "2026-11-22T18:29:30.123456789Z", "2026-11-22T18:29:30-00:00",
    "2026-11-22T23:59:30+05:30", "2026-11-23T18:28:30+23:59", "2026-11-21T18:30:30-23:59", "2026-11-22T00:00:00Z",
)  # fmt: skip
BAD_TIMES = (
    "x", " ", "2026-11-22", "2026-11-22 18:29:30Z", "2026-11-22T18:29:30", "2026-11-22T18:29Z", "20261122T182930Z",
    "2026-11-22T18:29:30.Z", "2026-11-22T18:29:30,5Z", "2026-11-22T18:29:30.1234567890Z", "2026-11-22T18:29:30.1 Z",
    "2026-11-22T18:29:60Z", "2026-11-22T18:60:30Z", "2026-11-22T24:00:00Z", "2016-12-31T23:59:60Z", "1795372170",
    "2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z",
    "+2026-11-22T18:29:30Z",
    "2026-00-01T00:00:00Z", "2026-11-00T00:00:00Z", "2026-11-22T18:29:30+0530", "2026-11-22T18:29:30+05",
    "2026-11-22T18:29:30+5:30", "2026-11-22T18:29:30+24:00", "2026-11-22T18:29:30+05:60",
    "2026-11-22T18:29:30\u221205:00",
    "2026-11-22T18:29:30ZZ", "2026-11-22T18:29:30+05:30Z", "2026-11-22T18:29:30UTC", " 2026-11-22T18:29:30Z",
    "2026-11-22T18:29:30Z\n", "2026-11-22T18:29:30 Z", "12026-11-22T18:29:30Z", "026-11-22T18:29:30Z",
    "2026-1-22T18:29:30Z",
    "\u0662026-11-22T18:29:30Z", "1999-12-31T23:59:59.999999999Z", "2101-01-01T00:00:00Z", "2000-01-01T00:00:00+00:01",
    "2100-12-31T23:59:00-00:01", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
)  # fmt: skip

CORNER_CASES: list[Case] = [
    case("a null value", None, "null_value"),
    case("an event", event()),
    case("a purchase", purchase()),
    case("262,145 bytes", padded(MAX_BYTES + 1), "too_large"),
    case("262,145 bytes that are no UTF-8", b"\xff" * (MAX_BYTES + 1), "too_large"),
    case("262,144 bytes that are no UTF-8", b"\xff" * MAX_BYTES, "not_utf8"),
    case("a megabyte of spaces", b" " * 1_000_000, "too_large"),
    case("neither JSON nor UTF-8", b'{"a": \xc3', "not_utf8"),
    *(case(name, literal(raw), "not_utf8") for name, raw in NOT_UTF8.items()),
    *(case(name, value, "not_json") for name, value in NOT_JSON.items()),
    *(case(name, value, "not_an_object") for name, value in NOT_AN_OBJECT.items()),
    *(case(name, value) for name, value in IGNORED.items()),
    *(
        case(f"schemaVersion {text[:9]}", b'{"schemaVersion": %s}' % text.encode(), "unsupported_schema_version")
        for text in ("0", "-0", "2", "-1", "10", "-" + "9" * 30, "1" + "0" * 5000)
    ),
    case("a schemaVersion that a later one corrects", literal('"schemaVersion": 2, "schemaVersion": 1')),
    case("a later schemaVersion", literal('"schemaVersion": 2'), "unsupported_schema_version"),
    case("schemaVersion 1e0", literal('"schemaVersion": 1e0'), "wrong_type", "schemaVersion"),
    case("schemaVersion 1E400", literal('"schemaVersion": 1E400'), "wrong_type", "schemaVersion"),
    case("sequence 1e0", literal('"sequence": 1e0'), "wrong_type", "sequence"),
    case("sequence -0.0", literal('"sequence": -0.0'), "wrong_type", "sequence"),
    case("sequence of 5,000 digits", literal('"sequence": ' + "9" * 5000), "wrong_type", "sequence"),
    case(
        "a wrong schemaVersion before a missing one", event(schemaVersion=1.0, eventId=None), "missing_field", "eventId"
    ),
    case("an empty object", b"{}", "missing_field", "eventId"),
    *(
        case(f"{name} {'absent' if none is ABSENT else repr(none)}", event(**{name: none}), "missing_field", name)
        for name in REQUIRED
        for none in (ABSENT, None, "")
    ),
    *(
        case(f"{name} missing {number}", value, "missing_field", name)
        for name, values in MISSING.items()
        for number, value in enumerate(values)
    ),
    *(
        case(f"{name} wrong {value!r:.20}", event(**{name: value}), "wrong_type", name)
        for name, values in WRONG_TYPE.items()
        for value in values
    ),
    case("an amount of 19 digits on a purchase", purchase(amount="1" * 19, currency="x"), "wrong_type", "amount"),
    case("a currency wrong on a purchase", purchase(currency="eur"), "wrong_type", "currency"),
    case("wrong types in two fields", event(page=1, eventId="x" * 257), "wrong_type", "eventId"),
    case("a wrong optional field before NUL", event(referrer=1, eventId="\0"), "wrong_type", "referrer"),
    case("a type that is no string asks for no amount", event(eventType=["PURCHASE"]), "wrong_type", "eventType"),
    *(
        case(f"NUL in {name}", event(**{name: "a\0b"}), "forbidden_character", name)
        for name in (*REQUIRED[:9], "referrer", "productId")
    ),
    case("only NUL", event(eventId="\0"), "forbidden_character", "eventId"),
    case("NUL after 256 characters", event(eventId="x" * 256 + "\0"), "wrong_type", "eventId"),
    case("NUL as the 256th character", event(eventId="x" * 255 + "\0"), "forbidden_character", "eventId"),
    case("NUL in two fields", event(page="\0", userId="\0"), "forbidden_character", "userId"),
    case("PURCHASE and NUL asks for no amount", event(eventType="PURCHASE\0"), "forbidden_character", "eventType"),
    case("NUL after an unknown type", event(eventType="X", referrer="\0"), "forbidden_character", "referrer"),
    *(case(f"type {name!r:.20}", event(eventType=name, eventTime="x"), "unknown_event_type") for name in UNKNOWN_TYPES),
    *(case(f"good time {text}", event(eventTime=text)) for text in GOOD_TIMES),
    *(case(f"bad time {text}", event(eventTime=text), "bad_event_time") for text in BAD_TIMES),
    case("the first instant", event(eventTime="2000-01-01T00:00:00Z"), headers=HISTORIC),
    case("the first instant, written in 1999", event(eventTime="1999-12-31T23:59:00-00:01"), headers=HISTORIC),
    case("a leap day", event(eventTime="2000-02-29T12:00:00Z"), headers=HISTORIC),
    case("the last instant", event(eventTime="2100-12-31T23:59:59.999999999Z"), timestamp_ms=END_MS),
    case("the last instant, written in 2101", event(eventTime="2101-01-01T00:59:59+01:00"), timestamp_ms=END_MS),
    case("after the last instant", event(eventTime="2101-01-01T00:00:00Z"), "bad_event_time", timestamp_ms=END_MS),
    case("5 min ahead", event(eventTime="2026-11-22T18:35:00Z")),
    case("5 min ahead by truncation", event(eventTime="2026-11-22T18:35:00.000000999Z")),
    case("5 min and 1 us ahead", event(eventTime="2026-11-22T18:35:00.000001Z"), "future_event_time"),
    case("5 min and 1 ms ahead", event(eventTime="2026-11-22T18:35:00.001Z"), "future_event_time"),
    case("5 min ahead, in another zone", event(eventTime="2026-11-23T00:05:00.001+05:30"), "future_event_time"),
    case("far ahead, historic", event(eventTime="2100-01-01T00:00:00Z"), "future_event_time", headers=HISTORIC),
    case("24 h ago", event(eventTime="2026-11-21T18:30:00Z")),
    case("24 h and 1 us ago", event(eventTime="2026-11-21T18:29:59.999999Z"), late=True),
    case("24 h and 1 us ago by truncation", event(eventTime="2026-11-21T18:29:59.999999999Z"), late=True),
    case("24 h and 1 ms ago", event(eventTime="2026-11-21T18:29:59.999Z"), late=True),
    case(
        "24 h ago at a record 1 ms later", event(eventTime="2026-11-21T18:30:00Z"), timestamp_ms=NOW_MS + 1, late=True
    ),
    case("24 h ago less 1 ms", event(eventTime="2026-11-21T18:30:00Z"), timestamp_ms=NOW_MS - 1),
    case("years ago", event(eventTime="2001-01-01T00:00:00Z"), late=True),
    case("years ago and malformed", event(eventTime="2001-01-01T00:00:00Z", page=1), "wrong_type", "page"),
    *(
        case(
            f"years ago, {name}", event(eventTime="2001-01-01T00:00:00Z"), headers=headers, late="historic" not in name
        )
        for name, headers in (
            ("historic", HISTORIC),
            ("historic among others", (("other", b""), ("clickstream-load", b"no"), *HISTORIC)),
            ("historic first", (*HISTORIC, ("clickstream-load", b"no"))),
            ("other bytes", (("clickstream-load", b"historic "),)),
            ("capital bytes", (("clickstream-load", b"Historic"),)),
            ("no bytes", (("clickstream-load", b""),)),
            ("a null header", (("clickstream-load", None),)),
            ("another name", (("Clickstream-Load", b"historic"),)),
            ("the words in exchange", (("historic", b"clickstream-load"),)),
        )
    ),
    case("historic and recent", event(), headers=HISTORIC),
]


def _pair(name: str, one: dict[str, Any] | bytes, other: dict[str, Any] | bytes) -> tuple[str, bytes, bytes]:
    return (name, encoded(one) or b"", encoded(other) or b"")


ONE_IDENTITY = [
    _pair("order of keys", event(), dict(reversed(event().items()))),
    _pair("whitespace", event(), json.dumps(event(), indent=1).encode()),
    _pair("escapes", event(page="/é😀"), literal(r'"page": "\u002f\u00e9\ud83d\uDE00"')),
    _pair("an escaped solidus", event(), literal(r'"page": "\/"')),
    _pair("zone", event(), event(eventTime="2026-11-22T23:59:30+05:30")),
    _pair("letter case of the time", event(), event(eventTime="2026-11-22t18:29:30z")),
    _pair("zeros of a second", event(), event(eventTime="2026-11-22T18:29:30.000000000Z")),
    _pair("nanoseconds", event(), event(eventTime="2026-11-22T18:29:30.000000999Z")),
    _pair("a null optional field", event(), event(referrer=None, amount=None)),
    _pair("an unknown field", event(), event(utm_campaign="x")),
    _pair("a duplicate key", event(), literal('"page": "/x", "page": "/"')),
    _pair("minus zero", event(), literal('"sequence": -0')),
    _pair("an amount's zeros", purchase(amount="12.50"), purchase(amount="12.500000")),
    _pair("a whole amount", purchase(amount="10"), purchase(amount="10.00")),
    _pair("amount zero", purchase(amount="0"), purchase(amount="0.000")),
    _pair("an amount outside of a purchase", event(amount="1.0"), event(amount="1")),
]
TWO_IDENTITIES = [
    *(_pair(f"another {name}", event(), event(**{name: "X"})) for name in REQUIRED[:6]),
    _pair("another type", event(), event(eventType="LOGIN")),
    _pair("another sequence", event(), event(sequence=1)),
    _pair("a microsecond", event(), event(eventTime="2026-11-22T18:29:30.000001Z")),
    _pair("the query of a page", event(), event(page="/?")),
    _pair("normal forms", event(userId="\u00e9"), event(userId="e\u0301")),
    _pair("letter case", event(userId="a"), event(userId="A")),
    _pair("an empty referrer", event(), event(referrer="")),
    _pair("an empty productId", event(), event(productId="")),
    _pair("an amount outside of a purchase", event(), event(amount="1")),
    _pair("a currency outside of a purchase", event(), event(currency="EUR")),
    _pair("zeros before the point", purchase(amount="10"), purchase(amount="100")),
    _pair("leading zeros", purchase(amount="1"), purchase(amount="01")),
    _pair("values exchanged", event(userId="a", sessionId="b"), event(userId="b", sessionId="a")),
    _pair("border of two values", event(referrer="ab", productId="c"), event(referrer="a", productId="bc")),
    _pair("a name within a value", event(productId="xreferrery"), event(productId="x", referrer="y")),
]
HOSTS = {  # referrer: published value
    None: "(direct)",
    "": "(direct)",
    "https://Shop.Example/a?b#c": "shop.example",
    "http://user:pw@shop.example:8080/": "shop.example",
    "http://a@b@shop.example": "shop.example",
    "https://shop.example?q=http://other.example": "shop.example",
    "https://shop.example#@other.example": "shop.example",
    "https://shop.example/@other.example:1": "shop.example",
    "android-app://com.Example.App": "com.example.app",
    "https://[2001:DB8::1]:443/": "[2001:db8::1]",
    "http://shop.example:": "shop.example",
    "://shop.example": "shop.example",
    "https://ÉTÉ.example": "été.example",
    "shop.example/a": "(invalid)",
    "//shop.example": "(invalid)",
    "mailto:a@shop.example": "(invalid)",
    "http:///a": "(invalid)",
    "http://:80/": "(invalid)",
    "http://user@/": "(invalid)",
    "http://": "(invalid)",
    " ": "(invalid)",
}
PAGES = {  # page: published page
    "/": "/",
    "/a?b#c": "/a",
    "/a#b?c": "/a",
    "/A/": "/A/",
    "?a": "/",
    "#": "/",
    "a": "a",
    " ?": " ",
    "/\u05d0\u200f?x": "/\u05d0\u200f",
    "/e\u0301#": "/e\u0301",
    "/a%3Fb": "/a%3Fb",
    "/a\n?b": "/a\n",
}

IDS = ("a", "A", "é", "e\u0301", "\U0001f600", "\uffff", "\u05d0\u200f", "a b", "x" * 256)
MINUTE_MS, DAY_MS = 60_000, 86_400_000
INSTANTS = st.builds(  # microseconds: around borders of windows and hours, and of lateness and the future
    lambda minute, jitter: (NOW_MS + minute * MINUTE_MS) * 1000 + jitter,
    st.sampled_from((-24 * 60, -24 * 60 + 5, -24 * 60 - 30, -65, -30, -5, 0, 1, 5)),
    st.sampled_from((-1000, -1, 0, 1, 1000, 999_999, 59_999_999)),
)
TIMESTAMPS = st.builds(
    lambda minute, jitter: NOW_MS + minute * MINUTE_MS + jitter,
    st.sampled_from((0, -5, 0, 0, 5, 24 * 60 - 30, 24 * 60)),
    st.sampled_from((-1, 0, 0, 1)),
)
HEADERS: SearchStrategy[Headers] = st.sampled_from(
    (
        (),
        (),
        (),
        HISTORIC,
        (("clickstream-load", b"Historic"),),
        (("clickstream-load", b"no"), *HISTORIC),
        (("clickstream-load", None),),
    )
)
RETIRED_HOURS = st.frozensets(
    st.sampled_from(("2026-11-21T17", "2026-11-21T18", "2026-11-22T17", "2026-11-22T18")), max_size=1
)
CONTENTS: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "eventId": st.sampled_from(IDS[:3]),
        "userId": st.sampled_from(IDS),
        "sessionId": st.sampled_from(IDS[:5]),
        "device": st.sampled_from(("mobile", "Mobile", "\U0001f4f1")),
        "region": st.sampled_from(("EU", "\u05d0\u05e8")),
        "producerId": st.just("p"),
        "eventType": st.sampled_from(("PAGE_VIEW", "PAGE_VIEW", "ADD_TO_CART", "PURCHASE", "LOGIN", "LOGOUT")),
        "eventTime": INSTANTS,
        "page": st.sampled_from(tuple(PAGES)),
        "sequence": st.sampled_from((0, 1, 2**63 - 1)),
        "schemaVersion": st.just(1),
        "referrer": st.sampled_from(tuple(HOSTS)),
        "productId": st.sampled_from((None, None, "", "p1")),
        "amount": st.sampled_from(("0", "10", "12.5", "0.000001", "010", "999999999999999999.999999")),
        "currency": st.sampled_from(("EUR", "USD")),
    }
)
JUNK = (
    "null", '""', "true", "0", "-1", "1.0", "1e0", "2", str(2**63), "9" * 5000, "[]", "{}", '"x"', r'"\u0000"',
    '"PURCHASE"',
    '"X"', r'"\ud800"', "NaN", "01", json.dumps("x" * 257), json.dumps("x" * 1025), '"1."', '"2026-11-22T18:30:00"',
    '"2026-12-22T18:30:00Z"', '"2001-01-01T00:00:00Z"',
)  # fmt: skip
SPACE = st.sampled_from(("", " ", "\t\r\n"))


def _time(draw: DrawFn, microseconds: int) -> str:
    minutes = draw(st.sampled_from((0, 0, 330, -720, 1439, -1439)))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    text = moment.astimezone(timezone(timedelta(minutes=minutes))).isoformat(timespec="microseconds")
    seconds, fraction, zone = text[:19], text[20:26].rstrip("0"), text[26:]
    zeros = draw(st.integers(0, 6 - len(fraction)))
    fraction += "0" * zeros
    if len(fraction) == 6:
        fraction += draw(st.sampled_from(("", "0", "999")))  # beyond microseconds: cut off
    if minutes == 0:
        zone = draw(st.sampled_from(("Z", "z", "+00:00", "-00:00")))
    return seconds.replace("T", draw(st.sampled_from("Tt"))) + ("." + fraction if fraction else "") + zone


def _string(draw: DrawFn, text: str) -> str:
    match draw(st.sampled_from(("raw", "raw", "ascii", "escaped"))):
        case "raw":
            return json.dumps(text, ensure_ascii=False)
        case "ascii":
            return json.dumps(text)
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(rf"\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'


@st.composite
def spelled(draw: DrawFn, contents: dict[str, Any]) -> bytes:
    """One of the many ways to write an event of these contents; all have the same identity."""
    literals: dict[str, str] = {}
    for name, content in contents.items():
        if content is None:
            if draw(st.booleans()):
                literals[name] = "null"
        elif isinstance(content, str):
            text = content
            if name == "amount" and len(content.partition(".")[2]) < 6 and draw(st.booleans()):
                text += "0" if "." in content else ".00"
            literals[name] = _string(draw, text)
        elif name == "eventTime":
            literals[name] = json.dumps(_time(draw, content))
        else:
            literals[name] = "-0" if content == 0 and draw(st.booleans()) else str(content)
    members = [
        f'"{name}"{draw(SPACE)}:{draw(SPACE)}{text}' for name, text in draw(st.permutations([*literals.items()]))
    ]
    members.insert(0, draw(st.sampled_from(('"eventId": 7', '"x": null', r'"\u0000": ["\u0000", 1E9, {"page": 1}]'))))
    return ("{" + f"{draw(SPACE)},".join(members) + "}").encode()


@st.composite
def broken(draw: DrawFn, contents: dict[str, Any]) -> bytes:
    """An event of which one or two fields are junk; some junk is harmless in some fields."""
    names = st.sampled_from(tuple(contents))
    junk = draw(st.lists(st.tuples(names, st.sampled_from(JUNK)), min_size=1, max_size=2))
    return literal(
        ", ".join(f'"{name}": {text}' for name, text in junk), contents | {"eventTime": "2026-11-22T18:29:30Z"}
    )


@st.composite
def record_lists(draw: DrawFn, *, max_size: int = 30, partitions: int = 2) -> list[Record]:
    """Records of a topic: offsets from 0 without gaps and timestamps that never fall, in each partition.

    Most are spellings of a few events, so that duplicates, id conflicts and shared sessions are frequent.
    """
    size = draw(st.integers(0, max_size))
    pool = draw(st.lists(CONTENTS, min_size=1, max_size=8))
    good = st.sampled_from(pool).flatmap(spelled)
    bad = st.sampled_from(pool).flatmap(broken)
    corner = st.sampled_from([value for _, value, *_ in CORNER_CASES])
    values = st.one_of(good, good, good, good, bad, corner)
    drafts = draw(
        st.lists(st.tuples(st.integers(0, partitions - 1), TIMESTAMPS, values, HEADERS), min_size=size, max_size=size)
    )
    offsets = [0] * partitions
    made = []
    for partition, timestamp_ms, value, headers in sorted(drafts, key=lambda draft: draft[:2]):
        made.append(
            record(value, partition=partition, offset=offsets[partition], timestamp_ms=timestamp_ms, headers=headers)
        )
        offsets[partition] += 1
    return made
