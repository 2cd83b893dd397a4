"""One step of maintenance that is killed by SIGKILL at a call of one of its functions."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

import psycopg

from clickstream.maintenance import compaction, steps

if TYPE_CHECKING:
    from clickstream.settings import Settings
    from tests.kit.pipeline import Pipeline

COMPACT = "compact"
PROCESSES = multiprocessing.get_context("forkserver")
MODULES = [f"clickstream.maintenance.{module}" for module in steps.STEPS.values()]
PROCESSES.set_forkserver_preload([__name__, *MODULES, "pytest"])  # imports once for all victims


def kill(pipeline: Pipeline, settings: Settings, step: str, function: str, moment: str) -> None:
    """Run a step in a process of its own that dies `before` or `after` its first call of `module.function`."""
    victim = PROCESSES.Process(target=_run, args=(step, function, moment, pipeline.dsn, settings))
    # The first victim starts the server, which doesn't take over sys.path and skips what it can't import.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        victim.start()
    victim.join(240)
    assert victim.exitcode == -signal.SIGKILL, victim.exitcode


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run(step: str, function: str, moment: str, dsn: str, settings: Settings) -> None:
    module_name, name = function.rsplit(".", 1)
    module = importlib.import_module(f"clickstream.{module_name}")
    original = getattr(module, name)

    def deadly(*given: Any, **named: Any) -> None:
        if moment == "after":
            original(*given, **named)
        _die()

    setattr(module, name, deadly)
    with psycopg.connect(dsn, autocommit=True) as conn:
        if step == COMPACT:
            compaction.compact(conn, settings, "victim", dry_run=False)
        else:
            steps.run(step, conn, settings, dry_run=False)
