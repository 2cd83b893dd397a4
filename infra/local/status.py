"""What each component of a stack is doing, and why."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.local import prometheus
from infra.local.components import Component, components
from infra.local.lifecycle import UNHEALTHY, has_done_its_work, why_it_ended
from infra.local.stack import Stack
from infra.local.supervision import Supervisor

NOT_INSTALLED = "not installed"
LINE_CHARACTERS = 160


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
    """Sizes of the zones, the generator's last line, and where the credentials are; never a value."""
    rows = []
    for zone in sorted(one for one in stack.storage.iterdir() if one.is_dir()):
        sizes = [file.stat().st_size for file in zone.rglob("*") if file.is_file()]
        rows.append((f"{zone.name}/", f"{len(sizes):,} files, {sum(sizes) / 1e6:,.1f} MB"))
    log = stack.log("generator")
    if log.exists() and (lines := log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]):
        rows.append(("generator's log", lines[0][:LINE_CHARACTERS]))
    return [*rows, ("credentials", f"a file each in {stack.secrets}; `make env` prints what programs need")]


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
