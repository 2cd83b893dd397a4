"""How long what is kept, as the pipeline's own settings say: the defaults, the bounds and the rules are theirs."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
KEEP = "CLICKSTREAM_KEEP_"
ANY = {"CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS": "any:1", "CLICKSTREAM_STORAGE_URL": "file:///any"}
"""What has no default, and nothing to do with a period."""

REFUSED = 2
"""Exit code of `clickstream.settings` where a setting is wrong."""


class PeriodError(ValueError):
    """A period is wrong, unknown, or disagrees with another; the message has a line for each, as the pipeline has."""


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that set a period, for a host that is to keep things as long."""
    return {name: value for name, value in sorted(environment.items()) if name.startswith(KEEP) and value}


def periods(environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Each period by its name: `raw_days` in days, `grace_hours` in hours.

    Args:
        environment: Where their settings are looked for. The allowed lateness is not: events are checked with its
            default, which is what a host has.

    Raises:
        PeriodError: A setting is not allowed, or two disagree, or there is no such one.
        subprocess.CalledProcessError: The pipeline's settings can't be read at all.
    """
    checked = subprocess.run(
        [sys.executable, "-m", "clickstream.settings"],
        env={"PYTHONPATH": str(PLUGINS), **ANY, **given(environment)},
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode == REFUSED:
        raise PeriodError(checked.stderr.strip())
    checked.check_returncode()
    found = (line.partition("=") for line in checked.stdout.splitlines() if line.startswith(KEEP))
    return {name.removeprefix(KEEP).lower(): int(value) for name, _, value in found}
