"""What a set of Kafka records means: a reading of the data contract that shares nothing with what it checks."""

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

Table = dict[Any, dict[str, Any]]
MICROSECOND, SECOND, HOUR = timedelta(microseconds=1), 1_000_000, 3_600_000_000  # times are in microseconds
EPOCH, YEAR_2000, YEAR_2101 = (datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2000, 2101))


@dataclass(frozen=True)
class Record:
    topic_id: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True)
class Event:
    time: int
    kind: str
    page: str  # of pages, entry_page and exit_page
    fields: dict[str, str]  # the contract fields present, in the form they have in the identity
    fingerprint: bytes


@dataclass(frozen=True)
class Result:
    dispositions: Counter[str]  # accepted, duplicate, late, rejected
    reasons: Counter[str]
    rejections: dict[tuple[str, int, int], tuple[str, str | None]]  # detail: a field's name, else None
    id_conflicts: int
    accepted: list[Event]  # in the order of sessions
    traffic: Table  # by (window start in epoch seconds, window minutes)
    pages: Table  # + page
    audience: Table  # + dimension, value
    funnel: Table  # a row, if only of zeros, for every window of traffic
    revenue: Table  # + currency
    sessions: Table  # by session id


class RejectedError(Exception):
    """Its arguments: the reason, and the detail or None."""


def require(holds: object, reason: str, detail: str | None = None) -> None:
    if not holds:
        raise RejectedError(reason, detail)


STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+"'
SCALAR = rf"{STRING}|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null"
LEVELS = 1024


class JSONText:  # RFC 8259, by recursive descent
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.take("")  # the white space before the root

    def take(self, token: str) -> str:  # moves behind it and the white space after it; "" if it isn't what comes next
        found = re.compile(rf"({token})[ \t\n\r]*+").match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found[1] if found else ""

    def scalar(self, token: str = SCALAR) -> Any:  # integers as Decimal
        require(taken := self.take(token), "not_json")
        content = json.loads(taken, parse_int=Decimal)
        require(not isinstance(content, str) or not re.search("[\ud800-\udfff]", content), "not_json")
        return content

    def value(self, level: int) -> object:  # the level is that of a container; the root's is 1
        if self.take(r"\{"):
            require(level <= LEVELS, "not_json")
            named: dict[str, object] = {}
            while not self.take(r"\}"):
                require(not named or self.take(","), "not_json")
                name = self.scalar(STRING)
                require(self.take(":"), "not_json")
                named[name] = self.value(level + 1)  # the last of a name wins
            return named
        if self.take(r"\["):
            require(level <= LEVELS, "not_json")
            listed: list[object] = []
            while not self.take(r"\]"):
                require(not listed or self.take(","), "not_json")
                listed.append(self.value(level + 1))
            return listed
        return self.scalar()


def members(text: str) -> dict[str, object]:  # of the root
    source, limit = JSONText(text), sys.getrecursionlimit()
    sys.setrecursionlimit(limit + LEVELS)  # a call a level
    try:
        root = source.value(1)
    finally:
        sys.setrecursionlimit(limit)
    require(source.at == len(text), "not_json")
    if not isinstance(root, dict):
        raise RejectedError("not_an_object", None)
    return root


NUMBER, ANY, TEXT_256, TEXT_1024 = "(?!)", "(?s).*", "(?s).{0,256}", "(?s).{0,1024}"  # patterns of whole strings
REQUIRED = dict.fromkeys(("eventId", "userId", "sessionId", "device", "region", "producerId"), TEXT_256)
REQUIRED |= {"eventType": ANY, "eventTime": ANY, "page": TEXT_1024, "sequence": NUMBER, "schemaVersion": NUMBER}
ON_PURCHASE = {"amount": r"[0-9]{1,18}(\.[0-9]{1,6})?", "currency": "[A-Z]{3}"}
FIELDS = REQUIRED | {"referrer": TEXT_1024, "productId": TEXT_256} | ON_PURCHASE
TYPES = ("PAGE_VIEW", "ADD_TO_CART", "PURCHASE", "LOGIN", "LOGOUT")
COUNTS = "events page_views add_to_carts purchases"
OF_SESSION = "started_at ended_at user_id device region entry_page exit_page bounced"
TIME = r"(?a)(\d{4}-\d\d-\d\d[Tt](?!24)\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:[0-5]\d)"


def instant(text: str) -> int:
    seconds, fraction, zone = found.groups("") if (found := re.fullmatch(TIME, text)) else ("", "", "")
    try:
        moment = datetime.fromisoformat((seconds + zone).upper())
    except ValueError:
        raise RejectedError("bad_event_time", None) from None
    require(YEAR_2000 <= moment < YEAR_2101, "bad_event_time")
    return (moment - EPOCH) // MICROSECOND + int(fraction.ljust(6, "0")[:6])


def read_event(record: Record, max_future_seconds: int) -> Event:
    require(record.value is not None, "null_value")
    require(len(value := record.value or b"") <= 262_144, "too_large")
    text = value.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 become lone surrogates
    require(not re.search("[\ud800-\udfff]", text), "not_utf8")
    root = members(text)
    given = {name: root[name] for name in FIELDS if root.get(name) is not None}
    require(not isinstance(v := given.get("schemaVersion"), Decimal) or v == 1, "unsupported_schema_version")
    required = REQUIRED | (ON_PURCHASE if given.get("eventType") == "PURCHASE" else {})
    for name in FIELDS:
        require(name not in required or given.get(name, "") != "", "missing_field", name)
    for name, content in given.items():
        whole = FIELDS[name] == NUMBER and isinstance(content, Decimal) and 0 <= content < 2**63
        require(whole or (isinstance(content, str) and re.fullmatch(FIELDS[name], content)), "wrong_type", name)
    for name, content in given.items():
        require("\0" not in str(content), "forbidden_character", name)
    require(given["eventType"] in TYPES, "unknown_event_type")
    time = instant(str(given["eventTime"]))
    require(time - record.timestamp_ms * 1000 <= max_future_seconds * SECOND, "future_event_time")
    fields = {k: str(int(v) if isinstance(v, Decimal) else v) for k, v in (given | {"eventTime": time}).items()}
    if "." in fields.get("amount", ""):
        fields["amount"] = fields["amount"].rstrip("0").rstrip(".")  # leading zeros stay
    parts = [part.encode() for item in sorted(fields.items()) for part in item]  # lengths count bytes
    prefixed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    page = re.findall("[^?#]*", fields["page"])[0] or "/"
    return Event(time, fields["eventType"], page, fields, sha256(prefixed).digest())


def audience(event: Event) -> list[tuple[str, str]]:  # the host: from the first `://`, after the last `@`
    referrer = event.fields.get("referrer", "")
    found = re.match(r"(?s)(?>.*?://)(?:[^/?#]*@)?+(\[[^\]/?#]*\]|[^:/?#]+)", referrer)
    host = found[1].lower() if found else "(invalid)" if referrer else "(direct)"
    return [("device", event.fields["device"]), ("region", event.fields["region"]), ("referrer", host)]


def numbers(events: list[Event]) -> dict[str, Any]:  # every column there is; events in the order of sessions
    views, carts, purchases, logins, logouts = ([e for e in events if e.kind == kind] for kind in TYPES)
    pages, first, last = [view.page for view in views] or [""], events[0], events[-1]
    row: dict[str, Any] = {"events": len(events), "views": len(views), "page_views": len(views)}
    row |= {"add_to_carts": len(carts), "purchases": len(purchases), "logins": len(logins), "logouts": len(logouts)}
    row |= {"users": len({e.fields["userId"] for e in events}), "bounced": len(views) == 1}
    steps = {"sessions": events, "sessions_viewed": views, "sessions_carted": carts, "sessions_purchased": purchases}
    row |= {column: len({e.fields["sessionId"] for e in some}) for column, some in steps.items()}
    row |= {"amount": Decimal(f"{sum(int(Decimal(e.fields['amount'] + 'E6')) for e in purchases)}E-6")}
    row |= {"started_at": EPOCH + first.time * MICROSECOND, "ended_at": EPOCH + last.time * MICROSECOND}
    row |= {"user_id": first.fields["userId"], "device": first.fields["device"], "region": first.fields["region"]}
    return row | {"entry_page": pages[0] or None, "exit_page": pages[-1] or None}


def table(columns: str, keyed: Iterable[tuple[object, Event]]) -> Table:
    groups: defaultdict[object, list[Event]] = defaultdict(list)
    for key, event in keyed:
        groups[key].append(event)
    rows = {key: numbers(group) for key, group in groups.items()}
    return {key: {column: row[column] for column in columns.split()} for key, row in rows.items()}


def fold(
    records: Iterable[Record],
    *,
    allowed_lateness_seconds: int = 86400,
    max_future_seconds: int = 300,
    widths: tuple[int, ...] = (5, 60),
    retired_hours: frozenset[str] = frozenset(),  # such as 2026-01-01T00
) -> Result:
    retired = {instant(f"{hour}:00:00Z") // HOUR for hour in retired_hours}  # since before the first record
    dispositions, accepted = Counter[str](), dict[bytes, Event]()
    rejections: dict[tuple[str, int, int], tuple[str, str | None]] = {}
    for record in records:  # which of equal events is met first changes nothing
        try:
            event = read_event(record, max_future_seconds)
        except RejectedError as rejected:
            rejections[record.topic_id, record.partition, record.offset] = rejected.args
            dispositions["rejected"] += 1
            continue
        historic = ("clickstream-load", b"historic") in record.headers
        in_time = record.timestamp_ms * 1000 - event.time <= allowed_lateness_seconds * SECOND
        if (in_time or historic) and event.time // HOUR not in retired:
            dispositions["duplicate" if event.fingerprint in accepted else "accepted"] += 1
            accepted[event.fingerprint] = event
        else:
            dispositions["late"] += 1
    events = sorted(accepted.values(), key=lambda e: (e.time, e.fields["eventId"].encode(), e.fingerprint))
    at = [((e.time // (w * 60 * SECOND) * w * 60, w), e) for e in events for w in widths]
    return Result(
        dispositions,
        Counter(reason for reason, _ in rejections.values()),
        rejections,
        len(events) - len({(e.fields["eventId"], e.time // HOUR) for e in events}),
        events,
        table(f"{COUNTS} logins logouts users sessions", at),
        table("views users sessions", [((*w, e.page), e) for w, e in at if e.kind == "PAGE_VIEW"]),
        table("events users sessions purchases", [((*w, *value), e) for w, e in at for value in audience(e)]),
        table("sessions_viewed sessions_carted sessions_purchased", at),
        table("purchases amount", [((*w, e.fields["currency"]), e) for w, e in at if e.kind == "PURCHASE"]),
        table(f"{COUNTS} {OF_SESSION}", [(e.fields["sessionId"], e) for e in events]),
    )
