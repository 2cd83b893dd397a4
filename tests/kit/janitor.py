"""What ends everything that a run of the tests has left behind, however that run ended.

A process of its own, in a session of its own, that reads from a pipe which only the run holds: the pipe's end is the
run's end, after which nobody else could clean up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from infra.local.session import end_processes, session_members

MARK = "CLICKSTREAM_TEST_RUN"  # in the environment of all that descends from a run, but for programs of its stacks
WORKERS_SECONDS = 5  # in which an interrupted worker may finish by itself
GRACE_SECONDS = 2


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Watch over this process, whose stacks and temporary files lie in the folder, and over all that it starts."""
    os.environ[MARK] = str(folder)
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != MARK},
        cwd=Path(__file__).parents[2],
    )


def clean_up(folder: Path) -> None:
    """End what is left of a run that has ended, and remove its folder."""
    deadline = time.monotonic() + WORKERS_SECONDS
    while _marked(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in _marked(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for pid_file in folder.rglob("run/supervisord.pid"):
        with suppress(FileNotFoundError, ValueError):
            end_processes(session_members(int(pid_file.read_text(encoding="ascii"))), grace_seconds=GRACE_SECONDS)
    for mount in psutil.disk_partitions(all=True):
        if Path(mount.mountpoint).is_relative_to(folder):
            subprocess.run(["/bin/umount", "--lazy", mount.mountpoint], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _marked(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()
    clean_up(Path(sys.argv[1]))
