"""The steps of `maintain_storage`, in their order: what is needed later is made first, what is named goes last."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    "fold_ledger": "rows",
    "sweep_dead": "zones",
    "sweep": "sweep",
}


def run(name: str, conn: Connection[Any], settings: Settings, *, dry_run: bool) -> dict[str, Any]:
    """Run a step.

    Returns:
        What it did, or would do, as the values of `Outcome`.
    """
    module = importlib.import_module(f"clickstream.maintenance.{STEPS[name]}")
    outcome: Outcome = getattr(module, name)(conn, settings, dry_run=dry_run)
    log.info("%s%s", "would be " if dry_run else "", outcome)
    for line in outcome.lines:
        log.info("- %s", line)
    return {**vars(outcome), "lines": outcome.lines[:100]}


def table(done: Iterable[Mapping[str, Any]], *, dry_run: bool) -> str:
    """The steps and what they did as aligned lines."""
    head = ("would go" if dry_run else "what", "number", "bytes")
    rows = [head, *((one["what"], f"{one['items']:,}", f"{one['bytes']:,}") for one in done)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{what:<{widths[0]}}  {number:>{widths[1]}}  {size:>{widths[2]}}" for what, number, size in rows)
