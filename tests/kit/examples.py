"""How many examples Hypothesis draws: a few in the short profile, many in the long one, the same in each run."""

from __future__ import annotations

import pytest
from hypothesis import is_hypothesis_test, settings

EXAMPLES = {"short": 25, "long": 500}


def load_profile(name: str) -> None:
    for profile, examples in EXAMPLES.items():
        settings.register_profile(profile, max_examples=examples, derandomize=True, deadline=None)
    settings.load_profile(name)


def examples(*, short: int, long: int) -> int:
    """How many a test draws that isn't as cheap as most."""
    return long if settings.get_current_profile_name() == "long" else short


def mark_long(items: list[pytest.Item]) -> None:
    """Whatever draws examples is in both profiles."""
    for item in items:
        if settings.get_current_profile_name() == "long" and is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("long")
