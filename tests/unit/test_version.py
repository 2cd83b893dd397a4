"""The version that the metrics tell is the one that is released."""

from __future__ import annotations

import tomllib
from pathlib import Path

from clickstream import VERSION


def test_the_version_served_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == VERSION
