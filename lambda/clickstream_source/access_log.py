r"""Access logs in Combined Log Format, gzip or plain, read line by line.

Fields stay as the log writes them, escapes (`\"`, `\x22`) included; NUL and bytes that are not UTF-8 take the
same notation. So nothing of a field is lost, and whatever the log holds can be an event.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

MAX_LINE_BYTES = 65_536
_GZIP_MAGIC = b"\x1f\x8b"
_FIRST_SECOND = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
_END_SECOND = int(datetime(2101, 1, 1, tzinfo=UTC).timestamp())
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ORIGIN = re.compile(r"(?P<address>\S+) \S+ [^\[]*\[(?P<time>[^\]]*)\] ")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"')
_RESULT = re.compile(r" [0-9]{3} (?:[0-9]+|-) ")
_TIME = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)
_REQUEST = re.compile(r"[A-Z][A-Z-]* (?P<target>\S.*?)(?: HTTP/[0-9](?:\.[0-9])?)?")


class LogError(ValueError):
    """The log cannot be replayed; the message says why and what to do."""


class UnreadableLineError(ValueError):
    """A line is not in Combined Log Format; the message is the reason."""


class LogLine(NamedTuple):
    """A line: its number (from 1), its bytes without the line end, and whether it was cut for its length."""

    number: int
    content: bytes
    is_cut: bool


class Request(NamedTuple):
    """What a line says: `time` in whole seconds since the epoch, `page` None where nothing was asked for."""

    address: str
    agent: str
    time: int
    page: str | None
    referrer: str | None


class LogReader:
    """The lines of a log, any number of times.

    Attributes:
        path: of the file.
        size: of the file in bytes.
        position: bytes of the file consumed by the running pass, compressed where the file is.
        sha256: of the decompressed content, after a pass has come to the end.
    """

    def __init__(self, path: Path) -> None:
        """Take the path of a regular file; whether it is gzip is told by its first bytes."""
        if not path.is_file():
            raise LogError(f"{path} is not a regular file; a replay reads its log twice, so it cannot be a pipe.")
        self.path = path
        self.size = path.stat().st_size
        self.position = 0
        self.sha256 = ""

    def lines(self) -> Iterator[LogLine]:
        """Read the log once; of a line over 65,536 bytes only the start is held.

        Raises:
            LogError: a gzip file is damaged or ends early.
        """
        digest = sha256()
        number = 0
        with self.path.open("rb") as raw:
            is_gzip = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            stream = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if is_gzip else raw
            try:
                while content := stream.readline(MAX_LINE_BYTES):
                    number += 1
                    digest.update(content)
                    is_cut, chunk = False, content
                    while not chunk.endswith(b"\n") and (chunk := stream.readline(MAX_LINE_BYTES)):
                        is_cut = True
                        digest.update(chunk)
                    self.position = raw.tell()
                    yield LogLine(number, content.rstrip(b"\r\n"), is_cut)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise LogError(
                    f"{self.path}: the gzip data is damaged after line {number:,} ({error}). Nothing "
                    "after it can be read: fetch the file again, or replay what `gzip -dc` can unpack."
                ) from error
        self.sha256 = digest.hexdigest()


def parse_line(line: LogLine) -> Request:
    """Read a line of an access log in Combined Log Format.

    The page is the target of the request, path and query, whatever the method and whatever the status.
    It is None where the client sent no request (`"-"`) or something that isn't HTTP.

    Raises:
        UnreadableLineError: the line is not in the format; the message says what is wrong.
    """
    if line.is_cut:
        raise UnreadableLineError(f"longer than {MAX_LINE_BYTES:,} bytes")
    text = line.content.decode("utf-8", errors="backslashreplace").replace("\0", r"\x00")
    origin = _ORIGIN.match(text)
    if origin is None:
        raise UnreadableLineError("it does not begin with address, identity, user and [time]")
    request, position = _quoted(text, origin.end(), "request")
    result = _RESULT.match(text, position)
    if result is None:
        raise UnreadableLineError("no status and size after the request")
    referrer, position = _quoted(text, result.end(), "referrer")
    if text[position : position + 1] != " ":
        raise UnreadableLineError("no agent after the referrer")
    agent, position = _quoted(text, position + 1, "agent")
    if text[position:].strip():
        raise UnreadableLineError("text after the agent")
    asked = _REQUEST.fullmatch(request)
    return Request(
        address=origin["address"],
        agent=agent,
        time=_parse_time(origin["time"]),
        page=asked["target"] if asked else None,
        referrer=None if referrer in {"", "-"} else referrer,
    )


def _quoted(text: str, position: int, name: str) -> tuple[str, int]:
    match = _QUOTED.match(text, position)
    if match is None:
        raise UnreadableLineError(f"the {name} is missing or has no closing quote")
    return match[1], match.end()


def _parse_time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        raise UnreadableLineError(f"[{text[:40]}] is not a time like 17/May/2015:10:05:03 +0000")
    day, _, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    east = timedelta(hours=int(zone_hours), minutes=int(zone_minutes)) * (-1 if sign == "-" else 1)
    try:
        zone = timezone(east)
        time = datetime(
            int(year), _MONTHS.index(match[2]) + 1, int(day), int(hour), int(minute), int(second), tzinfo=zone
        )
    except ValueError as error:
        raise UnreadableLineError(f"[{text[:40]}] is not a time: {error}") from error
    epoch = int(time.timestamp())
    if not _FIRST_SECOND <= epoch < _END_SECOND:
        raise UnreadableLineError(f"[{text[:40]}] is outside the years 2000 to 2100")
    return epoch
