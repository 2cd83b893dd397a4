"""The dashboards are what Grafana's own types say: `@grafana/schema`, turned into JSON schemas."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.kit.grafana_files import BOARDS

PACKAGE = Path(__file__).with_name("grafana_schema") / "package.json"
TYPES = "node_modules/@grafana/schema/dist/types/raw"
# What a plugin reads beyond the types: Grafana's comment in them says an annotation's target is a query like others.
OPEN = ("AnnotationTarget", "AnnotationQuery")
Validate = Callable[[str, str, Any], list[str]]

pytestmark = [pytest.mark.long, pytest.mark.needs("npm")]  # what npm fetches takes a while


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory) -> Validate:
    """What is wrong with a value, by the type of that name in a module of Grafana's."""
    folder = tmp_path_factory.mktemp("grafana-schema")
    shutil.copy(PACKAGE, folder)
    quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    subprocess.run(["npm", "install", *quiet], cwd=folder, check=True, timeout=300, capture_output=True)

    @functools.cache
    def validator(module: str, name: str) -> Draft7Validator:
        schema = json.loads(
            subprocess.run(
                [folder / "node_modules/.bin/ts-json-schema-generator", "--path", f"{TYPES}/{module}/x/types.gen.d.ts",
                 "--type", name, "--no-type-check", "--no-top-ref"],
                cwd=folder, check=True, timeout=120, capture_output=True,
            ).stdout
        )  # fmt: skip
        for definition in OPEN:
            schema["definitions"].get(definition, {}).pop("additionalProperties", None)
            schema["definitions"].get(definition, {}).pop("required", None)
        return Draft7Validator(schema)

    def problems(module: str, name: str, value: Any) -> list[str]:
        found = validator(module, name).iter_errors(value)
        return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in found]

    return problems


@pytest.fixture(params=BOARDS, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(json.loads(request.param.read_text(encoding="utf-8")))


def test_a_dashboard_is_of_grafanas_type(validate: Validate, board: dict[str, Any]) -> None:
    assert validate("dashboard", "Dashboard", board) == []


def test_panels_have_the_options_that_their_plugins_know(validate: Validate, board: dict[str, Any]) -> None:
    wrong = []
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        module = f"composable/{panel['type'].replace('-', '')}/panelcfg"
        wrong += [(panel["title"], error) for error in validate(module, "Options", panel["options"])]
        if custom := panel["fieldConfig"]["defaults"].get("custom"):
            wrong += [(panel["title"], error) for error in validate(module, "FieldConfig", custom)]
    assert wrong == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"timezzone": "utc"}, "timezzone"),
        ({"panels": [{"type": "stat", "gridPos": {"h": "4"}}]}, "panels/0"),
        ({"graphTooltip": 7}, "graphTooltip"),
    ],
)
def test_what_is_wrong_is_found(validate: Validate, change: dict[str, Any], where: str) -> None:
    sound = json.loads(BOARDS[0].read_text(encoding="utf-8"))
    assert where in str(validate("dashboard", "Dashboard", sound | change))
