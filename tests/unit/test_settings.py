"""Settings are refused by name, value and rule, and periods that don't fit each other by the names of both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clickstream import retention
from clickstream.errors import SettingsError
from clickstream.retention import HOURS_A_DAY, KEEP, PERIODS, RULES, Retention
from clickstream.settings import MetricsSettings, Settings, main, settings


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, with what has no default and no period."""
    for name in Retention.model_fields:
        monkeypatch.delenv(f"{KEEP}{name.upper()}", raising=False)
    monkeypatch.setenv("CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS", "host:1")
    monkeypatch.setenv("CLICKSTREAM_STORAGE_URL", "file:///nowhere")
    return monkeypatch


def refusal() -> list[str]:
    """What is said of the settings; nothing where they are taken."""
    try:
        settings.__wrapped__()  # not the cached ones of this process
    except SettingsError as refused:
        return str(refused).splitlines()
    return []


def test_each_period_of_the_file_is_a_setting_with_that_default() -> None:
    fields = {name.removesuffix("_days") for name in Retention.model_fields if name.endswith("_days")}
    assert fields == set(PERIODS)
    assert {name: getattr(Retention(), f"{name}_days") for name in PERIODS} == PERIODS
    file = Path(retention.__file__).with_name("retention.json")
    assert list(json.loads(file.read_text())) == [name for name in PERIODS if f"{name}_days" in Retention.model_fields]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("KEEP_RAW_DAYS", "0", "1 to 36,500 days that landed records are kept"),
        ("KEEP_RAW_DAYS", "a month", "1 to 36,500 days that landed records are kept"),
        ("KEEP_GRACE_HOURS", "1", "2 to 720 hours"),
        ("KEEP_LOGS_DAYS", "15", "7, 14, 30 or 90 days"),
        ("KEEP_DATABASE_SNAPSHOTS_DAYS", "36", "1 to 35 days"),
        ("DRAIN_GROUPS", "0", "1 to 64 groups of partitions"),
    ],
)
def test_a_wrong_value_is_refused_by_name_value_and_rule(
    given: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    given.setenv(f"CLICKSTREAM_{name}", value)
    (line,) = refusal()
    assert line.startswith(f"CLICKSTREAM_{name} is '{value}'; it must be {rule}")
    assert line.endswith("Change it where the stack is started.")


def test_everything_that_is_wrong_is_named_at_once(given: pytest.MonkeyPatch) -> None:
    given.setenv("CLICKSTREAM_KEEP_RAW_DAYS", "x")
    given.setenv("CLICKSTREAM_KEEP_LEDGER_DAYS", "y")
    given.setenv("CLICKSTREAM_STORAGE_URL", "")
    assert [line.partition(" ")[0] for line in refusal()] == [
        "CLICKSTREAM_STORAGE_URL",
        "CLICKSTREAM_KEEP_RAW_DAYS",
        "CLICKSTREAM_KEEP_LEDGER_DAYS",
    ]


def _hours(name: str) -> int:
    return HOURS_A_DAY if name.endswith("_days") else 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.longer}-{rule.shorter}")
def test_periods_that_disagree_are_refused_by_the_names_of_both(
    given: pytest.MonkeyPatch, rule: retention.AtLeast
) -> None:
    longer, shorter = f"{KEEP}{rule.longer.upper()}", f"{KEEP}{rule.shorter.upper()}"
    least = -(-getattr(Retention(), rule.shorter) * _hours(rule.shorter) // _hours(rule.longer))
    one = Retention.model_fields[rule.longer].metadata[0].ge
    if least == one:  # nothing shorter is allowed at all, so it is the other one that is too long
        given.setenv(shorter, str(_hours(rule.longer) * one + 1))
        least += 1
    given.setenv(longer, str(least - 1))
    matching = [line for line in refusal() if line.startswith(f"{longer} is {least - 1} and {shorter} is ")]
    assert len(matching) == 1
    assert f"since {rule.since}. Raise {longer} or lower {shorter} where the stack is started." in matching[0]
    given.setenv(longer, str(least))
    assert not [line for line in refusal() if line.startswith(f"{longer} is {least} and {shorter} ")]


def test_events_outlive_kafka_and_the_allowed_lateness(given: pytest.MonkeyPatch) -> None:
    given.setenv("CLICKSTREAM_KEEP_EVENTS_DAYS", "8")
    given.setenv("CLICKSTREAM_ALLOWED_LATENESS_HOURS", "24")
    assert settings.__wrapped__().retention.events_days == 8
    given.setenv("CLICKSTREAM_ALLOWED_LATENESS_HOURS", "25")
    (line,) = refusal()
    assert line.startswith(
        "CLICKSTREAM_KEEP_EVENTS_DAYS is 8, CLICKSTREAM_KEEP_KAFKA_DAYS is 7 and"
        " CLICKSTREAM_ALLOWED_LATENESS_HOURS is 25; the first must be at least the other two together, since "
    )
    assert "Raise CLICKSTREAM_KEEP_EVENTS_DAYS or lower" in line


@pytest.mark.parametrize(
    ("name", "nearest"), [("RAW_DAY", "RAW_DAYS"), ("EVENT_DAYS", "EVENTS_DAYS"), ("GRACE_HOUR", "GRACE_HOURS")]
)
def test_a_period_that_is_not_known_is_refused_with_the_nearest_one(
    given: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    given.setenv(f"{KEEP}{name}", "")
    assert refusal() == []
    given.setenv(f"{KEEP}{name}", "31")
    assert refusal() == [
        f"{KEEP}{name} is no setting; the nearest one is {KEEP}{nearest}. Change it where the stack is started."
    ]


def test_a_wrong_period_brings_no_rule_with_it(given: pytest.MonkeyPatch) -> None:
    given.setenv("CLICKSTREAM_ALLOWED_LATENESS_HOURS", "8000")  # too long only for the events' default
    given.setenv("CLICKSTREAM_KEEP_RAW_DAYS", "x")
    assert [line.partition(" ")[0] for line in refusal()] == ["CLICKSTREAM_KEEP_RAW_DAYS"]


def test_each_setting_is_printed_on_a_line_of_its_own(
    given: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given.setenv("CLICKSTREAM_KEEP_RAW_DAYS", "31")
    settings.cache_clear()
    try:
        assert main() == 0
    finally:
        settings.cache_clear()
    lines = capsys.readouterr().out.splitlines()
    assert "CLICKSTREAM_KEEP_RAW_DAYS=31" in lines
    assert {line.partition("=")[0] for line in lines} == {
        *(f"CLICKSTREAM_{name.upper()}" for name in Settings.model_fields if name != "retention"),
        *(f"{KEEP}{name.upper()}" for name in Retention.model_fields),
    }


def test_a_wrong_period_does_not_silence_the_metrics(given: pytest.MonkeyPatch) -> None:
    given.setenv("CLICKSTREAM_KEEP_RAW_DAYS", "x")
    given.setenv("CLICKSTREAM_METRICS_TOKEN_FILE", "/token")
    assert MetricsSettings().metrics_token_file == Path("/token")
