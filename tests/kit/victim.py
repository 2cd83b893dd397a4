"""A process that does one step of the pipeline and is killed by SIGKILL at a chosen point of it.

Usage: python -m tests.kit.victim POINT ARGUMENT, with the settings in the environment and the database in DSN.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any
from uuid import UUID

import psycopg

from clickstream import broker, storage
from clickstream.aggregate import publish
from clickstream.drain import commit, land
from clickstream.erasure import archive, erase, records
from clickstream.ledger import drains, erasures, windows
from clickstream.settings import settings


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


ERASURE: dict[str, tuple[Any, str, int]] = {  # the function before whose nth call to die
    "in the middle of files written anew": (records, "rewrite", 1),
    "before the erasure's transaction": (erase, "_commit", 0),
    "in the middle of the erasure's transaction": (erasures, "swap", 0),
    "just before the erasure's COMMIT": (erasures, "mark_committed", 0),
    "just after the erasure's COMMIT": (erase, "_replace_other_files", 0),
    "in the middle of the rejected zone": (erase, "_rewrite_rejected", 1),
    "between an excerpt and its record": (storage, "replace", 0),
    "in the middle of the archive": (archive, "_rewrite", 20),
    "before the erasure is finished": (erasures, "finish", 0),
}


def die_after(module: Any, name: str, calls: int) -> None:
    """Die before a function is called once more than this."""
    real = getattr(module, name)
    made: list[str] = []

    def call(*arguments: Any, **named: Any) -> Any:
        if len(made) == calls:
            die()
        made.append(name)
        return real(*arguments, **named)

    setattr(module, name, call)


def main() -> None:
    point, argument = sys.argv[1:]
    conn = psycopg.connect(os.environ["DSN"], autocommit=True)
    if point == "in the middle of a raw file":
        land.ROW_GROUP_RECORDS = 10
        write = land.SegmentFile._flush

        def write_then_die(self: land.SegmentFile) -> None:
            write(self)
            if self.records > 20:
                die()

        land.SegmentFile._flush = write_then_die  # type: ignore[method-assign]
        land.land(conn, settings(), int(argument), "victim")
    elif point == "after landing, before the report":
        drains.report_landings = die
        land.land(conn, settings(), int(argument), "victim")
    elif point == "just before the drain's COMMIT":
        commit._verify = die
        commit.commit(conn, settings(), [UUID(argument)])
    elif point == "just after the drain's COMMIT":
        broker.advise_group_offsets = die
        commit.commit(conn, settings(), [UUID(argument)])
    elif point in ERASURE:
        module, name, calls = ERASURE[point]
        die_after(module, name, calls)
        erase.erase(conn, settings(), argument, "victim", dry_run=False)
    elif point == "just before the publish's COMMIT":
        windows.complete_windows = die  # type: ignore[assignment]
        publish.publish(conn, settings(), UUID(argument))
    elif point == "just after the publish's COMMIT":
        publish.log.info = die  # type: ignore[method-assign]
        publish.publish(conn, settings(), UUID(argument))
    raise SystemExit(f"still alive after {point!r}")


if __name__ == "__main__":
    main()
