"""The demo on a stack, and what it showed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console

from infra.local import demo
from infra.local.stack import Stack
from infra.local.tables import show
from tests.kit.dags import DAGS, switched_on

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Demonstration:
    """What a demo left behind.

    Attributes:
        balanced: What it returned.
        burst: The summary of its burst.
        printed: All its output.
        shown: The rows of each query that it showed.
    """

    balanced: bool
    burst: dict[str, Any]
    printed: str
    shown: dict[str, Rows]


def demonstrate(stack: Stack) -> Demonstration:
    """Run the demo with the DAGs on their schedules."""
    printed, shown, bursts = io.StringIO(), dict[str, Rows](), list[dict[str, Any]]()
    make_burst = demo.make_burst

    def remember_rows(conn: Any, console: Console, query: str, **values: object) -> Rows:
        shown[query] = show(conn, console, query, **values)
        return shown[query]

    def remember_burst(stack: Stack) -> dict[str, Any]:
        bursts.append(make_burst(stack))
        return bursts[-1]

    with pytest.MonkeyPatch.context() as patch, switched_on(stack, *DAGS, "check_health"):
        patch.setattr(demo, "show", remember_rows)
        patch.setattr(demo, "make_burst", remember_burst)
        balanced = demo.demo(stack, Console(file=printed, width=200))
    (burst,) = bursts
    return Demonstration(balanced, burst, printed.getvalue(), shown)
