"""Each period of `plugins/clickstream/retention.json` in days, or as the pipeline's setting for it says."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "plugins" / "clickstream" / "retention.json"
KEEP = "CLICKSTREAM_KEEP_"


class PeriodError(ValueError):
    """A period is wrong; the message names the setting, its value and the rule."""


def variable(name: str) -> str:
    """The environment variable that sets a period."""
    return f"{KEEP}{name.upper()}_DAYS"


def days(name: str, environment: Mapping[str, str] = os.environ, *, least: int = 1, most: int = 36_500) -> int:
    """How long something is kept, in days.

    Args:
        name: The period's name in the file.
        environment: Where its setting is looked for.
        least: The shortest that is allowed, in days.
        most: The longest that is allowed, in days.

    Raises:
        PeriodError: The setting is no whole number of days that is allowed.
    """
    wanted = environment.get(variable(name)) or str(json.loads(FILE.read_text(encoding="utf-8"))[name])
    if not wanted.isdecimal() or not least <= int(wanted) <= most:
        raise PeriodError(f"{variable(name)} is {wanted!r}; it must be {least} to {most:,} days.")
    return int(wanted)


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that set a period, for a host that is to keep things as long.

    Raises:
        PeriodError: One is no whole number.
    """
    found = {name: value for name, value in sorted(environment.items()) if name.startswith(KEEP) and value}
    for name, value in found.items():
        if not value.isdecimal():
            raise PeriodError(f"{name} is {value!r}; it must be a whole number.")
    return found
