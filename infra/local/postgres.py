"""PostgreSQL 16, from pgserver's binaries: the cluster, its roles and its databases."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from infra.bootstrap import roles
from infra.local.commands import run
from infra.local.credentials import SUPERUSER_FILE, renew, token, write_pgpass
from infra.local.errors import StackError
from infra.local.files import PRIVATE_FILE, write_private
from infra.local.ports import LOOPBACK
from infra.local.stack import PYTHON, REPOSITORY, Stack
from infra.local.supervision import Program, base_environment

SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"  # also the user that the pgserver package makes when it runs as root
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


@dataclass(frozen=True)
class Account:
    """The system account that runs PostgreSQL, which refuses to run as root.

    Attributes:
        uid: Its user id.
        gid: Its group id.
        privileges: Options of setpriv to become it; none when it is the caller.
    """

    uid: int
    gid: int
    privileges: tuple[str, ...] = ()


def runs_as_another_user() -> bool:
    """Say whether the caller is root, so that PostgreSQL runs as an unprivileged user."""
    return os.geteuid() == 0


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs."""
    spec = find_spec("pgserver")
    if spec is None or spec.origin is None:
        raise StackError("The Python package pgserver is missing.", remedy="Run: make .venv")
    return Path(spec.origin).parent / "pginstall" / "bin"


@cache
def account(folder: Path) -> Account:
    """Return the account that runs PostgreSQL with its files in ``folder``.

    As root this is an unprivileged user, made if it is missing. Where a closed folder (the home of root, one
    made by mktemp) lies above the stack, that user also gets the capability to pass it, CAP_DAC_READ_SEARCH.

    Raises:
        StackError: The user cannot be made, or can reach the folder or the programs in neither way.
    """
    if not runs_as_another_user():
        return Account(uid=os.geteuid(), gid=os.getegid())
    try:
        user = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        run(
            ["useradd", "--system", "--shell", "/usr/sbin/nologin", "--home-dir", "/nonexistent", SYSTEM_USER],
            purpose=f"make the system user {SYSTEM_USER}, as PostgreSQL refuses to run as root",
            remedy="Run the stack as an ordinary user, or make that user yourself.",
        )
        user = pwd.getpwnam(SYSTEM_USER)
    plain = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    passing = (
        *plain,
        "--securebits=+no_setuid_fixup",  # or access(2), by which initdb looks for its files, would ignore it
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    )
    for privileges in (plain, passing):
        if _can_reach(privileges, folder):
            return Account(uid=user.pw_uid, gid=user.pw_gid, privileges=privileges)
    raise StackError(
        f"PostgreSQL refuses to run as root, and the user {SYSTEM_USER}, which runs it instead, cannot reach "
        f"{folder} or {binaries()}.",
        remedy=(
            "Run the stack as an ordinary user, or move the clone to a folder that every user may enter "
            "(each folder above it needs mode o+x)."
        ),
    )


def _can_reach(privileges: tuple[str, ...], folder: Path) -> bool:
    """Say whether a process with these privileges can list the folder and start PostgreSQL."""
    initdb = [str(binaries() / "initdb"), "--show", "--pgdata", str(folder / "data")]  # only looks for its files
    for command in (["ls", str(folder)], initdb):
        attempt = subprocess.run(["setpriv", *privileges, *command], capture_output=True, check=False)  # noqa: S603, S607
        if attempt.returncode != 0:
            return False
    return True


def prepare(stack: Stack) -> None:
    """Make the cluster the first time, and remove the pid file of a server that a crash has ended.

    Raises:
        StackError: initdb fails, or another server runs on the same data.
    """
    folder = stack.folder / "postgres"
    folder.mkdir(exist_ok=True)
    user = account(folder)
    os.chown(folder, user.uid, user.gid)
    folder.chmod(0o700)
    data = folder / "data"
    if data.exists():
        _remove_stale_pid_file(data)
        return
    partial = folder / "data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    password = _superuser_password(stack)
    os.chown(password, user.uid, user.gid)
    run(
        [
            "setpriv",
            *user.privileges,
            binaries() / "initdb",
            *("--pgdata", partial, "--username", SUPERUSER, "--pwfile", password),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
        ],
        purpose="make the PostgreSQL cluster",
        remedy=f"Remove {folder} if it holds nothing of value, then run it again.",
        environment=base_environment(),
        directory=Path("/"),
    )
    partial.rename(data)


def _superuser_password(stack: Stack) -> Path:
    """Return the file of the superuser's password, beside the cluster that it opens, and made with it."""
    path = stack.folder / "postgres" / "superuser-password"
    if not path.exists():
        write_private(path, token(stack, SUPERUSER_FILE))
    path.chmod(PRIVATE_FILE)
    return path


def _remove_stale_pid_file(data: Path) -> None:
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    first_line = pid_file.read_text(encoding="utf-8").partition("\n")[0]
    if first_line.isdigit() and psutil.pid_exists(int(first_line)):
        process = psutil.Process(int(first_line))
        if process.name() == "postgres" and str(data) in " ".join(process.cmdline()):
            return
    pid_file.unlink()


def program(stack: Stack) -> Program:
    """Describe the server to the supervisor; SIGINT is its fast shutdown."""
    folder = stack.folder / "postgres"
    settings = SETTINGS | {"port": str(stack.ports.postgres)} | (NOT_DURABLE if stack.disposable else {})
    options = [f"--{name}={value}" for name, value in settings.items()]
    return Program(
        name="postgres",
        command=[binaries() / "postgres", "-D", folder / "data", *options],
        stop_signal="INT",
        stop_seconds=60,
        privileges=account(folder).privileges,
    )


def probe(stack: Stack) -> None:
    """Check that the server answers.

    Raises:
        psycopg.OperationalError: It does not.
    """
    with _connect(stack) as connection:
        connection.execute("SELECT 1")


def _connect(stack: Stack) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK,
        port=stack.ports.postgres,
        user=SUPERUSER,
        password=_superuser_password(stack).read_text(encoding="utf-8"),
        dbname="postgres",
        connect_timeout=3,
        autocommit=True,
        application_name="clickstream-stack",
    )


def ensure_roles(stack: Stack) -> None:
    """Create each role with the password of its file, and both databases; change what differs."""
    write_pgpass(stack)
    with _connect(stack) as connection:
        roles.ensure_roles(connection, {role: token(stack, role) for role in roles.ROLES})


def rotate_superuser(stack: Stack) -> None:
    """Give the superuser a new password, which is in the folder of secrets before the server knows it."""
    with _connect(stack) as connection:
        renew(stack, SUPERUSER_FILE)
        password = token(stack, SUPERUSER_FILE)
        roles.set_password(connection, SUPERUSER, password)
    write_private(_superuser_password(stack), password)


def migrate(stack: Stack) -> None:
    """Bring the schemas ``ledger`` and ``analytics`` to their newest version.

    Raises:
        StackError: A migration fails.
    """
    run(
        [PYTHON, "-m", "clickstream.ledger.migrate", "up"],
        purpose="migrate the schemas ledger and analytics",
        remedy="The database is unchanged, as each migration is one transaction. Correct it and run it again.",
        environment=base_environment()
        | {
            "PYTHONPATH": str(REPOSITORY / "plugins"),
            "PGHOST": LOOPBACK,
            "PGPORT": str(stack.ports.postgres),
            "PGUSER": "clickstream_owner",
            "PGDATABASE": roles.DATABASE,
            "PGPASSFILE": str(stack.secrets / "pgpass"),
        },
        directory=REPOSITORY,
    )
