"""Replay of an access log: a first pass finds sessions and bounds, a second makes the events.

An event depends on its line, on its visitor's other lines and on the shift, never on the options: these only
choose which lines become events. So replaying a log again, with whatever options, changes no event.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import NAMESPACE_URL, uuid5

from clickstream_source.access_log import (
    LogError,
    LogLine,
    LogReader,
    Request,
    UnreadableLineError,
    parse_line,
)
from clickstream_source.audience import BOT, device_of, is_asset
from clickstream_source.event import MAX_PAGE, MAX_REFERRER, Event
from clickstream_source.sessions import SessionIndex, session_id, visitor_id

PRODUCER_ID = "access-log"
# An access log says nothing of where an address is.
REGION = "unknown"
_LINE_NAMESPACE = uuid5(NAMESPACE_URL, "clickstream-access-log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which requests become events; what is false is left out and counted."""

    bots: bool = True
    assets: bool = True

    def refusal(self, request: Request) -> str | None:
        """Give the reason for leaving a request out, None if it becomes an event."""
        if request.page is None:
            return "no HTTP request"
        if not self.bots and device_of(request.agent) == BOT:
            return "bot"
        if not self.assets and is_asset(request.page):
            return "asset"
        return None


@dataclass(slots=True)
class Survey:
    """What the first pass found; times are seconds since the epoch, as in the log.

    `last_time` is of all requests, left out or not, so that the shift depends on the log alone.
    """

    lines: int = 0
    events: int = 0
    unreadable: int = 0
    cut_fields: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    last_time: int | None = None
    sha256: str = ""
    sessions: SessionIndex = field(default_factory=SessionIndex)


def survey(
    reader: LogReader,
    selection: Selection,
    *,
    on_unreadable: Callable[[LogLine, UnreadableLineError], None],
    on_line: Callable[[], None] = lambda: None,
) -> Survey:
    """Read a log for the first time: count its lines and find the sessions.

    Args:
        reader: the log.
        selection: which requests will become events.
        on_unreadable: called for each line that is not in Combined Log Format, with the reason.
        on_line: called for each line.

    Raises:
        LogError: the log is damaged, or none of its lines is in the format.
    """
    found = Survey()
    for line in reader.lines():
        found.lines += 1
        on_line()
        try:
            request = parse_line(line)
        except UnreadableLineError as reason:
            found.unreadable += 1
            on_unreadable(line, reason)
            continue
        if request.page is not None:
            found.sessions.add(visitor_id(request.address, request.agent), request.time)
            found.last_time = max(request.time, found.last_time or request.time)
        if refusal := selection.refusal(request):
            found.left_out[refusal] += 1
            continue
        found.events += 1
        found.cut_fields += len(request.page or "") > MAX_PAGE or len(request.referrer or "") > MAX_REFERRER
    if found.lines and found.unreadable == found.lines:
        raise LogError(
            f"None of the {found.lines:,} lines of {reader.path} is in Combined Log Format: "
            'address - user [17/May/2015:10:05:03 +0000] "GET /page HTTP/1.1" 200 512 "referrer" "agent".'
        )
    found.sha256 = reader.sha256
    return found


def events_of_log(reader: LogReader, found: Survey, selection: Selection, shift_seconds: int) -> Iterator[Event]:
    """Read a log again and make the events of the selected requests, in the order of the lines.

    A page or referrer of more than 1,024 characters is cut there: the contract allows no longer one.

    Args:
        reader: the log.
        found: the survey of the same log and selection.
        selection: which requests become events.
        shift_seconds: added to every time, 0 to keep the times.

    Raises:
        LogError: the log is not the one that was surveyed.
    """
    changed = LogError(f"{reader.path} changed while it was read; replay a copy that nobody writes to.")
    for line in reader.lines():
        try:
            request = parse_line(line)
        except UnreadableLineError:
            continue  # counted and named by the survey
        if request.page is None or selection.refusal(request):
            continue
        visitor = visitor_id(request.address, request.agent)
        start = found.sessions.start_of(visitor, request.time)
        if start is None:
            raise changed
        yield Event(
            event_id=str(uuid5(_LINE_NAMESPACE, f"{line.number} {sha256(line.content).hexdigest()}")),
            user_id=visitor,
            session_id=session_id(visitor, start + shift_seconds),
            event_type="PAGE_VIEW",
            event_time_ms=(request.time + shift_seconds) * 1_000,
            page=request.page[:MAX_PAGE],
            referrer=request.referrer and request.referrer[:MAX_REFERRER],
            device=device_of(request.agent),
            region=REGION,
            producer_id=PRODUCER_ID,
            sequence=line.number,
        )
    if reader.sha256 != found.sha256:
        raise changed
