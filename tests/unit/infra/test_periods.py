"""Infrastructure takes the periods that the pipeline takes, and refuses what it refuses, in its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from clickstream.retention import PERIODS, RULES, Retention
from infra import periods
from infra.bootstrap import __main__ as bootstrap
from infra.bootstrap.topic import topic_config

ALL_BROKEN = {
    "kafka_days": 2000, "events_days": 1000, "ledger_days": 1, "attempts_days": 2, "grace_hours": 49,
    "replaced_objects_days": 1,
}  # fmt: skip


def variables(wanted: dict[str, int]) -> dict[str, str]:
    return {f"{periods.KEEP}{name.upper()}": str(value) for name, value in wanted.items()}


def refusal(environment: dict[str, str]) -> list[str]:
    with pytest.raises(periods.PeriodError) as refused:
        periods.periods(environment)
    return str(refused.value).splitlines()


def test_they_are_those_of_the_settings() -> None:
    assert periods.periods({}) == Retention().model_dump()


def test_a_setting_wins_over_the_file_and_an_empty_one_does_not() -> None:
    environment = {"CLICKSTREAM_KEEP_RAW_DAYS": "31", "CLICKSTREAM_KEEP_LEDGER_DAYS": "", "CLICKSTREAM_TOPIC": "?"}
    assert periods.periods(environment) == Retention().model_dump() | {"raw_days": 31}


def test_a_wrong_setting_is_refused_by_name_value_and_rule() -> None:
    names = ("RAW", "ARCHIVE", "REJECTED", "SESSIONS", "ATTEMPTS", "PUBLISHED")
    wrong = dict(zip(names, ("0", "36501", "3.5", "-1", "x", "1\nA=b"), strict=True))
    lines = refusal({f"CLICKSTREAM_KEEP_{name}_DAYS": value for name, value in wrong.items()})
    assert len(lines) == len(wrong)
    for name, value in wrong.items():
        (line,) = (line for line in lines if line.startswith(f"CLICKSTREAM_KEEP_{name}_DAYS is {value!r}; "))
        assert "; it must be 1 to 36,500 days that " in line


def test_each_rule_is_refused_by_the_names_of_both() -> None:
    kept = Retention().model_dump() | ALL_BROKEN
    lines = refusal(variables(ALL_BROKEN))
    for rule, line in zip(RULES, lines, strict=True):
        one, other = variables({rule.longer: kept[rule.longer]}), variables({rule.shorter: kept[rule.shorter]})
        ((longer, days),), ((shorter, others),) = one.items(), other.items()
        assert line.startswith(f"{longer} is {days} and {shorter} is {others}; the first must be at least as long")
        assert line.endswith(f"since {rule.since}. Raise {longer} or lower {shorter} where the stack is started.")


def test_events_outlive_kafka_and_the_lateness_that_a_host_allows() -> None:
    assert periods.periods({"CLICKSTREAM_KEEP_EVENTS_DAYS": "8"})["events_days"] == 8
    too_short = {"CLICKSTREAM_KEEP_EVENTS_DAYS": "7", "CLICKSTREAM_ALLOWED_LATENESS_HOURS": "1"}
    (line,) = refusal(too_short)
    assert line.startswith("CLICKSTREAM_KEEP_EVENTS_DAYS is 7, CLICKSTREAM_KEEP_KAFKA_DAYS is 7 and CLICKSTREAM_ALL")


def test_a_period_that_is_not_known_is_refused_with_the_nearest_one() -> None:
    (line,) = refusal({"CLICKSTREAM_KEEP_LEGDER_DAYS": "90"})
    assert line.startswith(
        "CLICKSTREAM_KEEP_LEGDER_DAYS is no setting; the nearest one is CLICKSTREAM_KEEP_LEDGER_DAYS."
    )


def test_a_host_is_told_what_is_set_and_nothing_else() -> None:
    environment = {"CLICKSTREAM_KEEP_RAW_DAYS": "31", "CLICKSTREAM_KEEP_LEDGER_DAYS": "", "CLICKSTREAM_TOPIC": "x"}
    assert periods.given(environment) == {"CLICKSTREAM_KEEP_RAW_DAYS": "31"}


def test_a_host_changes_nothing_while_periods_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_KEEP_RAW_DAYS", "3")
    with pytest.raises(SystemExit, match=r"^CLICKSTREAM_KEEP_RAW_DAYS is 3 and CLICKSTREAM_KEEP_KAFKA_DAYS is 7; "):
        bootstrap.main()


def test_the_topic_keeps_records_as_long_as_the_period_says() -> None:
    assert topic_config({})["retention.ms"] == str(PERIODS["kafka"] * 86_400_000)
    assert topic_config({"CLICKSTREAM_KEEP_KAFKA_DAYS": "3"})["retention.ms"] == "259200000"


def test_the_image_and_the_host_get_the_settings() -> None:
    repository = Path(periods.__file__).parents[1]
    assert repository / "plugins" == periods.PLUGINS
    allowed = (repository / ".dockerignore").read_text().splitlines()
    assert {"!infra", "!plugins"} <= set(allowed)
    copied = (repository / "docker" / "pipeline" / "Dockerfile").read_text()
    assert "COPY infra infra" in copied
    assert "COPY plugins plugins" in copied
