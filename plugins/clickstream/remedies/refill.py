"""Produce the events of a span of minutes once more from the archive, as a historic load.

The lines are produced verbatim, so an event that was accepted before has the same fingerprint and counts as a
duplicate: doing it twice, or for too many minutes, changes no window.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections import deque
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from kafka.errors import KafkaError

from clickstream import broker, storage
from clickstream.drain.land import HISTORIC
from clickstream.errors import RefillIncomplete, RemedyRefused
from clickstream.ledger import batches, hours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import ObjectStoragePath
    from kafka import KafkaProducer
    from psycopg import Connection

    from clickstream.settings import Settings

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
LONGEST_SPAN = timedelta(days=31)  # its missing minutes are remembered, and its acknowledgements waited for
FILE_NAME = re.compile(r"(?P<minute>[0-5][0-9])-(?P<producer>[A-Za-z0-9][A-Za-z0-9_.-]{0,63})\.json")
IN_FLIGHT_BYTES = 16 << 20
RECORD_OVERHEAD_BYTES = 2 << 10  # of the client, for each record in flight


@dataclass(frozen=True, kw_only=True)
class Span:
    """UTC minutes from the first to the last, both inclusive."""

    first: datetime
    last: datetime

    @classmethod
    def parse(cls, first: str, last: str) -> Self:
        """The minutes in which two RFC 3339 times lie.

        Raises:
            RemedyRefused: If they are in the wrong order, too far apart, in the future, or say no offset from UTC.
        """
        span = cls(first=_minute(first), last=_minute(last))
        if not timedelta() <= span.last - span.first < LONGEST_SPAN or span.last > datetime.now(UTC):
            raise RemedyRefused(
                f"From {spell(span.first)} to {spell(span.last)} can't be refilled: the first minute must not be after"
                f" the last, the last not in the future, and both within {LONGEST_SPAN.days} days. Give a longer span"
                " in parts."
            )
        return span

    def hours(self) -> Iterator[datetime]:
        """The start of each hour that the span touches."""
        hour = self.first.replace(minute=0)
        while hour <= self.last:
            yield hour
            hour += HOUR

    def minutes_of(self, hour: datetime) -> list[datetime]:
        """Its minutes in an hour."""
        return [minute for n in range(60) if self.first <= (minute := hour + n * MINUTE) <= self.last]

    def __str__(self) -> str:
        """As people write it."""
        return spell(self.first) if self.first == self.last else f"{spell(self.first)} to {spell(self.last)}"


@dataclass(kw_only=True)
class Refill:
    """What was produced, or would be.

    Attributes:
        files: Files of the archive.
        records: Lines in them, each a record.
        bytes: Size of the lines.
        missing: Minutes of the span without a file.
        retired_hours: Hours of the span that are retired; their events will count as late.
    """

    files: int = 0
    records: int = 0
    bytes: int = 0
    missing: list[Span] = field(default_factory=list)
    retired_hours: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A line for each thing to know."""
        return [
            f"{self.records} records ({self.bytes} bytes) in {self.files} files",
            *(f"no file of {span}" for span in self.missing),
            *(f"{hour} is retired: its events count as late" for hour in self.retired_hours),
        ]


def refill(conn: Connection[Any], settings: Settings, span: Span, *, producer_id: str | None, dry_run: bool) -> Refill:
    """Produce the archived lines of a span, in the order of the minutes, or only count them.

    Memory is bounded: listings are of one hour, files are read line by line, and at most 16 MiB are in flight.

    Args:
        conn: Connection of the writer.
        settings: The settings in force.
        span: The minutes.
        producer_id: Only the files of this producer; None for all.
        dry_run: Whether to read and count, and produce nothing.

    Raises:
        RemedyRefused: If the topic would stop its partitions for these records, or the archive has nothing.
        RefillIncomplete: If a record isn't acknowledged.
    """
    _require_log_append_time(settings)
    touched = {hours.spell(hour) for hour in span.hours()}
    found = Refill(retired_hours=[hour for hour in batches.retired_hours(conn) if hour in touched])
    hour = span.first
    try:
        with _reading_the_archive(conn), nullcontext() if dry_run else broker.producer_of(settings) as producer:
            delivery = producer and Delivery(producer, settings.topic)
            for hour in span.hours():
                minutes = span.minutes_of(hour)
                files = [file for file in _files(settings, hour, producer_id) if file[0] in minutes]
                _take([path for _, path in files], delivery, found)
                _add_missing(found.missing, minutes, {minute for minute, _ in files})
                log.info("%s: in all %s records of %s files", hours.spell(hour), found.records, found.files)
    except KafkaError as error:
        raise RefillIncomplete(
            f"Kafka did not take all records of {hours.spell(hour)} ({error!r}); those of the hours before are"
            f" produced. See that the brokers run, then refill again from {spell(max(hour, span.first))}: what has"
            " arrived counts as a duplicate."
        ) from error
    if not found.files:
        raise RemedyRefused(
            f"The archive has no file{f' of {producer_id}' if producer_id else ''} of {span}, below"
            f" {_archive(settings)}. Look there for the minutes it has."
        )
    return found


def spell(minute: datetime) -> str:
    """A minute as YYYY-MM-DDTHH:MMZ."""
    return f"{minute:%Y-%m-%dT%H:%MZ}"


def _minute(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise RemedyRefused(f"{text!r} is no time with an offset from UTC. Write it as in 2026-01-31T12:05:00Z.")
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _archive(settings: Settings) -> str:
    return f"{settings.storage_url}/archive/clickstream"


@contextmanager
def _reading_the_archive(conn: Connection[Any]) -> Iterator[None]:
    """Keep maintenance from removing days of the archive while the block runs."""
    conn.execute("SELECT pg_advisory_lock_shared(hashtext('archive'))")
    try:
        yield
    finally:
        conn.execute("SELECT pg_advisory_unlock_shared(hashtext('archive'))")


def _require_log_append_time(settings: Settings) -> None:
    if not broker.describe(settings).log_append_time:
        raise RemedyRefused(
            f"The message.timestamp.type of {settings.topic} is CreateTime, which would stop every partition that gets"
            " a record. Set it to LogAppendTime (`make up` does it, on a host docker/host/init), then refill."
        )


def _take(paths: list[ObjectStoragePath], delivery: Delivery | None, found: Refill) -> None:
    for path in paths:
        for line in _lines(path):
            if delivery:
                delivery.send(line)
            found.records += 1
            found.bytes += len(line)
        found.files += 1
    if delivery:
        delivery.settle()


def _files(settings: Settings, hour: datetime, producer_id: str | None) -> list[tuple[datetime, ObjectStoragePath]]:
    """The archive's files of an hour, each with its minute, in order."""
    folder = storage.at(_archive(settings), *f"{hour:%Y/%m/%d/%H}".split("/"))
    try:
        listed = list(folder.iterdir())
    except NotADirectoryError:
        return []
    found = []
    for path in listed:
        name = FILE_NAME.fullmatch(path.name)
        if name is None:
            if not path.name.startswith("."):  # one that the generator is writing
                log.warning("%s is no file of the generator (MM-<producerId>.json) and is left out", path)
        elif producer_id in {None, name["producer"]}:
            found.append((hour + int(name["minute"]) * MINUTE, path))
    return sorted(found, key=lambda file: (file[0], file[1].name))


def _lines(path: ObjectStoragePath) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for line in io.BufferedReader(stream, 1 << 20):  # the stream of S3 copies its whole buffer for each line
            yield line.removesuffix(b"\n")


def _add_missing(missing: list[Span], minutes: list[datetime], there: set[datetime]) -> None:
    for minute in minutes:
        if minute in there:
            continue
        if missing and missing[-1].last + MINUTE == minute:
            missing[-1] = Span(first=missing[-1].first, last=minute)
        else:
            missing.append(Span(first=minute, last=minute))


class Delivery:
    """Records on their way to the topic, of which a bounded amount waits for the acknowledgement."""

    def __init__(self, producer: KafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._in_flight: deque[tuple[Any, int]] = deque()
        self._bytes = 0

    def send(self, line: bytes) -> None:
        """Produce a line, once there is room for it."""
        while self._bytes >= IN_FLIGHT_BYTES:
            self._wait()
        size = len(line) + RECORD_OVERHEAD_BYTES
        self._in_flight.append(
            (self._producer.send(self._topic, key=_session(line), value=line, headers=[HISTORIC]), size)
        )
        self._bytes += size

    def settle(self) -> None:
        """Wait until everything is acknowledged."""
        while self._in_flight:
            self._wait()

    def _wait(self) -> None:
        sent, size = self._in_flight.popleft()
        sent.get()
        self._bytes -= size


def _session(line: bytes) -> bytes | None:
    """The key of a line; none where it is no event, which the pipeline then rejects and counts."""
    try:
        return str(json.loads(line)["sessionId"]).encode()
    except (ValueError, KeyError, TypeError):
        return None
