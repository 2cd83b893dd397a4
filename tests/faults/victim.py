"""A process that does one step of the pipeline and is killed by SIGKILL at a chosen point of it.

Usage: python -m tests.faults.victim POINT ARGUMENT, with the settings in the environment and the database in DSN.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any
from uuid import UUID

import psycopg

from clickstream import broker
from clickstream.aggregate import publish
from clickstream.drain import commit, land
from clickstream.ledger import drains, windows
from clickstream.settings import settings


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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
    elif point == "just before the publish's COMMIT":
        windows.complete_windows = die  # type: ignore[assignment]
        publish.publish(conn, settings(), UUID(argument))
    elif point == "just after the publish's COMMIT":
        publish.log.info = die  # type: ignore[method-assign]
        publish.publish(conn, settings(), UUID(argument))
    raise SystemExit(f"still alive after {point!r}")


if __name__ == "__main__":
    main()
