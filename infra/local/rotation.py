"""Rotate secrets of a running stack: write the new one, apply it, and start anew what read the old one at its start."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from infra.local import airflow, credentials, lifecycle, postgres
from infra.local.errors import StackError
from infra.local.java import find_java
from infra.local.stack import Stack
from infra.local.supervision import Supervisor

FERNET_KEY = "fernet_key"
READ_AT_START = frozenset({credentials.AIRFLOW_ROLE, "airflow_api_key", "airflow_jwt_key", FERNET_KEY})
READ_AT_EACH_USE = frozenset(
    {*credentials.DATABASE_ROLES, "airflow_admin", "metrics_token", credentials.SUPERUSER_FILE}
)
SECRETS = tuple(sorted(READ_AT_START | READ_AT_EACH_USE))


def rotate(stack: Stack, names: Collection[str], *, report: lifecycle.Report = lambda _: None) -> None:
    """Rotate these secrets of `SECRETS`, and return when everything works with the new ones.

    Airflow is stopped meanwhile only where it read one of them at its start; running tasks get half a minute to end.
    Interrupted, it goes on with `up`, which applies what the files hold.

    Raises:
        StackError: The stack does not run, or another command is at work on it.
    """
    with lifecycle.locked(stack):
        if not Supervisor(stack).is_running():
            raise StackError("The stack does not run, so no secret can be applied.", remedy="Run `make up` first.")
        restarted = READ_AT_START & set(names)
        if restarted:
            report("stopping Airflow; its running tasks may end")
            airflow.stop(stack)
        for name in names:
            if name == credentials.SUPERUSER_FILE:
                postgres.rotate_superuser(stack)
            elif name != FERNET_KEY:
                credentials.renew(stack, name)
        postgres.ensure_roles(stack)
        airflow.prepare(stack)
        if FERNET_KEY in names:
            airflow.rotate_fernet_key(stack, find_java())
        if restarted:
            with ThreadPoolExecutor() as pool:
                list(pool.map(partial(lifecycle.restart, stack), airflow.COMPONENTS))
        for name in names:
            report(f"rotated {name}")
