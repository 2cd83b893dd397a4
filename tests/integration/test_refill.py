"""What the archive holds of a span is produced once more, verbatim, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.producer.future import FutureRecordMetadata

from clickstream.errors import RefillIncomplete, RemedyRefused
from clickstream.remedies import refill
from clickstream.remedies.refill import Refill, Span
from clickstream_source.archive import write_minute
from tests.kit.aws import Account
from tests.kit.pipeline import Pipeline
from tests.kit.records import HISTORIC, event

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def archive(pipeline: Pipeline, minute: datetime, *values: bytes, producer: str = "lambda-1") -> None:
    write_minute(f"{pipeline.settings.storage_url}/archive", producer, minute, values)


def events(minute: datetime, count: int = 3, **fields: Any) -> list[bytes]:
    return [
        json.dumps(
            event(eventId=f"{minute:%d%H%M}-{n}", sessionId=f"s{n}", eventTime=f"{minute:%Y-%m-%dT%H:%M:%SZ}", **fields)
        ).encode()
        for n in range(count)
    ]


def refilled(
    pipeline: Pipeline, first: str, last: str, *, producer: str | None = None, dry_run: bool = False
) -> Refill:
    return refill.refill(
        pipeline.conn, pipeline.settings, Span.parse(first, last), producer_id=producer, dry_run=dry_run
    )


def minute(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def archived(pipeline: Pipeline) -> Pipeline:
    """Minutes 11:59, 12:00, 12:01 and 12:03; the third is of two producers, the last one of the other alone."""
    pipeline.create_topic()
    for offset in (-1, 0, 1):
        archive(pipeline, NOON + timedelta(minutes=offset), *events(NOON + timedelta(minutes=offset)))
    archive(pipeline, NOON + timedelta(minutes=1), b'{"no": "event"}', b"\xff, verbatim \r", producer="other")
    archive(pipeline, NOON + timedelta(minutes=3), *events(NOON + timedelta(minutes=3)), producer="other")
    return pipeline


def test_the_lines_of_the_span_are_produced_verbatim_by_session_as_historic(archived: Pipeline) -> None:
    found = refilled(archived, "2026-01-31T12:00:59.9Z", "2026-01-31T13:02:00+01:00")
    log = archived.log()
    expected = [*events(NOON), *events(NOON + timedelta(minutes=1)), b'{"no": "event"}', b"\xff, verbatim \r"]
    assert sorted(record.value or b"" for record in log) == sorted(expected)
    assert {record.headers for record in log} == {HISTORIC}
    assert {record.key for record in log} == {b"s0", b"s1", b"s2", None}
    assert {json.loads(r.value)["sessionId"].encode() for r in log if r.key == b"s1" and r.value} == {b"s1"}
    assert (found.files, found.records, found.bytes) == (3, 8, sum(map(len, expected)))
    assert found.missing == [Span(first=minute("2026-01-31T12:02Z"), last=minute("2026-01-31T12:02Z"))]


def test_a_dry_run_says_the_same_and_produces_nothing(archived: Pipeline) -> None:
    span = ("2026-01-31T11:58:00Z", "2026-01-31T12:06:00Z")
    dry = refilled(archived, *span, dry_run=True)
    assert archived.log() == []
    assert dry == refilled(archived, *span)
    assert dry.lines()[1:] == [
        "no file of 2026-01-31T11:58Z",
        "no file of 2026-01-31T12:02Z",
        "no file of 2026-01-31T12:04Z to 2026-01-31T12:06Z",
    ]


def test_of_one_producer_only_its_minutes_count(archived: Pipeline) -> None:
    found = refilled(archived, "2026-01-31T11:59:00Z", "2026-01-31T12:03:00Z", producer="other")
    assert (found.files, found.records) == (2, 5)
    assert [str(span) for span in found.missing] == ["2026-01-31T11:59Z to 2026-01-31T12:00Z", "2026-01-31T12:02Z"]


def test_retired_hours_of_the_span_are_named(archived: Pipeline) -> None:
    archived.conn.execute("INSERT INTO ledger.retired_hours VALUES (%s, 0), (%s, 0)", [NOON, NOON + timedelta(hours=1)])
    found = refilled(archived, "2026-01-31T11:59:00Z", "2026-01-31T12:01:00Z", dry_run=True)
    assert found.lines()[1:] == ["2026-01-31T12 is retired: its events count as late"]


def test_what_waits_for_its_acknowledgement_is_bounded(archived: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(archived, NOON, *events(NOON, 600))
    most = 0
    send = refill.Delivery.send

    def watched(delivery: refill.Delivery, line: bytes) -> None:
        nonlocal most
        send(delivery, line)
        most = max(most, len(delivery._in_flight))

    monkeypatch.setattr(refill, "IN_FLIGHT_BYTES", 100_000)
    monkeypatch.setattr(refill.Delivery, "send", watched)
    assert refilled(archived, "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z").records == 600
    assert most <= 100_000 // refill.RECORD_OVERHEAD_BYTES + 1
    assert len(archived.log()) == 600


def test_a_record_that_is_not_acknowledged_is_an_error_that_says_where_to_go_on(
    archived: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, acknowledged = FutureRecordMetadata.get, Counter[str]()

    def lose(sent: FutureRecordMetadata, timeout: float | None = None) -> Any:
        acknowledged["records"] += 1
        if acknowledged["records"] == 5:  # the second of the second hour
            raise KafkaTimeoutError
        return get(sent, timeout)

    monkeypatch.setattr(FutureRecordMetadata, "get", lose)
    with pytest.raises(RefillIncomplete, match=r"records of 2026-01-31T12 .* again from 2026-01-31T12:00Z"):
        refilled(archived, "2026-01-31T11:59:00Z", "2026-01-31T12:01:00Z")


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        ("2026-01-31T12:01:00Z", "2026-01-31T12:00:00Z", "must not be after"),
        ("2026-01-31T12:00:00Z", "2026-03-03T12:00:00Z", "within 31 days"),
        ("2026-01-31T12:00:00Z", "2999-01-01T00:00:00Z", "not in the future"),
        ("2026-01-31T12:00:00", "2026-01-31T12:00:00Z", "no time with an offset from UTC"),
        ("noon", "2026-01-31T12:00:00Z", "'noon' is no time"),
    ],
)
def test_a_span_that_makes_no_sense_is_refused(first: str, last: str, reason: str) -> None:
    with pytest.raises(RemedyRefused, match=reason):
        Span.parse(first, last)


def test_an_archive_without_these_minutes_is_refused(archived: Pipeline) -> None:
    for producer in (None, "nobody"):
        with pytest.raises(RemedyRefused, match=r"no file.* of 2026-01-31T14:00Z to 2026-01-31T14:09Z"):
            refilled(archived, "2026-01-31T14:00:00Z", "2026-01-31T14:09:00Z", producer=producer)


def test_a_topic_that_would_stop_its_partitions_is_refused(pipeline: Pipeline) -> None:
    pipeline.create_topic(**{"message.timestamp.type": "CreateTime"})
    archive(pipeline, NOON, *events(NOON))
    with pytest.raises(RemedyRefused, match="Set it to LogAppendTime"):
        refilled(pipeline, "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z")
    assert pipeline.log() == []


def test_the_archive_may_be_on_s3(pipeline: Pipeline, aws: Account) -> None:
    aws.client("s3").create_bucket(Bucket="events", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    pipeline.create_topic()
    pipeline.use(storage_url="s3://events/zones")
    archive(pipeline, NOON, *events(NOON, 50))
    found = refilled(pipeline, "2026-01-31T11:59:00Z", "2026-01-31T12:00:00Z")
    assert (found.records, [str(span) for span in found.missing]) == (50, ["2026-01-31T11:59Z"])
    assert sorted(record.value or b"" for record in pipeline.log()) == sorted(events(NOON, 50))
