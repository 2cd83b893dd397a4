"""What some tests need of the machine: where it is missing they are skipped, with the name of its package."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.kit.services import REPOSITORY

ROOT = "root"
PACKAGES = dict(
    line.split(maxsplit=1)
    for line in (REPOSITORY / ".ci" / "packages").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
REMEDY = {program: f"apt install {packages}" for program, packages in PACKAGES.items()} | {ROOT: "run them as root"}
NEEDS = re.compile(r"needs (\S+): ")


def require(*programs: str) -> None:
    """Skip the test, or all tests of the fixture, that calls this where a program is missing."""
    for program in programs:
        remedy = REMEDY[program]
        if not (os.geteuid() == 0 if program == ROOT else shutil.which(program)):
            pytest.skip(f"needs {program}: {remedy}")


def closing_lines(reasons: Iterable[str]) -> list[str]:
    """What was not run for lack of a program, from the reasons of all that was skipped."""
    missing = Counter(found[1] for reason in reasons if (found := NEEDS.search(reason)))
    return [f"not run: {tests} that need {program} ({REMEDY[program]})" for program, tests in sorted(missing.items())]
