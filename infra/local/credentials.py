"""Generated credentials: one file each, mode 0600, in the stack's folder of secrets."""

import base64
import json
import secrets
from pathlib import Path

from infra.bootstrap import roles
from infra.local.files import write_private
from infra.local.ports import LOOPBACK
from infra.local.stack import ADMIN, Stack

DATABASE_ROLES = (roles.OWNER, roles.WRITER, roles.READER)
AIRFLOW_ROLE = roles.AIRFLOW_ROLE
SUPERUSER_FILE = "postgres_superuser"


def token(stack: Stack, name: str) -> str:
    """Return the secret of this name, generated when its file is missing.

    Removing a file rotates the secret at the next ``up``.
    """
    path = stack.secrets / name
    if not path.exists():
        renew(stack, name)
    return path.read_text(encoding="utf-8")


def renew(stack: Stack, name: str) -> None:
    """Generate the secret of this name, whether it was there or not."""
    write_private(stack.secrets / name, secrets.token_urlsafe(24))


def token_file(stack: Stack, name: str) -> Path:
    """Return the file of the secret of this name, generated when it is missing."""
    token(stack, name)
    return stack.secrets / name


def fernet_key_file(stack: Stack) -> Path:
    """Return the file of the key with which Airflow encrypts what it stores: 32 bytes in URL-safe base64."""
    path = stack.secrets / "fernet_key"
    if not path.exists():
        write_private(path, new_fernet_key())
    return path


def new_fernet_key() -> str:
    """Return a key like that."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")


def write_pgpass(stack: Stack) -> Path:
    """Write the password file of libpq (PostgreSQL documentation, 34.16) for every role, and return it."""
    path = stack.secrets / "pgpass"
    roles = [(role, "clickstream") for role in DATABASE_ROLES] + [(AIRFLOW_ROLE, "airflow")]
    lines = [f"{LOOPBACK}:{stack.ports.postgres}:{database}:{role}:{token(stack, role)}\n" for role, database in roles]
    write_private(path, "".join(lines))
    return path


def write_metadata_url(stack: Stack) -> Path:
    """Write the SQLAlchemy URL of Airflow's own database, and return its file."""
    path = stack.secrets / "airflow_metadata_url"
    password = token(stack, AIRFLOW_ROLE)
    write_private(path, f"postgresql+psycopg2://{AIRFLOW_ROLE}:{password}@{LOOPBACK}:{stack.ports.postgres}/airflow")
    return path


def write_airflow_passwords(stack: Stack) -> Path:
    """Write the password file of Airflow's simple auth manager, and return it.

    It exists before the first start, since Airflow would print a generated password to its log.
    """
    path = stack.secrets / "airflow_passwords.json"
    write_private(path, json.dumps({ADMIN: token(stack, "airflow_admin")}))
    return path


def write_connections(stack: Stack) -> Path:
    """Write Airflow's connections, for its LocalFilesystemBackend, and return the file."""
    path = stack.secrets / "connections.json"
    connections = {
        "clickstream_db": {
            "conn_type": "postgres",
            "host": LOOPBACK,
            "port": stack.ports.postgres,
            "schema": "clickstream",
            "login": "clickstream_writer",
            "password": token(stack, "clickstream_writer"),
        },
        "clickstream_spark": {"conn_type": "spark", "host": "local[2]"},
    }
    write_private(path, json.dumps(connections, indent=2))
    return path


def reader_url(stack: Stack) -> str:
    """Return the database URL of the role that only reads."""
    password = token(stack, "grafana_reader")
    return f"postgresql://grafana_reader:{password}@{LOOPBACK}:{stack.ports.postgres}/clickstream"
