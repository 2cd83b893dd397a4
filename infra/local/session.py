"""The processes of a stack: the POSIX session that its supervisord leads."""

import os
from collections.abc import Sequence

import psutil


def session_members(session: int | None) -> list[psutil.Process]:
    """Return the processes of a stack's session, but not those of a later session that got the same number.

    Session 0 is nobody's: getsid(2) gives it for kernel threads and for whatever init started without a session.
    """
    if not session:
        return []
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    leader = next((process for process in members if process.pid == session), None)
    return [] if leader is not None and _is_another_program(leader) else members


def _is_another_program(leader: psutil.Process) -> bool:
    try:
        words = leader.cmdline()
    except psutil.NoSuchProcess:  # it has just ended, maybe to be waited for
        return False
    return bool(words) and "supervisor.supervisord" not in " ".join(words)  # one that is about to end has no words


def end_processes(processes: Sequence[psutil.Process], *, grace_seconds: float) -> None:
    """Ask processes to end, wait, and kill those that are left."""
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=grace_seconds)
