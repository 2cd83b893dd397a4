"""An event listener of supervisord that ends what the stack's programs leave behind when they are killed.

A killed scheduler leaves its workers, a killed worker its task, a killed task its Spark: each in a process
group of its own, so that no signal to a group finds them all. But they stay in the stack's session, and lose
their line of descent from supervisord. The listener looks for such processes when a program has ended and
every five seconds. When supervisord itself is killed, it ends the whole stack: at once what can be repeated,
and Kafka and PostgreSQL once they have shut down, which the death signal of their parent told them to do.

Protocol: http://supervisord.org/events.html#event-listeners-and-event-notifications
"""

import os
import sys
import time
import xmlrpc.client

import psutil
from supervisor import childutils

from infra.local.session import end_processes, session_members

GRACE_SECONDS = 3
STORES = frozenset({"kafka", "postgres"})
STORES_GRACE_SECONDS = 30


def main() -> None:
    """Follow events until supervisord dies, then end what is left of the stack."""
    supervisor = os.getppid()
    session = os.getsid(0)
    stores: list[psutil.Process] = []
    while _wait_for_event():
        end_processes(_orphans(session, supervisor), grace_seconds=GRACE_SECONDS)
        stores = _stores() or stores
    # From here on nobody reads what this process writes.
    others = [process for process in _members(session) if process not in stores]
    end_processes(others, grace_seconds=GRACE_SECONDS)
    psutil.wait_procs(stores, timeout=STORES_GRACE_SECONDS)
    end_processes(_members(session), grace_seconds=GRACE_SECONDS)


def _wait_for_event() -> bool:
    """Wait for an event; false when supervisord has closed the pipes, by dying."""
    try:
        childutils.listener.ready(sys.stdout)
        line = sys.stdin.readline()
        if not line:
            return False
        sys.stdin.read(int(childutils.get_headers(line)["len"]))
        childutils.listener.ok(sys.stdout)
    except BrokenPipeError:
        return False
    return True


def _members(session: int) -> list[psutil.Process]:
    return [process for process in session_members(session) if process.pid != os.getpid()]


def _orphans(session: int, supervisor: int) -> list[psutil.Process]:
    """Return the processes of the session that no longer descend from supervisord."""
    orphans = []
    for process in _members(session):
        try:
            descends = any(ancestor.pid == supervisor for ancestor in process.parents())
        except psutil.NoSuchProcess:
            continue
        if not descends and process.pid != supervisor:
            orphans.append(process)
    if os.getppid() != supervisor:
        return []  # supervisord has just died, so that nobody descends from it any more
    for orphan in orphans:
        _report(f"ending pid {orphan.pid}, left behind by a killed program")
    return orphans


def _stores() -> list[psutil.Process]:
    """Return the processes that need time to shut down without loss; none while supervisord shuts down."""
    rpc = childutils.getRPCInterface(os.environ).supervisor
    try:
        pids = [info["pid"] for info in rpc.getAllProcessInfo() if info["name"] in STORES and info["pid"]]
        return [psutil.Process(pid) for pid in pids]
    except (OSError, xmlrpc.client.Error, psutil.NoSuchProcess) as error:
        _report(f"cannot ask supervisord for its processes: {error}")
        return []


def _report(message: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
