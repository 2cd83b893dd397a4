"""The processes of a stack, and what is left when one of them is killed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil

from infra.local.session import session_members
from infra.local.stack import Stack

ENDED_WITHIN_SECONDS = 60


def supervisor_of(stack: Stack) -> psutil.Process:
    return psutil.Process(int((stack.folder / "run" / "supervisord.pid").read_text(encoding="ascii")))


def members(stack: Stack) -> list[psutil.Process]:
    """All that the stack's programs have started, but PostgreSQL's backends."""
    return session_members(supervisor_of(stack).pid)


def members_with_backends(stack: Stack) -> list[psutil.Process]:
    return [one for member in members(stack) for one in family_of(member)]


def family_of(process: psutil.Process) -> list[psutil.Process]:
    """It and its descendants."""
    found = [process]
    with suppress(psutil.NoSuchProcess):
        found += process.children(recursive=True)
    return found


def kill(victim: psutil.Process, others: Iterable[psutil.Process] = ()) -> list[psutil.Process]:
    """Kill it; returns which of its descendants, and of the others, live on."""
    family = [*family_of(victim), *others]
    victim.kill()
    left: list[psutil.Process] = psutil.wait_procs(family, timeout=ENDED_WITHIN_SECONDS)[1]
    return left
