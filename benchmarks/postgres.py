"""PostgreSQL alone, as the embedded stack runs it, in a folder that is removed afterwards."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from infra.local import postgres
from infra.local.components import components
from infra.local.files import private_folder
from infra.local.lifecycle import wait_until_healthy
from infra.local.stack import Stack
from infra.local.supervision import Supervisor
from tests.kit.services import migrate, superuser

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def server(folder: Path | None = None) -> Iterator[Stack]:
    """Start PostgreSQL with the stack's settings and roles, and nothing else.

    Args:
        folder: Where it lives and stays; a temporary one, removed at the end, when None.
    """
    home = folder or Path(tempfile.mkdtemp(prefix="clickstream-benchmark-"))
    stack = Stack.create(home, with_generator=False, with_prometheus=False)
    private_folder(stack.folder)
    if postgres.runs_as_another_user():
        stack.folder.chmod(0o711)
    postgres.prepare(stack)
    supervisor = Supervisor(stack)
    supervisor.start([postgres.program(stack)])
    try:
        supervisor.start_program("postgres")
        component = next(one for one in components(stack) if one.name == "postgres")
        wait_until_healthy(stack, supervisor, component)
        postgres.ensure_roles(stack)
        yield stack
    finally:
        supervisor.stop_program("postgres")
        supervisor.shut_down()
        if folder is None:
            shutil.rmtree(home)


def new_database(stack: Stack) -> str:
    """Make a database with all migrations applied, and return its name."""
    name = f"b_{uuid4().hex[:12]}"
    with superuser(stack) as conn:
        conn.execute(f"CREATE DATABASE {name} OWNER clickstream_owner TEMPLATE template0")
    migrate(stack, name, "up")
    return name
