"""Waiting for what other processes do: the one way in which tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import httpx

T = TypeVar("T")


def wait_for(look: Callable[[], T | None], what: str | Callable[[], str], *, seconds: float = 240) -> T:
    """What the look finds, once that is true of it; while a server that it asks can't be reached, it finds nothing.

    What is waited for is said when it does not come, so it may be a call that says what is missing then.
    """
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.TransportError):
            if found := look():
                return found
        assert time.monotonic() < deadline, f"no {what() if callable(what) else what} after {seconds} s"
        time.sleep(0.1)


def eventually(condition: Callable[[], bool], *, seconds: float = 240) -> bool:
    """Whether it comes true in time."""
    return wait_for(condition, "such state", seconds=seconds)
