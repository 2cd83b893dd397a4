import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from clickstream_transform import jsonform
from clickstream_transform.jsonform import MalformedFieldError
from clickstream_transform.protocol import EventFile, FilesRead, OutputFile, Report, Spec
from tests.kit.lake import Lake

REPORT = Report(
    batch_id=12,
    attempt_id="a",
    landed=4,
    accepted=1,
    duplicate=1,
    late=1,
    rejected=1,
    id_conflicts=0,
    reasons={"not_json": 1},
    hours=("2026-11-22T12",),
    hours_read=FilesRead(files=1, bytes=10),
    event_files=(EventFile("2026-11-22T12", "file:///e.parquet", 1, 10),),
    rejected_files=(OutputFile("file:///r.parquet", 1, 10),),
    tables={"traffic_by_window": (OutputFile("file:///t.parquet", 2, 10),)},
    stages={"classify": 0.5},
)


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    lake = Lake(tmp_path)
    encoded: dict[str, Any] = jsonform.encode(lake.spec(lake.segment([b"{}"]), retired_hours=("2026-01-01T00",)))
    return encoded


def test_a_spec_survives_json_and_unknown_keys_are_ignored(raw: dict[str, Any]) -> None:
    spec = Spec.from_json(json.dumps(raw))
    raw["new"] = raw["settings"]["new"] = raw["segments"][0]["new"] = 1
    assert Spec.from_json(json.dumps(raw)) == spec
    assert jsonform.encode(spec)["segments"][0]["records"] == 1


def test_a_report_survives_json() -> None:
    assert Report.from_json(REPORT.to_json()) == REPORT
    assert json.loads(REPORT.to_json())["tables"]["traffic_by_window"][0]["records"] == 2


def test_both_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        REPORT.landed = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("keys", "wrong", "named"),
    [
        (("batch_id",), "1", r"spec\.batch_id: expected an integer, got '1'"),
        (("batch_id",), True, r"spec\.batch_id: expected an integer"),
        (("segments",), {}, r"spec\.segments: expected a list"),
        (("segments", 0, "records"), 1.5, r"spec\.segments\[0\]\.records: expected an integer"),
        (("output", "report"), None, r"spec\.output\.report: expected a string"),
        (("settings", "allowed_lateness_seconds"), -1, r"settings\.allowed_lateness_seconds: expected seconds >= 0"),
        (("settings", "window_minutes"), [7], r"settings\.window_minutes: expected distinct widths that divide 60"),
        (("settings", "window_minutes"), [5, 5], r"settings\.window_minutes"),
        (("settings", "window_minutes"), [], r"settings\.window_minutes"),
        (("settings", "window_minutes"), [0], r"settings\.window_minutes"),
        (("retired_hours",), ["2026-01-01"], r"retired_hours: expected a UTC hour as YYYY-MM-DDTHH, got '2026-01-01'"),
        (("event_files",), [{"hour": "12", "path": "p", "records": 1}], r"event_files\.hour"),
    ],
)
def test_errors_name_the_field(raw: dict[str, Any], keys: tuple[Any, ...], wrong: object, named: str) -> None:
    *parents, last = keys
    owner: Any = raw
    for key in parents:
        owner = owner[key]
    owner[last] = wrong
    with pytest.raises(MalformedFieldError, match=named):
        Spec.from_json(json.dumps(raw))


def test_a_missing_field_is_named(raw: dict[str, Any]) -> None:
    del raw["output"]["tables"]
    with pytest.raises(MalformedFieldError, match=r"spec\.output\.tables: missing"):
        Spec.from_json(json.dumps(raw))
