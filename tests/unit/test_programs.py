"""A test whose program is missing is skipped by the name of the package, and the closing lines say so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kit.programs import closing_lines, require
from tests.kit.services import REPOSITORY


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.skip.Exception, match=r"^needs promtool: apt install prometheus$"):
        require("promtool")


def test_a_program_without_a_package_is_no_reason() -> None:
    with pytest.raises(KeyError, match="python3"):
        require("python3")


def test_the_closing_lines_count_what_each_program_was_missing_for() -> None:
    reasons = ["Skipped: needs node: apt install nodejs", "another reason", "Skipped: needs root: run them as root"]
    assert closing_lines([*reasons, reasons[0]]) == [
        "not run: 2 that need node (apt install nodejs)",
        "not run: 1 that need root (run them as root)",
    ]


def test_a_run_without_a_program_passes_and_says_what_it_left_out() -> None:
    one = "tests/unit/docker/test_compose.py::test_the_scripts_are_clean"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", one],
        cwd=REPOSITORY,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not run: 1 that need shellcheck (apt install shellcheck)" in done.stdout.splitlines()
