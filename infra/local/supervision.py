"""Run the stack's programs under supervisord: its configuration, its control socket, its processes.

A stack is one POSIX session, led by its supervisord: every process that one of its programs starts, at any
depth and after any change of process group, belongs to it. So nothing can be left behind unseen.
"""

import configparser
import os
import re
import shlex
import shutil
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from infra.local.commands import run
from infra.local.errors import StackError
from infra.local.files import private_folder
from infra.local.session import end_processes, session_members
from infra.local.stack import PYTHON, REPOSITORY, VENV, Stack

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONGEST_SOCKET_PATH = 90  # sun_path holds 108 bytes, and supervisord first binds a longer, temporary name
GRACE_SECONDS = 3
GRACE_AFTER_KILL_SECONDS = 10  # the death signal has told Kafka and PostgreSQL to shut down
REAPER = "reaper"


@dataclass(frozen=True, kw_only=True)
class Program:
    """One long-running program.

    Attributes:
        name: Its name in supervisord, the status table and the log's file name.
        command: Program and arguments; never a secret.
        environment: What it needs beyond PATH, HOME, LANG and TZ.
        stop_signal: The signal of an orderly end; also sent when supervisord dies.
        stop_seconds: How long the orderly end may take before SIGKILL.
        once: It ends by itself and is not started again.
        privileges: Options of setpriv that lower its privileges.
    """

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    once: bool = False
    privileges: Sequence[str] = ()


OUTSIDE = re.compile(
    r"(AWS|UV|PIP)_\w+|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|REQUESTS_CA_BUNDLE|\w+_PROXY", re.IGNORECASE
)


def base_environment() -> dict[str, str]:
    """Return what every program of the stack gets; nothing else of the caller's environment is written down."""
    return {
        "PATH": f"{VENV / 'bin'}:{SYSTEM_PATH}",
        "HOME": str(Path.home()),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
    }


def outside_environment() -> dict[str, str]:
    """Return the caller's variables for what lies outside: AWS, package indexes, proxies, certificates.

    Supervisord hands its environment down; its configuration never holds these, since some are secrets.
    """
    return {name: value for name, value in os.environ.items() if OUTSIDE.fullmatch(name)}


class Supervisor:
    """The supervisord of one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._run = private_folder(stack.folder / "run")
        self._configuration = self._run / "supervisord.conf"
        self._pid_file = self._run / "supervisord.pid"

    def is_running(self) -> bool:
        """Say whether supervisord answers on its socket."""
        try:
            self._rpc().getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def was_killed(self) -> bool:
        """Say whether supervisord ended without removing its pid file."""
        return self._pid_file.exists() and not self.is_running()

    def start(self, programs: Sequence[Program]) -> None:
        """Start supervisord, but none of the programs; on one that runs, only bring in what has changed.

        Raises:
            StackError: It does not start.
        """
        self._write_configuration(programs)
        if self.is_running():
            self._bring_in_changes()
            return
        run(
            [PYTHON, "-m", "supervisor.supervisord", "-c", self._configuration],
            purpose="start supervisord",
            remedy=f"Its log: {self._stack.log('supervisord')}",
            environment=base_environment() | outside_environment(),
            directory=REPOSITORY,
        )
        deadline = time.monotonic() + 20
        while not self.is_running():
            if time.monotonic() > deadline:
                raise StackError(
                    "supervisord does not answer on its socket.",
                    remedy=f"Its log: {self._stack.log('supervisord')}",
                )
            time.sleep(0.05)

    def start_program(self, name: str) -> None:
        """Start a program that does not run yet; its health is the caller's business."""
        if self.process(name)["statename"] not in {"RUNNING", "STARTING"}:
            try:
                self._rpc().startProcess(name, False)  # noqa: FBT003 - XML-RPC has no keywords; False: don't wait
            except xmlrpc.client.Fault as fault:
                if "ALREADY_STARTED" not in fault.faultString:
                    raise StackError(
                        f"supervisord cannot start {name}: {fault.faultString}",
                        remedy=f"Its log: {self._stack.log(name)}",
                    ) from fault

    def stop_program(self, name: str) -> None:
        """Stop a program in its orderly way and wait for it; does nothing when it does not run."""
        try:
            self._rpc().stopProcess(name)
        except xmlrpc.client.Fault as fault:
            if not any(known in fault.faultString for known in ("NOT_RUNNING", "BAD_NAME")):
                raise

    def process(self, name: str) -> dict[str, Any]:
        """Return supervisord's information about a program: statename, pid, start, stop, spawnerr, exitstatus."""
        info: dict[str, Any] = self._rpc().getProcessInfo(name)
        return info

    def processes(self) -> dict[str, dict[str, Any]]:
        """Return the same for every program, by name; empty when supervisord does not run."""
        try:
            return {info["name"]: info for info in self._rpc().getAllProcessInfo()}
        except OSError:
            return {}

    def shut_down(self) -> None:
        """End supervisord and wait until no process of the stack is left, however it was started."""
        session = self._session()
        grace_seconds = GRACE_AFTER_KILL_SECONDS
        if self.is_running():
            self._rpc().shutdown()
            psutil.wait_procs([one for one in session_members(session) if one.pid == session])
            grace_seconds = GRACE_SECONDS
        end_processes(session_members(session), grace_seconds=grace_seconds)
        self._pid_file.unlink(missing_ok=True)
        socket = self._socket()
        socket.unlink(missing_ok=True)
        if socket.parent != self._run:
            socket.parent.rmdir()

    def _bring_in_changes(self) -> None:
        rpc = self._rpc()
        added, changed, removed = rpc.reloadConfig()[0]
        for name in [*changed, *removed]:
            rpc.stopProcessGroup(name)
            rpc.removeProcessGroup(name)
        for name in [*added, *changed]:
            rpc.addProcessGroup(name)

    def _rpc(self) -> Any:  # noqa: ANN401 - ServerProxy makes its methods up as they are called
        transport = SupervisorTransport(None, None, f"unix://{self._socket()}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def _session(self) -> int | None:
        """Return the session of the running or of the killed supervisord."""
        try:
            started = self._pid_file.stat().st_mtime
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None
        if started < psutil.boot_time():
            return None
        return pid

    def _socket(self) -> Path:
        """Return the path of the control socket: in the stack's folder or, where that is too long, in /tmp."""
        near = self._run / "supervisor.sock"
        if len(os.fsencode(near)) <= LONGEST_SOCKET_PATH:
            return near
        record = self._run / "socket-folder"
        if not record.exists() or not Path(record.read_text(encoding="utf-8")).is_dir():
            record.write_text(tempfile.mkdtemp(prefix="clickstream-"), encoding="utf-8")
        return Path(record.read_text(encoding="utf-8")) / "supervisor.sock"

    def _write_configuration(self, programs: Sequence[Program]) -> None:
        socket = self._socket()
        config = configparser.RawConfigParser()
        config["unix_http_server"] = {"file": _plain(socket), "chmod": "0600"}
        config["supervisord"] = {
            "logfile": _plain(self._stack.log("supervisord")),
            "logfile_maxbytes": "5MB",
            "logfile_backups": "2",
            "pidfile": _plain(self._pid_file),
            "childlogdir": _plain(self._stack.logs),
            "umask": "077",
            "identifier": "clickstream",
        }
        config["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        }
        config["supervisorctl"] = {"serverurl": _plain(f"unix://{socket}")}
        for program in programs:
            config[f"program:{program.name}"] = self._section(program) | {"redirect_stderr": "true"}
        reaper = Program(name=REAPER, command=[PYTHON, "-m", "infra.local.reaper"], stop_seconds=5)
        config[f"eventlistener:{REAPER}"] = self._section(reaper) | {
            "command": _command([PYTHON, "-m", "infra.local.reaper"]),  # outlives supervisord, to clean up
            "autostart": "true",
            "events": "TICK_5,PROCESS_STATE_EXITED,PROCESS_STATE_STOPPED",
            "stdout_logfile": "NONE",
            "stderr_logfile": _plain(self._stack.log(REAPER)),
            "stderr_logfile_maxbytes": "1MB",
            "stderr_logfile_backups": "1",
        }
        with self._configuration.open("w", encoding="utf-8") as file:
            config.write(file)

    def _section(self, program: Program) -> dict[str, str]:
        setpriv = shutil.which("setpriv", path=SYSTEM_PATH)
        if setpriv is None:
            raise StackError("The program setpriv is missing.", remedy="Install util-linux 2.33 or later.")
        environment = {**base_environment(), **program.environment}
        return {
            "command": _command([setpriv, *program.privileges, "--pdeathsig", program.stop_signal, *program.command]),
            "directory": _plain(REPOSITORY),
            "environment": ",".join(f"{name}={_quoted(value)}" for name, value in environment.items()),
            "autostart": "false",
            "autorestart": "false" if program.once else "true",
            "startsecs": "0" if program.once else "2",
            "startretries": "10",
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(program.stop_seconds),
            "killasgroup": "true",
            "stdout_logfile": _plain(self._stack.log(program.name)),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "3",
        }


def _quoted(value: str) -> str:
    """Quote a value of the environment; supervisord strips all quotes at both ends and knows no escapes."""
    quote = "'" if '"' in value else '"'
    if quote in value or "\n" in value or value.strip("'\"") != value:
        raise _not_plain(value)
    return f"{quote}{value.replace('%', '%%')}{quote}"


def _plain(value: object) -> str:
    """Return the value as supervisord's configuration wants it, where % begins an expansion."""
    text = str(value)
    if "\n" in text or " ;" in text:  # the latter would begin a comment
        raise _not_plain(text)
    return text.replace("%", "%%")


def _not_plain(text: str) -> StackError:
    return StackError(
        f"A path or setting of the stack cannot be written into supervisord's configuration: {text!r}.",
        remedy="Leave out line breaks, mixed quotation marks and ' ;', or rename the folder that has them.",
    )


def _command(words: Sequence[str | Path]) -> str:
    return shlex.join(_plain(word) for word in words)
