"""The storage of the zones: an object is put, read back, compared and deleted."""

from __future__ import annotations

import os
from pathlib import Path

from clickstream.errors import OutputMismatch
from clickstream.health import disk
from clickstream.health.check import Check, Finding, Installation, finding
from clickstream.storage import LOCAL, at, make_parent

PROBE = ("health", "probe")  # always the same object, so that a check that is killed leaves no litter
PROBE_BYTES = 1 << 16


def look(installation: Installation) -> Finding:
    """Put, get, compare, delete.

    Raises:
        OutputMismatch: Something else was read than was written.
        OSError: The storage refuses; on S3 it may be another error.
    """
    url = installation.settings.storage_url
    path = at(url, *PROBE)
    content = os.urandom(PROBE_BYTES)
    make_parent(path)
    path.write_bytes(content)
    read = path.read_bytes()
    path.unlink()
    if read != content:
        raise OutputMismatch(
            f"{path} gave back other bytes than were written. Check the storage's disk, and that no other installation"
            f" has the same CLICKSTREAM_STORAGE_URL ({url})."
        )
    found = f"{PROBE_BYTES >> 10} KiB put, read back, compared and deleted below {url}"
    if not url.startswith(LOCAL):
        return finding(f"{found}.")
    folder = Path(url.removeprefix(LOCAL))
    return finding(f"{found}; {disk.free(folder)}.", disk.problems(folder, "the zones"))


CHECK = Check(
    component="storage",
    look=look,
    remedy=(
        "See whether CLICKSTREAM_STORAGE_URL is mounted or can be reached, has free space, and lets Airflow's user"
        " write and delete."
    ),
    slow_seconds=5,
    deadline_seconds=20,
)
