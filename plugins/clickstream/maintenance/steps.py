"""The steps of `maintain_storage`, in their order: what is needed later is made first, what is named goes last."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from clickstream.errors import ClickstreamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import ModuleType

    from psycopg import Connection

    from clickstream.maintenance.outcome import Outcome
    from clickstream.settings import Settings

log = logging.getLogger(__name__)

# Each the name of a task, and of the function in its module; imported when it runs, as DAG files import this one.
STEPS: Mapping[str, str] = {
    "add_partitions": "results",
    "publish_days": "days",
    "retire_hours": "hours",
    "retire_raw": "zones",
    "retire_rejected": "zones",
    "retire_attempts": "zones",
    "retire_archive": "archive",
    "remove_windows": "results",
    "remove_sessions": "results",
    "remove_days": "days",
    "sweep_dead": "zones",
    "fold_ledger": "rows",
    "sweep": "sweep",
}

# What a step finds depends on what these wrote to the ledger before it, in the same run.
EARLIER: Mapping[str, Sequence[str]] = {
    "retire_hours": ("publish_days",),
    "remove_windows": ("publish_days", "retire_hours"),
    "remove_sessions": ("publish_days", "retire_hours"),
    "remove_days": ("publish_days", "retire_hours"),
    "sweep_dead": ("retire_raw",),
    "fold_ledger": ("retire_raw", "retire_rejected", "retire_attempts", "sweep_dead"),
}


def run(name: str, conn: Connection[Any], settings: Settings, *, dry_run: bool) -> dict[str, Any]:
    """Run a step; a dry run says what it would do after the earlier steps.

    Args:
        name: One of `STEPS`.
        conn: Connection of the writer in autocommit mode.
        settings: The settings.
        dry_run: Only say what would be done.

    Returns:
        What it did, or would do, as the values of `Outcome`.
    """
    outcome = _foreseen(name, conn, settings) if dry_run else _run(name, conn, settings, dry_run=False)
    log.info("%s%s", "would be " if dry_run else "", outcome)
    for line in outcome.lines:
        log.info("- %s", line)
    return {**vars(outcome), "lines": outcome.lines[:100]}


def _foreseen(name: str, conn: Connection[Any], settings: Settings) -> Outcome:
    """What a step would do: earlier ones on which it depends write to the ledger first, and all of it is rolled back.

    Once hours were retired so, publishing waits until the step has counted: seconds.
    """
    if name not in EARLIER:
        return _run(name, conn, settings, dry_run=True)
    failures = []
    with conn.transaction(force_rollback=True):
        for earlier in EARLIER[name]:
            try:
                with conn.transaction():
                    _write_down(earlier, conn, settings)
            except ClickstreamError as error:  # in a run, too, the later steps go on
                log.warning("%s would fail: %s", earlier, error)
                failures.append(f"{earlier} would fail: {error}")
        outcome = _run(name, conn, settings, dry_run=True)
    outcome.lines[:0] = failures
    return outcome


def _write_down(name: str, conn: Connection[Any], settings: Settings) -> None:
    """Do to the ledger what a step does to it."""
    if name == "publish_days":
        _module(name).record_days(conn, settings)
    else:
        _run(name, conn, settings, dry_run=False)


def _run(name: str, conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    outcome: Outcome = getattr(_module(name), name)(conn, settings, dry_run=dry_run)
    return outcome


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"clickstream.maintenance.{STEPS[name]}")


def table(done: Iterable[Mapping[str, Any]], *, dry_run: bool) -> str:
    """The steps and what they did as aligned lines."""
    head = ("would go" if dry_run else "what", "number", "bytes")
    rows = [head, *((one["what"], f"{one['items']:,}", f"{one['bytes']:,}") for one in done)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{what:<{widths[0]}}  {number:>{widths[1]}}  {size:>{widths[2]}}" for what, number, size in rows)
