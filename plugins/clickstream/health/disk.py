"""Free space of a disk of this host."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from clickstream.health.check import Problem, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAST_FREE_FRACTION = 0.1
LEAST_FREE_BYTES = 1 << 30
GIB = 1 << 30


def free(folder: Path) -> str:
    """The free space of a folder's disk in words."""
    usage = shutil.disk_usage(folder)
    return f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"


def problems(folder: Path, holds: str) -> Iterator[Problem]:
    """Whether little space is left on the disk of a folder that holds something."""
    usage = shutil.disk_usage(folder)
    if usage.free < max(LEAST_FREE_BYTES, LEAST_FREE_FRACTION * usage.total):
        yield Problem(
            Status.DEGRADED,
            f"The disk that holds {holds} is nearly full ({free(folder)}; it should be {LEAST_FREE_FRACTION:.0%} and"
            f" {LEAST_FREE_BYTES / GIB:.0f} GiB): free some, or give it a larger one.",
        )
