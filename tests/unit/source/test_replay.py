"""The replay: sessions, stable events whatever the options, shifted times, and the command."""

import gzip
import json
import random
import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from access_log_replay import main
from clickstream_source.access_log import LogError, LogReader
from clickstream_source.event import Event
from clickstream_source.replay import Selection, Survey, events_of_log, survey
from clickstream_source.sessions import SessionIndex
from clickstream_source.shift import choose_shift, record_shift, recorded_shift
from tests.kit.access_logs import line_of
from tests.kit.contract import checked

REAL_LOG = Path(__file__).parents[4] / "shared" / "data" / "access_log_2015-05.gz"
BOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
START = datetime(2015, 5, 17, 10, 0, 0, tzinfo=UTC)


def at(minutes: float, **fields: str) -> bytes:
    return line_of(time=f"{START + timedelta(minutes=minutes):%d/%b/%Y:%H:%M:%S +0000}", **fields)


def log_of(folder: Path, *lines: bytes) -> Path:
    path = folder / "access.log"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def replayed(path: Path, selection: Selection | None = None, shift: int = 0) -> tuple[Survey, list[Event]]:
    selection = selection or Selection()
    reader = LogReader(path)
    unreadable: list[int] = []
    found = survey(reader, selection, on_unreadable=lambda line, _: unreadable.append(line.number))
    assert len(unreadable) == found.unreadable
    return found, list(events_of_log(reader, found, selection, shift))


def by_line(events: list[Event]) -> dict[int, str]:
    return {event.sequence: event.session_id for event in events}


def test_events_obey_the_contract(tmp_path: Path) -> None:
    path = log_of(
        tmp_path,
        at(0, request=f"GET /{'p' * 2_000} HTTP/1.1", referrer=f"http://a.example/{'r' * 2_000}"),
        at(1, agent="", address="::1"),
        at(2, request="GET /X HTTP/1.1").replace(b"X", b"\xff\0"),
    )
    found, events = replayed(path)
    read = [checked(event.to_json()) for event in events]
    assert found.cut_fields == 1
    assert [event["page"] for event in read] == ["/" + "p" * 1_023, "/a?b=1", r"/\xff\x00"]
    assert [event["sequence"] for event in read] == [1, 2, 3]
    assert "referrer" not in read[1]
    assert read[0]["eventTime"] == "2015-05-17T10:00:00.000Z"
    assert {(event["producerId"], event["region"], event["eventType"]) for event in read} == {
        ("access-log", "unknown", "PAGE_VIEW")
    }


def test_a_session_ends_with_more_than_thirty_minutes_of_silence(tmp_path: Path) -> None:
    _, events = replayed(log_of(tmp_path, at(0), at(30), at(60), at(90 + 1 / 60), at(91)))
    sessions = by_line(events)
    assert sessions[1] == sessions[2] == sessions[3] != sessions[4] == sessions[5]


def test_sessions_do_not_depend_on_the_order_of_the_lines(tmp_path: Path) -> None:
    # The last line joins what the first two began as two sessions.
    _, events = replayed(log_of(tmp_path, at(50), at(0), at(200), at(25)))
    sessions = by_line(events)
    assert sessions[1] == sessions[2] == sessions[4] != sessions[3]
    _, sorted_events = replayed(log_of(tmp_path, at(0), at(25), at(50), at(200)))
    assert set(by_line(sorted_events).values()) == set(sessions.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_session_index_agrees_with_sorting(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - a test's draw
    times = [draw.randrange(0, 200_000) for _ in range(120)] + [3_600, 5_400, 5_400, 7_201]
    draw.shuffle(times)
    index = SessionIndex()
    for time in times:
        index.add("v", time)
    start = previous = min(times)
    for time in sorted(times):
        start = time if time - previous > 1_800 else start
        previous = time
        assert index.start_of("v", time) == start
    assert index.start_of("v", min(times) - 1) is None
    assert index.start_of("w", times[0]) is None


def test_visitors_differ_by_address_and_by_agent(tmp_path: Path) -> None:
    _, events = replayed(log_of(tmp_path, at(0), at(1, address="::1"), at(2, agent=BOT), at(3)))
    users = [event.user_id for event in events]
    assert users[0] == users[3]
    assert len(set(users)) == len(set(by_line(events).values())) == 3


def test_options_choose_lines_but_change_no_event(tmp_path: Path) -> None:
    path = log_of(
        tmp_path,
        at(0),
        at(20, request="GET /logo.png HTTP/1.1"),
        at(40),
        at(41, agent=BOT),
        at(42, request="-"),
        at(43)[:-1],
    )
    found, events = replayed(path)
    assert (found.lines, found.events, found.unreadable, found.left_out) == (6, 4, 1, {"no HTTP request": 1})
    fewer_found, fewer = replayed(path, Selection(bots=False, assets=False))
    assert fewer_found.left_out == {"no HTTP request": 1, "asset": 1, "bot": 1}
    assert [event.sequence for event in fewer] == [1, 3]
    assert set(fewer) < set(events)
    assert fewer[0].session_id == fewer[1].session_id


def test_event_ids_derive_from_number_and_content_of_the_line(tmp_path: Path) -> None:
    _, events = replayed(log_of(tmp_path, at(0), at(0)))
    ids = [event.event_id for event in events]
    assert len(set(ids)) == 2
    _, longer = replayed(log_of(tmp_path, at(0), at(0), at(1)))
    assert [event.event_id for event in longer[:2]] == ids
    _, shifted = replayed(tmp_path / "access.log", shift=60)
    assert [event.event_id for event in shifted] == [event.event_id for event in longer]
    assert not {event.session_id for event in shifted} & {event.session_id for event in longer}


def test_a_log_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = log_of(tmp_path, at(0), at(10))
    reader = LogReader(path)
    found = survey(reader, Selection(), on_unreadable=lambda *_: None)
    log_of(tmp_path, at(0), at(5))
    with pytest.raises(LogError, match="changed while it was read"):
        list(events_of_log(reader, found, Selection(), 0))


def test_a_file_without_one_readable_line_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="None of the 2 lines"):
        replayed(log_of(tmp_path, b"a,b", b"c,d"))


def test_the_first_shift_is_kept(tmp_path: Path) -> None:
    now = datetime(2026, 11, 22, 18, 54, 0, 900_000, tzinfo=UTC)
    shift = choose_shift(int(START.timestamp()), now)
    assert START + timedelta(seconds=shift) == now.replace(microsecond=0)
    assert recorded_shift(tmp_path, "ab") is None
    assert record_shift(tmp_path / "state", "ab", shift) == shift
    assert record_shift(tmp_path / "state", "ab", shift + 1) == shift
    assert recorded_shift(tmp_path / "state", "ab") == shift
    assert recorded_shift(tmp_path / "state", "cd") is None


@pytest.mark.parametrize("content", ["", "[]", '{"shift_seconds": "1"}', "{}"])
def test_a_damaged_shift_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "ab.json").write_text(content)
    with pytest.raises(LogError, match=r"ab\.json does not hold the shift"):
        recorded_shift(tmp_path, "ab")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env={"COLUMNS": "100"})


def rows(result: Result) -> dict[str, str]:
    return dict(re.findall(r"^│ (.+?) +│ (.+?) +│$", result.output, flags=re.MULTILINE))


def test_the_command_counts_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    path = log_of(tmp_path, at(0), at(1, request="GET /a.css HTTP/1.1"), at(2, agent=BOT), at(3)[:-1])
    result = run(path, "--dry-run", "--no-bots", "--no-assets", "--state", tmp_path / "state")
    assert result.exit_code == 0, result.output
    assert "line 4 is unreadable: the agent is missing or has no closing quote" in result.output
    assert "1 of 4 lines were unreadable" in result.output
    named = (tmp_path / "state" / "access.log.unreadable.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in named] == [
        {"line": 4, "reason": "the agent is missing or has no closing quote", "content": at(3)[:-1].decode()}
    ]
    table = rows(result)
    assert table["events"] == table["left out: bot"] == table["left out: asset"] == table["unreadable"] == "1"


def test_a_shifted_dry_run_ends_now_and_remembers_nothing(tmp_path: Path) -> None:
    path = log_of(tmp_path, at(90), at(0))
    result = run(path, "--dry-run", "--times", "shifted", "--now", "2026-01-01T00:00:00Z", "--state", tmp_path / "s")
    assert rows(result)["last event"] == "2026-01-01T00:00:00.000Z"
    assert rows(result)["first event"] == "2025-12-31T22:30:00.000Z"
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--now", "2126-01-01T00:00:00Z", "--dry-run"], "not be in the future"),
        (["--now", "2026-01-01T00:00:00", "--dry-run"], "must have a zone"),
        (["--times", "moved"], "'kept', 'shifted'"),
        ([], "KAFKA_BOOTSTRAP_SERVERS is not set"),
        (["--bootstrap-servers", "nowhere"], "KAFKA_BOOTSTRAP_SERVERS='nowhere' is refused"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    result = run(log_of(tmp_path, at(0)), "--state", tmp_path, *arguments)
    assert result.exit_code != 0
    assert message in result.output


def test_an_unreachable_broker_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    program = str(Path(__file__).parents[3] / "lambda" / "access_log_replay.py")
    log = str(log_of(tmp_path, at(0)))
    command = [sys.executable, program, log, "--state", str(tmp_path), "--bootstrap-servers", "127.0.0.1:1"]
    environment = {"KAFKA_DELIVERY_TIMEOUT_SECONDS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "1 of 1 records were not acknowledged" in done.stderr
    assert "Replay the log again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not REAL_LOG.exists(), reason="the real access log is not beside the repository")
def test_the_real_log_as_a_short_script_counts_it(tmp_path: Path) -> None:
    pattern = re.compile(r'(\S+) \S+ \S+ \[(.+?)\] "\S+ (\S+) [^"]*" \d+ \S+ "([^"]*)" "([^"]*)"')
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    pages = []
    with gzip.open(REAL_LOG, "rt", encoding="utf-8") as log:
        for line in log:
            if match := pattern.fullmatch(line.strip()):
                time = datetime.strptime(match[2], "%d/%b/%Y:%H:%M:%S %z").timestamp()
                times[match[1], match[5]].append(time)
                pages.append((time, match[3], None if match[4] == "-" else match[4]))
    sessions = 0
    for visits in times.values():
        visits.sort()
        sessions += 1 + sum(later - earlier > 1_800 for earlier, later in pairwise(visits))
    found, events = replayed(REAL_LOG)
    assert (found.lines, found.events, found.unreadable) == (10_000, len(pages), 1) == (10_000, 9_999, 1)
    assert len({event.user_id for event in events}) == len(times)
    assert len({event.session_id for event in events}) == sessions
    assert [(event.event_time_ms / 1_000, event.page, event.referrer) for event in events] == pages
    values = [event.to_json() for event in events]
    assert len({checked(value)["eventId"] for value in values}) == 9_999
    assert values == [event.to_json() for event in replayed(REAL_LOG)[1]]
    result = run(REAL_LOG, "--dry-run", "--state", tmp_path)
    assert "line 8,899 is unreadable" in result.output
    assert rows(result)["visitors"] == f"{len(times):,}"
