"""Replays an access log in Combined Log Format, gzip or plain, as clickstream events.

Every readable request becomes a PAGE_VIEW, whatever its method and status. Visitors are told by address and
agent, a session ends with more than 30 minutes of silence, the page is the path with its query. All records
carry the header `clickstream-load: historic`, so that the age of a log does not make them late.

A line always makes the same event, so a second replay only adds duplicates. With shifted times the log's last
request happens now; the shift is remembered by the log's content, so a second shifted replay adds only
duplicates, too.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from clickstream_source.access_log import LogError, LogLine, LogReader, UnreadableLineError
from clickstream_source.delivery import HISTORIC, Delivered, DeliveryError, Record, deliver
from clickstream_source.event import Event, format_time
from clickstream_source.replay import Selection, Survey, events_of_log, survey
from clickstream_source.settings import KafkaSettings, SettingsError
from clickstream_source.shift import choose_shift, record_shift, recorded_shift

_STATE = Path(__file__).resolve().parents[1] / ".clickstream" / "replay"
_NAMED_LINES = 10
_EXCERPT = 80


def _point_in_time(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime:
    clock = datetime.now(tz=UTC)
    if value is None:
        return clock
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a time like 2026-11-22T18:54:00Z") from error
    if time.tzinfo is None or time > clock:
        raise click.BadParameter(f"{value!r} must have a zone (Z or +hh:mm) and not be in the future")
    return time


@click.command(help=__doc__)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--bootstrap-servers", envvar="KAFKA_BOOTSTRAP_SERVERS", help="Brokers, host:port[,host:port].")
@click.option("--topic", envvar="TOPIC", default="clickstream-events", show_default=True)
@click.option("--times", type=click.Choice(["kept", "shifted"]), default="kept", show_default=True)
@click.option("--now", callback=_point_in_time, help="Where the first shifted replay puts the last request.")
@click.option("--bots/--no-bots", default=True, help="With crawlers, feed readers and HTTP libraries, or not.")
@click.option("--assets/--no-assets", default=True, help="With images, icons, styles, scripts and fonts, or not.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=_STATE,
    help="Folder of the remembered shifts and of the lists of unreadable lines.",
)
@click.option("--dry-run", is_flag=True, help="Read and count only: no record is sent, no shift remembered.")
def main(
    *,
    path: Path,
    bootstrap_servers: str | None,
    topic: str,
    times: str,
    now: datetime,
    bots: bool,
    assets: bool,
    state: Path,
    dry_run: bool,
) -> None:
    """Replay the log; the text for the user is the module's."""
    console = Console(stderr=True)
    selection = Selection(bots=bots, assets=assets)
    try:
        settings = None if dry_run else _settings(bootstrap_servers, topic)
        reader = LogReader(path)
        unreadable = UnreadableLines(state / f"{path.name}.unreadable.jsonl", console)
        with Progress(console=console) as progress:
            reading = progress.add_task("reading", total=reader.size)
            found = survey(
                reader,
                selection,
                on_line=lambda: progress.update(reading, completed=reader.position),
                on_unreadable=unreadable.add,
            )
        shift = 0 if times == "kept" else _shift(found, state, now, dry_run=dry_run)
        tally = Tally()
        records = tally.records(events_of_log(reader, found, selection, shift))
        with Progress(console=console) as progress:
            task = progress.add_task("counting" if settings is None else "sending", total=found.events)
            if settings is None:
                delivered = Delivered()
                for _ in records:
                    progress.advance(task)
            else:
                delivered = deliver(
                    records,
                    total=found.events,
                    settings=settings,
                    headers=HISTORIC,
                    remedy="Replay the log again: what had arrived already counts as a duplicate.",
                    on_acknowledged=lambda: progress.advance(task),
                )
    except (LogError, SettingsError, DeliveryError) as error:
        raise click.ClickException(str(error)) from error
    Console().print(_summary(found, tally, delivered, shift))
    click.echo(
        "Dry run: nothing was sent."
        if dry_run
        else "The next drain and aggregate runs pick the events up; with the stack up that is within minutes."
    )
    if found.unreadable:
        click.echo(
            f"{found.unreadable:,} of {found.lines:,} lines were unreadable and are no events; "
            f"each is listed with its reason in {unreadable.path}"
        )


class UnreadableLines:
    """Names each unreadable line in a file, and the first ten on the terminal."""

    def __init__(self, path: Path, console: Console) -> None:
        """Begin anew: a list of an earlier replay is removed."""
        self.path = path
        self._console = console
        self._count = 0
        path.unlink(missing_ok=True)

    def add(self, line: LogLine, reason: UnreadableLineError) -> None:
        """Write down the number, the reason and the content of a line."""
        self._count += 1
        content = line.content.decode(errors="backslashreplace")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"line": line.number, "reason": str(reason), "content": content}) + "\n")
        if self._count <= _NAMED_LINES:
            text = f"line {line.number:,} is unreadable: {reason}: {content[:_EXCERPT]}"
            self._console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Tally:
    """Counts the events that go by."""

    visitors: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    first_ms: int | None = None
    last_ms: int | None = None

    def records(self, events: Iterable[Event]) -> Iterator[Record]:
        """Turn events into records, counting each."""
        for event in events:
            self.visitors.add(event.user_id)
            self.sessions.add(event.session_id)
            self.first_ms = min(event.event_time_ms, self.first_ms or event.event_time_ms)
            self.last_ms = max(event.event_time_ms, self.last_ms or event.event_time_ms)
            yield Record(event.key, event.to_json())


def _settings(bootstrap_servers: str | None, topic: str) -> KafkaSettings:
    given = {"TOPIC": topic}
    if bootstrap_servers is not None:
        given["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
    return KafkaSettings.load(**given)


def _shift(found: Survey, state: Path, now: datetime, *, dry_run: bool) -> int:
    """Find the seconds to add to every time, and remember them unless nothing is sent."""
    if found.last_time is None:
        return 0
    recorded = recorded_shift(state, found.sha256)
    if recorded is not None:
        return recorded
    shift = choose_shift(found.last_time, now)
    return shift if dry_run else record_shift(state, found.sha256, shift)


def _summary(found: Survey, tally: Tally, delivered: Delivered, shift: int) -> Table:
    table = Table("what", "how many", title="access log replay")
    rows: dict[str, object] = {"lines": found.lines, "events": found.events}
    rows |= {f"left out: {reason}": count for reason, count in sorted(found.left_out.items())}
    rows |= {
        "unreadable": found.unreadable,
        "cut to 1,024 characters": found.cut_fields,
        "visitors": len(tally.visitors),
        "sessions": len(tally.sessions),
        "times shifted by": f"{shift:,} s",
        "first event": "-" if tally.first_ms is None else format_time(tally.first_ms),
        "last event": "-" if tally.last_ms is None else format_time(tally.last_ms),
    }
    rows |= {
        f"records in partition {partition}": f"{count:,}, last offset {delivered.last_offsets[partition]:,}"
        for partition, count in sorted(delivered.records.items())
    }
    for name, value in rows.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else Text(str(value), overflow="fold"))
    return table


if __name__ == "__main__":
    main()
