"""Times in milliseconds, their medians, and the table that says whether a limit is kept."""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH_OF_A_FILE = 140  # of what is piped, where there is no terminal to fit
output = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)


def milliseconds(work: Callable[[], object]) -> float:
    """Do the work once and return how long it took."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1_000


def alternating(works: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """Run each in turn, so that what else the machine does meets all alike.

    Args:
        works: By name what measures itself and returns milliseconds; the first round is not counted.
        rounds: How often each is counted.

    Returns:
        The median of each.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in sorted(works.items(), reverse=bool(number % 2)):
            times[name].append(work())
    return {name: median(found[1:]) for name, found in times.items()}


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(f"{cell:,.1f}" if isinstance(cell, float) else str(cell) for cell in row))
    output.print(table)


def end(missed: Sequence[str]) -> None:
    """End the program: with 0, or with 1 and a line for each limit that was missed."""
    for line in missed:
        output.print(f"[bold red]Missed:[/] {line}")
    sys.exit(1 if missed else 0)
