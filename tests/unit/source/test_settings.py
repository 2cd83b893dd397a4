"""Settings and invocations that are wrong are refused by name, value and rule."""

from datetime import UTC, datetime

import pytest

from clickstream_source.invocation import InvocationError, read_invocation
from clickstream_source.settings import GeneratorSettings, KafkaSettings, SettingsError

REQUIRED = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092", "ARCHIVE_URL": "file:///data/archive"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "TOPIC", "ARCHIVE_URL", "KAFKA_DELIVERY_TIMEOUT_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_defaults() -> None:
    settings = GeneratorSettings.load()
    assert (settings.producer_id, settings.topic) == ("lambda-1", "clickstream-events")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("GENERATOR_PRODUCER_ID", "a/b", "1 to 64"),
        ("GENERATOR_PRODUCER_ID", "lambda-1\n", "1 to 64"),
        ("GENERATOR_EVENTS_PER_MINUTE", "many", "0 to 100000"),
        ("GENERATOR_EVENTS_PER_MINUTE", "-1", "0 to 100000"),
        ("GENERATOR_EVENTS_PER_MINUTE", "nan", "0 to 100000"),
        ("GENERATOR_DAY_NIGHT_AMPLITUDE", "1.5", "0 (no day and night) to 1"),
        ("GENERATOR_USERS", "0", "1 to 1000000"),
        ("GENERATOR_VIEW_TO_CART_RATE", "", "0 to 1"),
        ("GENERATOR_CART_TO_PURCHASE_RATE", "2", "0 to 1"),
        ("GENERATOR_SEED", "1.5", "an integer"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:0", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,,b:2", "host:port"),
        ("KAFKA_DELIVERY_TIMEOUT_SECONDS", "0", "1 to 600"),
        ("TOPIC", "click stream", "1 to 249"),
        ("ARCHIVE_URL", "/data/archive", "file:///absolute/folder or s3://bucket/prefix"),
        ("ARCHIVE_URL", "file://data/archive", "file:///absolute/folder or s3://bucket/prefix"),
        ("ARCHIVE_URL", "s3:///archive", "file:///absolute/folder or s3://bucket/prefix"),
        ("KAFKA_CREDENTIALS_SECRET", "", "ARN or name of a secret"),
        ("KAFKA_CA_PARAMETER", "/clickstream/kafka-ca", "only together with credentials"),
        ("KAFKA_CA_FILE", "/ca.pem", "only with credentials"),
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        GeneratorSettings.load()
    assert f"{name}={value!r} is refused" in str(refusal.value)
    assert allowed in str(refusal.value)


@pytest.mark.parametrize(
    ("one", "other"), [("KAFKA_CREDENTIALS_SECRET", "KAFKA_CREDENTIALS_FILE"), ("KAFKA_CA_PARAMETER", "KAFKA_CA_FILE")]
)
def test_credentials_and_authority_come_from_one_place(monkeypatch: pytest.MonkeyPatch, one: str, other: str) -> None:
    monkeypatch.setenv("KAFKA_CREDENTIALS_SECRET", "secret")
    monkeypatch.setenv(one, "secret")
    assert KafkaSettings.load().is_secured
    monkeypatch.setenv(other, "/file")
    with pytest.raises(SettingsError, match=f"{other}='/file' is refused: .*given twice.*instead of {one}"):
        KafkaSettings.load()


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHIVE_URL")
    monkeypatch.setenv("GENERATOR_USERS", "none")
    with pytest.raises(SettingsError, match=r"(?s)ARCHIVE_URL is not set.*GENERATOR_USERS='none'"):
        GeneratorSettings.load()


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATOR_EVENT_PER_MINUTE", "10")
    with pytest.raises(SettingsError, match=r"GENERATOR_EVENT_PER_MINUTE: there is no such.*GENERATOR_EVENTS_PER_MIN"):
        GeneratorSettings.load()


@pytest.mark.parametrize("servers", ["broker-1:9092,broker-2:9092", "[::1]:9092"])
def test_overrides_win_over_the_environment(servers: str) -> None:
    settings = KafkaSettings.load(KAFKA_BOOTSTRAP_SERVERS=servers, TOPIC="other")
    assert (settings.bootstrap_servers, settings.topic) == (servers, "other")


@pytest.mark.parametrize(
    ("time", "hour"),
    [("2026-11-22T18:54:59Z", 18), ("2026-11-22T18:54:00.999+00:00", 18), ("2026-11-22T19:54:00+02:00", 17)],
)
def test_the_minute_is_the_one_that_the_event_names(time: str, hour: int) -> None:
    assert read_invocation({"time": time, "detail": {}}).minute == datetime(2026, 11, 22, hour, 54, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"detail": {}}, "time"),
        ({"time": "yesterday"}, "time='yesterday'"),
        ({"time": "2026-11-22T18:54:00"}, "time='2026-11-22T18:54:00'"),
        ({"time": "1999-11-22T18:54:00Z"}, "1999"),
        ({"time": "2026-11-22T18:54:00Z", "detail": {"producerId": "a b"}}, "detail.producerId='a b'"),
        (
            {"time": "2026-11-22T18:54:00Z", "detail": {"producerId": "b", "eventsPerMinute": -1}},
            "detail.eventsPerMinute=-1",
        ),
        ({"time": "2026-11-22T18:54:00Z", "detail": {"events": 1}}, "detail.events=1"),
        ({"time": "2026-11-22T18:54:00Z", "detail": {"eventsPerMinute": 10}}, "producerId"),
    ],
)
def test_a_wrong_event_is_refused(event: dict[str, object], named: str) -> None:
    with pytest.raises(InvocationError) as refusal:
        read_invocation(event)
    assert named in str(refusal.value)
