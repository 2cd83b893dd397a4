"""The handler: archive first, then Kafka, and loud where Kafka does not answer."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

import clickstream_generator
from clickstream_generator import handler
from clickstream_source.archive import write_minute
from clickstream_source.delivery import DeliveryError
from clickstream_source.invocation import read_invocation
from clickstream_source.settings import SettingsError
from tests.kit.contract import checked, text

EVENT: dict[str, object] = {
    "version": "0",
    "id": "5e9fd5cc-70a5-4a5c-8a8e-3f2d4f0a1b2c",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "time": "2026-11-22T18:54:00Z",
    "detail": {},
}
FILE = "clickstream/2026/11/22/18/54-lambda-1.json"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port that is taken, but on which nothing listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def archive(tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{closed_port}")
    monkeypatch.setenv("KAFKA_DELIVERY_TIMEOUT_SECONDS", "1")
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    monkeypatch.setenv("GENERATOR_EVENTS_PER_MINUTE", "50")
    return tmp_path / "archive"


def test_the_archive_is_written_before_kafka_is_asked_and_the_failure_is_loud(archive: Path) -> None:
    threads = threading.active_count()
    with pytest.raises(DeliveryError) as failure:
        handler(EVENT, None)
    first = (archive / FILE).read_bytes()
    lines = first.splitlines()
    assert {text(checked(line), "producerId") for line in lines} == {"lambda-1"}
    message = str(failure.value)
    assert f"{len(lines):,} of {len(lines):,} records were not acknowledged" in message
    assert "KafkaTimeoutError" in message
    assert FILE in message
    assert threading.active_count() == threads
    with pytest.raises(DeliveryError):
        handler(EVENT, None)
    assert (archive / FILE).read_bytes() == first
    assert [path.name for path in (archive / FILE).parent.iterdir()] == ["54-lambda-1.json"]


def test_a_burst_has_about_its_number_at_any_hour_and_its_own_file(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clickstream_generator, "deliver", lambda *_, **__: SimpleNamespace(last_offsets={}))
    for hour in ("07", "19"):
        burst = {"producerId": "burst-1", "eventsPerMinute": 1_000}
        handler(EVENT | {"time": f"2026-11-22T{hour}:00:00Z", "detail": burst}, None)
        lines = (archive / f"clickstream/2026/11/22/{hour}/00-burst-1.json").read_bytes().splitlines()
        assert 800 < len(lines) < 1_200


def test_a_minute_without_events_is_archived_empty_and_succeeds(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATOR_EVENTS_PER_MINUTE", "0")
    summary = handler(EVENT, None)
    assert json.loads(json.dumps(summary)) == {
        "producerId": "lambda-1",
        "minute": "2026-11-22T18:54:00Z",
        "events": 0,
        "archive": f"file://{archive}/{FILE}",
        "partitions": {},
    }
    assert (archive / FILE).read_bytes() == b""


def test_a_wrong_setting_writes_nothing(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATOR_SEED", "x")
    with pytest.raises(SettingsError):
        handler(EVENT, None)
    assert not archive.exists()


def test_a_file_that_cannot_be_written_stops_before_kafka(archive: Path) -> None:
    archive.write_text("a file where the folder should be")
    with pytest.raises(NotADirectoryError):
        handler(EVENT, None)


def test_an_archive_in_s3_is_one_object_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, bytes] = {}

    class Bucket(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            received[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    server = HTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        minute = read_invocation(EVENT).minute
        url = write_minute("s3://lake/raw/archive", "lambda-1", minute, [b'{"a":1}', b'{"b":2}'])
    finally:
        server.shutdown()
        server.server_close()
    assert url == f"s3://lake/raw/archive/{FILE}"
    assert received == {f"/lake/raw/archive/{FILE}": b'{"a":1}\n{"b":2}\n'}
