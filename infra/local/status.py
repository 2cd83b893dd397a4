"""What each component of a stack is doing, and why; and what its data takes."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from infra.local import credentials, prometheus
from infra.local.components import Component, components
from infra.local.errors import StackError
from infra.local.lifecycle import UNHEALTHY, has_done_its_work, why_it_ended
from infra.local.stack import Stack
from infra.local.supervision import Supervisor

NOT_INSTALLED = "not installed"
LINE_CHARACTERS = 160
CONNECT_SECONDS = 3
TABLE_SIZES = """
SELECT coalesce(sum(bytes) FILTER (WHERE nspname = 'ledger'), 0) AS ledger,
       coalesce(sum(bytes) FILTER (WHERE nspname = 'analytics' AND root LIKE '%\\_by\\_window'), 0) AS windows,
       coalesce(sum(bytes) FILTER (WHERE nspname = 'analytics' AND root NOT LIKE '%\\_by\\_window'), 0) AS sessions
FROM (
    SELECT n.nspname, r.relname AS root, pg_total_relation_size(c.oid) AS bytes
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
    WHERE c.relkind IN ('r', 'p')
) AS tables
"""
REMOVALS = """
SELECT count(*), coalesce(sum(bytes), 0), count(*) FILTER (WHERE bytes IS NULL), min(decided_at) FROM ledger.removals
"""
KEPT_HOURS = "SELECT min(hour), count(DISTINCT hour) FROM ledger.event_files WHERE live"


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of one component.

    Attributes:
        component: Its name.
        state: ``up``, ``down``, ``starting``, ``unhealthy``, ``done`` or ``not installed``.
        since: Since when; None if it never ran.
        pid: Its process, if it runs.
        address: Where it listens.
        reason: Why it is not up.
    """

    component: str
    state: str
    since: datetime | None = None
    pid: int | None = None
    address: str = ""
    reason: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether nothing needs to be done about it."""
        return self.state in {"up", "done", NOT_INSTALLED}


def read_status(stack: Stack) -> list[Status]:
    """Ask the supervisor and every component."""
    supervisor = Supervisor(stack)
    processes = supervisor.processes()
    killed = supervisor.was_killed()

    def ask(component: Component) -> Status:
        info = processes.get(component.name)
        if info is None:
            reason = "its supervisor was killed; `make up` recovers" if killed else "not started; run `make up`"
            return Status(component=component.name, state="down", address=component.address, reason=reason)
        return _judge(stack, component, info)

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(ask, components(stack)))
    if stack.with_prometheus and prometheus.find_binary() is None:
        found.append(
            Status(component="prometheus", state=NOT_INSTALLED, reason="optional; Debian: apt install prometheus")
        )
    return found


def local_data(stack: Stack) -> list[tuple[str, str]]:
    """Sizes of zones and tables, what waits to be removed, the generator's last line, and where the credentials are."""
    rows = []
    for zone in sorted(one for one in stack.storage.iterdir() if one.is_dir()):
        sizes = list(_file_sizes(zone))
        rows.append((f"{zone.name}/", f"{len(sizes):,} files, {sum(sizes) / 1e6:,.1f} MB"))
    rows += _kept(stack)
    log = stack.log("generator")
    if log.exists() and (lines := log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]):
        rows.append(("generator's log", lines[0][:LINE_CHARACTERS]))
    return [*rows, ("credentials", f"a file each in {stack.secrets}; `make env` prints what programs need")]


def _file_sizes(folder: Path) -> Iterator[int]:
    """Bytes of each file below a folder; files and folders may go meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield Path(parent, name).stat().st_size


def _kept(stack: Stack) -> list[tuple[str, str]]:
    """Sizes of the tables, what waits to be removed, and the oldest hour; nothing while they can't be read."""
    try:
        with psycopg.connect(credentials.reader_url(stack), connect_timeout=CONNECT_SECONDS, autocommit=True) as conn:
            sizes = conn.execute(TABLE_SIZES).fetchone()
            removals = conn.execute(REMOVALS).fetchone()
            hours = conn.execute(KEPT_HOURS).fetchone()
    except (StackError, psycopg.Error):
        return []
    if sizes is None or removals is None or hours is None:
        raise TypeError("an aggregate has a row")
    ledger, windows, sessions = (f"{float(one) / 1e6:,.1f} MB" for one in sizes)
    waiting = "nothing"
    paths, removed_bytes, unknown, since = removals
    if paths:
        more = f" and {unknown:,} of unknown size" if unknown else ""
        waiting = f"{paths:,} paths, {float(removed_bytes) / 1e6:,.1f} MB{more}, since {since:%Y-%m-%d %H:%MZ}"
    oldest, kept = hours
    return [
        ("PostgreSQL", f"ledger {ledger}, windows {windows}, sessions and users {sessions}"),
        ("to be removed", waiting),
        ("oldest hour kept", f"{oldest:%Y-%m-%d %H:%MZ}, of {kept:,} hours with events" if oldest else "none"),
    ]


def _judge(stack: Stack, component: Component, info: dict[str, Any]) -> Status:
    state, reason = "up", ""
    match info["statename"]:
        case "RUNNING" | "STARTING":
            try:
                component.probe(stack, info["start"])
            except UNHEALTHY as error:
                state = "unhealthy" if info["statename"] == "RUNNING" else "starting"
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        case _ if has_done_its_work(info):
            state = "done"
        case "STOPPED":
            state, reason = "down", "stopped; run `make up`"
        case _:
            state, reason = "down", f"{why_it_ended(info)}; see {stack.log(component.name)}"
    runs = bool(info["pid"])
    moment = info["start"] if runs else info["stop"]
    return Status(
        component=component.name,
        state=state,
        since=datetime.fromtimestamp(moment, UTC) if moment else None,
        pid=info["pid"] or None,
        address=component.address,
        reason=reason,
    )
