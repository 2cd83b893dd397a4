"""A real supervisord with small programs in it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from infra.local.errors import StackError
from infra.local.session import session_members
from infra.local.stack import Stack
from infra.local.supervision import Program, Supervisor
from tests.kit.waiting import eventually

LEAVE_A_CHILD_IN_A_GROUP_OF_ITS_OWN = """
import os, signal, sys, time
if os.fork() == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
time.sleep(600)
"""


@pytest.fixture
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="clickstream test-"))
    one = Stack.create(folder)
    yield one
    Supervisor(one).shut_down()
    shutil.rmtree(folder)


def start_family(stack: Stack) -> tuple[Supervisor, int, list[int]]:
    """Start a program with a stubborn child; returns the session and the pids of both."""
    pids = stack.folder / "pids"
    script = stack.folder / "family.py"
    script.write_text(LEAVE_A_CHILD_IN_A_GROUP_OF_ITS_OWN)
    supervisor = Supervisor(stack)
    supervisor.start([Program(name="family", command=[sys.executable, script, pids])])
    supervisor.start_program("family")
    assert eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, seconds=60)
    session = int((stack.folder / "run" / "supervisord.pid").read_text())
    return supervisor, session, [int(pid) for pid in pids.read_text().split()]


def test_a_killed_program_comes_back_without_an_orphan_and_a_shut_down_leaves_nothing(stack: Stack) -> None:
    supervisor, session, pids = start_family(stack)
    parent = supervisor.process("family")["pid"]
    (child,) = set(pids) - {parent}
    os.kill(parent, signal.SIGKILL)
    assert eventually(lambda: not psutil.pid_exists(child), seconds=60)
    assert eventually(lambda: supervisor.process("family")["pid"] not in {0, parent}, seconds=60)
    supervisor.shut_down()
    assert session_members(session) == []
    assert not supervisor.is_running()
    assert list((stack.folder / "run").glob("*.sock")) == []


def test_a_supervisor_that_ends_while_it_is_looked_at_hides_nothing_and_nothing_outlives_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, session, pids = start_family(stack)
    cmdline = psutil.Process.cmdline

    def too_late(process: psutil.Process) -> list[str]:
        os.kill(session, signal.SIGKILL)
        process.wait(60)
        return list(cmdline(process))

    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "cmdline", too_late)
        assert {process.pid for process in session_members(session)} >= set(pids)
    assert eventually(lambda: session_members(session) == [], seconds=60)
    assert supervisor.was_killed()


def test_a_supervisor_killed_together_with_its_reaper_is_cleaned_up_by_the_next_command(stack: Stack) -> None:
    supervisor, session, _ = start_family(stack)
    os.kill(supervisor.process("reaper")["pid"], signal.SIGSTOP)
    os.kill(session, signal.SIGKILL)
    for process in session_members(session):
        with suppress(psutil.NoSuchProcess):
            if "infra.local.reaper" in " ".join(process.cmdline()):
                process.kill()
    supervisor.shut_down()
    assert session_members(session) == []
    assert not supervisor.was_killed()


def test_the_pid_file_of_another_process_is_no_session_of_the_stack(stack: Stack) -> None:
    supervisor = Supervisor(stack)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        (stack.folder / "run" / "supervisord.pid").write_text(str(other.pid))
        supervisor.shut_down()
        assert other.poll() is None
        assert supervisor.processes() == {}
    finally:
        other.kill()
        other.wait()


def test_session_zero_belongs_to_no_stack() -> None:
    assert session_members(0) == []  # in it are init and kernel threads, and all that init started


def test_programs_get_only_their_own_environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "hidden")
    shown = stack.folder / "shown"
    supervisor = Supervisor(stack)
    environment = {"VALUE": '{"a": "100 %"}', "OTHER": "it is, /a b"}
    command = ["sh", "-c", f"env > '{shown}'"]
    supervisor.start([Program(name="show", command=command, environment=environment, once=True)])
    supervisor.start_program("show")
    assert eventually(lambda: shown.exists() and "OTHER" in shown.read_text(), seconds=60)
    lines = shown.read_text().splitlines()
    assert 'VALUE={"a": "100 %"}' in lines
    assert "OTHER=it is, /a b" in lines
    assert not any("SECRET_OF_THE_CALLER" in line for line in lines)


def test_the_control_socket_is_private_and_short_even_in_a_deep_folder(stack: Stack) -> None:
    deep = Stack.create(stack.folder / ("deep" * 20) / ("deeper" * 10))
    deep.folder.mkdir(parents=True)
    supervisor = Supervisor(deep)
    try:
        supervisor.start([])
        assert supervisor.is_running()
        folder = Path((deep.folder / "run" / "socket-folder").read_text())
        assert (folder / "supervisor.sock").stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        supervisor.shut_down()
    assert not folder.exists()


def test_a_value_that_supervisord_cannot_carry_is_refused(stack: Stack) -> None:
    program = Program(name="show", command=["true"], environment={"VALUE": 'it\'s "both"'})
    with pytest.raises(StackError, match="cannot be written"):
        Supervisor(stack).start([program])
