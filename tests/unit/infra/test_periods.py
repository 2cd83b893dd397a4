"""Infrastructure and pipeline read the same periods and allow the same ones."""

import json
import shutil
from pathlib import Path

import pytest

from clickstream.retention import PERIODS, Retention
from infra import periods
from infra.bootstrap.topic import topic_config


def test_they_read_the_same_file() -> None:
    assert json.loads(periods.FILE.read_text()) == PERIODS
    assert {name: periods.days(name, {}) for name in PERIODS} == PERIODS
    assert {periods.variable(name) for name in PERIODS} == {
        f"{periods.KEEP}{field.upper()}" for field in Retention.model_fields if field.endswith("_days")
    }


def test_a_setting_wins_over_the_file_and_an_empty_one_does_not() -> None:
    assert periods.days("kafka", {"CLICKSTREAM_KEEP_KAFKA_DAYS": "3"}) == 3
    assert periods.days("kafka", {"CLICKSTREAM_KEEP_KAFKA_DAYS": ""}) == PERIODS["kafka"]


@pytest.mark.parametrize("value", ["0", "36501", "3.5", "-1", "x"])
def test_a_wrong_setting_is_refused_by_name_value_and_rule(value: str) -> None:
    with pytest.raises(periods.PeriodError) as refused:
        periods.days("kafka", {"CLICKSTREAM_KEEP_KAFKA_DAYS": value})
    assert str(refused.value) == f"CLICKSTREAM_KEEP_KAFKA_DAYS is {value!r}; it must be 1 to 36,500 days."


def test_a_host_is_told_what_is_set_and_nothing_else() -> None:
    environment = {"CLICKSTREAM_KEEP_RAW_DAYS": "31", "CLICKSTREAM_KEEP_LEDGER_DAYS": "", "CLICKSTREAM_TOPIC": "x"}
    assert periods.given(environment) == {"CLICKSTREAM_KEEP_RAW_DAYS": "31"}
    with pytest.raises(periods.PeriodError, match="CLICKSTREAM_KEEP_RAW_DAYS is '1\\\\nA=b'"):
        periods.given({"CLICKSTREAM_KEEP_RAW_DAYS": "1\nA=b"})


def test_the_topic_keeps_records_as_long_as_the_period_says() -> None:
    assert topic_config({})["retention.ms"] == str(PERIODS["kafka"] * 86_400_000)
    assert topic_config({"CLICKSTREAM_KEEP_KAFKA_DAYS": "3"})["retention.ms"] == "259200000"


def test_the_image_and_the_host_get_the_file() -> None:
    repository = Path(periods.__file__).parents[1]
    assert repository / "plugins" / "clickstream" / "retention.json" == periods.FILE
    allowed = (repository / ".dockerignore").read_text().splitlines()
    assert {"!infra", "!plugins"} <= set(allowed)
    copied = (repository / "docker" / "pipeline" / "Dockerfile").read_text()
    assert "COPY infra infra" in copied
    assert "COPY plugins plugins" in copied


@pytest.mark.skipif(shutil.which("node") is None, reason="the CDK needs Node.js")
def test_the_stacks_allow_what_the_settings_allow() -> None:
    from infra.stacks.log_groups import DAYS
    from infra.stacks.retention import BOUNDS
    from infra.stacks.source import CONTENTS

    for name, (least, most) in BOUNDS.items():
        if name != "logs":
            bounds = {type(one).__name__: one for one in Retention.model_fields[f"{name}_days"].metadata}
            assert (bounds["Ge"].ge, bounds["Le"].le) == (least, most), name
    for days in range(1, 100):
        if days in DAYS:
            assert Retention(logs_days=days).logs_days == days
        else:
            with pytest.raises(ValueError, match="CloudWatch has no such period"):
                Retention(logs_days=days)
    assert {"infra/periods.py", "infra/bootstrap", "plugins"} <= set(CONTENTS)
