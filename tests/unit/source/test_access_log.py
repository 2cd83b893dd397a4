"""Lines of access logs: the tricky ones read, the broken ones named."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from clickstream_source.access_log import LogError, LogLine, LogReader, Request, UnreadableLineError, parse_line
from clickstream_source.audience import device_of, is_asset
from tests.kit.access_logs import EPOCH, FIREFOX, line_of


def read(content: bytes) -> Request:
    return parse_line(LogLine(1, content, is_cut=False))


def test_a_line_is_read() -> None:
    expected = Request(address="83.149.9.216", agent=FIREFOX, time=EPOCH, page="/a?b=1", referrer="http://b.example/")
    assert read(line_of(referrer="http://b.example/")) == expected


@pytest.mark.parametrize(
    ("content", "name", "value"),
    [
        (line_of(agent=r"say \"hi\" \\"), "agent", r"say \"hi\" \\"),
        (line_of(agent=r"\x22quoted\x22"), "agent", r"\x22quoted\x22"),
        (line_of(agent=""), "agent", ""),
        (line_of(address="2001:db8::17"), "address", "2001:db8::17"),
        (line_of(user="Ann Smith"), "address", "83.149.9.216"),
        (line_of(referrer="-"), "referrer", None),
        (line_of(referrer=""), "referrer", None),
        (line_of(time="17/May/2015:12:05:03 +0200"), "time", EPOCH),
        (line_of(time="17/May/2015:06:35:03 -0330"), "time", EPOCH),
        (line_of(request="GET /with space HTTP/1.1"), "page", "/with space"),
        (line_of(request="GET /"), "page", "/"),
        (line_of(request="OPTIONS * HTTP/1.1"), "page", "*"),
        (line_of(request="-"), "page", None),
        (line_of(request=r"\x16\x03\x01"), "page", None),
        (line_of(request="GET /\u00e4 HTTP/1.1"), "page", "/\u00e4"),
        (line_of(request="GET /X HTTP/1.1").replace(b"X", b"\xe4"), "page", r"/\xe4"),
        (line_of(request="GET /X HTTP/1.1").replace(b"X", b"\0"), "page", r"/\x00"),
        (line_of().replace(b" 512 ", b" - "), "page", "/a?b=1"),
    ],
)
def test_tricky_fields(content: bytes, name: str, value: object) -> None:
    assert getattr(read(content), name) == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (line_of()[:-1], "the agent is missing or has no closing quote"),
        (line_of()[:100], "the agent is missing or has no closing quote"),
        (line_of()[:60], "the request is missing or has no closing quote"),
        (line_of().split(b'-" "')[0], "the referrer is missing or has no closing quote"),
        (line_of().rsplit(b' "', 1)[0], "no agent after the referrer"),
        (line_of().split(b' "-"')[0], "no status and size"),
        (line_of() + b' "10 ms"', "text after the agent"),
        (b"", "does not begin with address"),
        (b"not a log", "does not begin with address"),
        (line_of(time="32/May/2015:10:05:03 +0000"), "not a time"),
        (line_of(time="17/Mai/2015:10:05:03 +0000"), "not a time"),
        (line_of(time="17/May/2015:10:05:60 +0000"), "not a time"),
        (line_of(time="17/May/1999:10:05:03 +0000"), "outside the years"),
        (line_of(time="01/Jan/2000:00:30:00 +0100"), "outside the years"),
    ],
)
def test_a_broken_line_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableLineError, match=reason):
        read(content)


def two_members(content: bytes) -> bytes:
    return gzip.compress(content[:9]) + gzip.compress(content[9:])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, two_members])
def test_plain_and_gzip_have_the_same_lines_and_digest(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack(b"one\r\ntwo\n\nlast without end"))
    reader = LogReader(path)
    for _ in range(2):
        assert [line.content for line in reader.lines()] == [b"one", b"two", b"", b"last without end"]
    plain = tmp_path / "plain"
    plain.write_bytes(b"one\r\ntwo\n\nlast without end")
    again = LogReader(plain)
    assert len(list(again.lines())) == 4
    assert reader.sha256 == again.sha256


def test_a_line_without_end_in_sight_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line_of(agent="x" * 200_000) + b"\n" + line_of() + b"\n")
    first, second = LogReader(path).lines()
    assert len(first.content) == 65_536
    with pytest.raises(UnreadableLineError, match="longer than 65,536 bytes"):
        parse_line(first)
    assert (second.number, parse_line(second).agent) == (2, FIREFOX)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:40] + b"\xff" * 40 + data[80:]])
def test_damaged_gzip_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(damage(gzip.compress(b"".join(b"%d\n" % number for number in range(1_000)))))
    with pytest.raises(LogError, match="gzip data is damaged after line"):
        list(LogReader(path).lines())


def test_only_a_regular_file_can_be_read_twice(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="not a regular file"):
        LogReader(tmp_path)


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (FIREFOX, "desktop"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 7_0_4 like Mac OS X) Version/7.0 Mobile/11B554a Safari/9537.53", "mobile"),
        ("Mozilla/5.0 (Linux; Android 4.4; Nexus 5) Chrome/33.0 Mobile Safari/537.36", "mobile"),
        ("Mozilla/5.0 (Linux; Android 4.4; Nexus 7) Chrome/33.0 Safari/537.36", "tablet"),
        ("Mozilla/5.0 (iPad; CPU OS 7_0_4 like Mac OS X) Version/7.0 Mobile/11B554a Safari/9537.53", "tablet"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 6_0) Safari/8536.25 (compatible; Googlebot/2.1)", "bot"),
        ("Mozilla/5.0 (compatible; Yahoo! Slurp)", "bot"),
        ("Feedbin - 1 subscribers", "bot"),
        ("curl/7.30.0", "bot"),
        ("-", "unknown"),
        ("", "unknown"),
    ],
)
def test_devices(agent: str, device: str) -> None:
    assert device_of(agent) == device


@pytest.mark.parametrize("page", ["/a.png", "/a.CSS?v=2", "/favicon.ico", "/x/y.min.js#z", "/f.woff2"])
def test_assets(page: str) -> None:
    assert is_asset(page)


@pytest.mark.parametrize("page", ["/", "/a.html", "/png", "/a.pngs", "/show?file=a.png", "/style.css/more", "*"])
def test_pages(page: str) -> None:
    assert not is_asset(page)
