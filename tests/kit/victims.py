"""Steps of the pipeline that are killed by SIGKILL at a call of one of their functions, each a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import psycopg

from clickstream.aggregate import publish
from clickstream.drain import commit, land
from clickstream.erasure import erase
from clickstream.maintenance import compaction, steps
from clickstream.settings import Settings
from tests.kit.waiting import wait_for

if TYPE_CHECKING:
    from tests.kit.pipeline import Pipeline

Step = Callable[[psycopg.Connection[Any], Settings, Any], object]

VICTIM = "victim"  # the run, and the name under which the database knows the process
COMPACT = "compact"
PROCESSES = multiprocessing.get_context("forkserver")
MODULES = [f"clickstream.maintenance.{module}" for module in steps.STEPS.values()]
PROCESSES.set_forkserver_preload([__name__, *MODULES, "pytest"])  # imports once for all victims


@dataclass(frozen=True)
class Death:
    """Where a victim dies.

    Attributes:
        function: The function, as a dotted name within the library.
        moment: Whether it dies `before` or `after` a call of it.
        survived: How many calls it survives.
    """

    function: str
    moment: str = "before"
    survived: int = 0


def _land(conn: psycopg.Connection[Any], settings: Settings, drain_id: int) -> None:
    land.ROW_GROUP_RECORDS = 10  # so that a file has a middle to die in
    land.land(conn, settings, drain_id, VICTIM)


def _commit(conn: psycopg.Connection[Any], settings: Settings, attempt_id: Any) -> None:
    commit.commit(conn, settings, [attempt_id])


def _erase(conn: psycopg.Connection[Any], settings: Settings, user_id: str) -> None:
    erase.erase(conn, settings, user_id, VICTIM, dry_run=False)


def _maintain(conn: psycopg.Connection[Any], settings: Settings, step: str) -> None:
    if step == COMPACT:
        compaction.compact(conn, settings, VICTIM, dry_run=False)
    else:
        steps.run(step, conn, settings, dry_run=False)


POINTS: dict[str, tuple[Step, Death]] = {
    "in the middle of a raw file": (_land, Death("drain.land.SegmentFile._flush", "after", survived=2)),
    "after landing, before the report": (_land, Death("ledger.drains.report_landings")),
    "just before the drain's COMMIT": (_commit, Death("drain.commit._verify")),
    "just after the drain's COMMIT": (_commit, Death("broker.advise_group_offsets")),
    "just before the publish's COMMIT": (publish.publish, Death("ledger.windows.complete_windows")),
    "just after the publish's COMMIT": (publish.publish, Death("aggregate.publish.log.info")),
    "in the middle of files written anew": (_erase, Death("erasure.records.rewrite", survived=1)),
    "before the erasure's transaction": (_erase, Death("erasure.erase._commit")),
    "in the middle of the erasure's transaction": (_erase, Death("ledger.erasures.swap")),
    "just before the erasure's COMMIT": (_erase, Death("ledger.erasures.mark_committed")),
    "just after the erasure's COMMIT": (_erase, Death("erasure.erase._replace_other_files")),
    "in the middle of the rejected zone": (_erase, Death("erasure.erase._rewrite_rejected", survived=1)),
    "between an excerpt and its record": (_erase, Death("storage.replace")),
    "in the middle of the archive": (_erase, Death("erasure.archive._rewrite", survived=20)),
    "before the erasure is finished": (_erase, Death("ledger.erasures.finish")),
}


def kill(pipeline: Pipeline, point: str, argument: object) -> None:
    """Let a victim do a step, in which it dies at this point.

    Args:
        pipeline: Whose step.
        point: One of `POINTS`.
        argument: What the step is about: a drain's id, an attempt's id, or a userId.
    """
    step, death = POINTS[point]
    _kill(pipeline, pipeline.settings, step, death, argument)


def kill_maintenance(pipeline: Pipeline, settings: Settings, step: str, function: str, moment: str) -> None:
    """Let a victim do a step of maintenance; it dies `before` or `after` its first call of `module.function`."""
    _kill(pipeline, settings, _maintain, Death(function, moment), step)


def _kill(pipeline: Pipeline, settings: Settings, step: Step, death: Death, argument: object) -> None:
    victim = PROCESSES.Process(target=_run, args=(step, death, argument, pipeline.dsn, settings))
    # The first victim starts the server, which doesn't take over sys.path and skips what it can't import.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        victim.start()
    victim.join(240)
    assert victim.exitcode == -signal.SIGKILL, victim.exitcode
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    wait_for(lambda: pipeline.one(sessions, VICTIM) == 0, "end of the victim's session, which holds its locks")


def _run(step: Step, death: Death, argument: object, dsn: str, settings: Settings) -> None:
    _arrange(death)
    with psycopg.connect(dsn, autocommit=True, application_name=VICTIM) as conn:
        step(conn, settings, argument)


def _arrange(death: Death) -> None:
    place, _, name = f"clickstream.{death.function}".rpartition(".")
    owner = pkgutil.resolve_name(place)
    original = getattr(owner, name)
    survived: list[str] = []

    def deadly(*given: Any, **named: Any) -> Any:
        if len(survived) < death.survived:
            survived.append(name)
            return original(*given, **named)
        if death.moment == "after":
            original(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, name, deadly)
