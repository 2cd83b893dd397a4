"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx


def eventually(condition: Callable[[], bool], *, seconds: float = 240) -> bool:
    """Whether it comes true in time; while a server that it asks can't be reached, it isn't."""
    deadline = time.monotonic() + seconds
    while not _holds(condition):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except httpx.TransportError:
        return False
