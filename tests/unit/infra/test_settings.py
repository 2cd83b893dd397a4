from pathlib import Path

import pytest

from infra.local.errors import StackError
from infra.local.settings import Ports, component_environment, read_settings


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Ports.model_fields:
        monkeypatch.delenv(f"CLICKSTREAM_PORT_{name.upper()}", raising=False)


def test_the_environment_wins_over_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.env").write_text("CLICKSTREAM_PORT_KAFKA=19092\nCLICKSTREAM_PORT_AIRFLOW=18080\n")
    monkeypatch.setenv("CLICKSTREAM_PORT_KAFKA", "29092")
    _, ports = read_settings(tmp_path)
    assert ports == Ports(kafka=29092, airflow=18080)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("CLICKSTREAM_PORT_KAFKA", "http", "valid integer"),
        ("CLICKSTREAM_PORT_POSTGRES", "70000", "less than or equal to 65535"),
        ("CLICKSTREAM_PORT_AIRFLOW", "80", "greater than or equal to 1024"),
        ("CLICKSTREAM_KAFKA_HEAP_MB", "1", "greater than or equal to 256"),
        ("CLICKSTREAM_GENERATOR", "perhaps", "valid boolean"),
    ],
)
def test_a_wrong_setting_is_refused_with_name_value_and_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StackError) as caught:
        read_settings(tmp_path)
    assert f"{name}='{value}'" in caught.value.problem
    assert rule in caught.value.problem


def test_two_components_cannot_share_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_PORT_KAFKA", "9090")
    with pytest.raises(StackError, match="CLICKSTREAM_PORT_KAFKA and CLICKSTREAM_PORT_PROMETHEUS are both 9090"):
        read_settings(tmp_path)


def test_only_settings_of_pipeline_and_generator_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.env").write_text("GENERATOR_EVENTS_PER_MINUTE=7\nCLICKSTREAM_PORT_KAFKA=19092\n")
    monkeypatch.setenv("CLICKSTREAM_DRAIN_GROUPS", "3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never")
    passed_on = component_environment(tmp_path)
    assert passed_on["GENERATOR_EVENTS_PER_MINUTE"] == "7"
    assert passed_on["CLICKSTREAM_DRAIN_GROUPS"] == "3"
    assert "CLICKSTREAM_PORT_KAFKA" not in passed_on
    assert "AWS_SECRET_ACCESS_KEY" not in passed_on
