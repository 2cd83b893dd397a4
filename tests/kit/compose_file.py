"""docker/compose.yaml as an engine reads it: with the variables of an environment put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[2] / "docker"
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Z_]+)(?::(?P<kind>[?-])(?P<default>[^}]*))?\})")


def content() -> dict[str, Any]:
    """As it is written."""
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8")))


def filled(environment: Mapping[str, str]) -> dict[str, Any]:
    """With the variables put in; one that is required and missing or empty is an error."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        given = environment.get(match["name"], "")
        assert given or match["kind"] == "-", f"{match['name']} is required"
        return given or match["default"]

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: fill(child) for key, child in node.items()}
        if isinstance(node, list):
            return [fill(child) for child in node]
        return VARIABLE.sub(value, node) if isinstance(node, str) else node

    made = fill(content())
    for service in made["services"].values():
        variables = service.get("environment", {})
        service["environment"] = {
            name: environment.get(name) if given is None else str(given)
            for name, given in variables.items()
            if given is not None or environment.get(name)
        }
    return dict(made)


def variables() -> set[str]:
    """Every variable that it names."""
    found = content()
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    passed_on = {
        name
        for service in found["services"].values()
        for name, given in service.get("environment", {}).items()
        if given is None
    }
    return {match["name"] for match in VARIABLE.finditer(text) if match["name"]} | passed_on
