"""Metrics of the disks that hold the zones and the database, where they are this host's."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from clickstream.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prometheus_client.core import Metric


def families(volumes: Mapping[str, Path]) -> Iterator[Metric]:
    """Free and total bytes by volume.

    Raises:
        OSError: A folder can't be looked at.
    """
    usage = {name: shutil.disk_usage(folder) for name, folder in volumes.items()}
    yield gauge(
        "clickstream_disk_free_bytes",
        "Free space of the disk that holds a volume (bytes).",
        ["volume"],
        (([name], one.free) for name, one in usage.items()),
    )
    yield gauge(
        "clickstream_disk_size_bytes",
        "Size of the disk that holds a volume (bytes).",
        ["volume"],
        (([name], one.total) for name, one in usage.items()),
    )
