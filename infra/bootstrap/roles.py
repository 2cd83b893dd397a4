"""PostgreSQL's roles with their passwords, and the two databases."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

DATABASE = "clickstream"
AIRFLOW_DATABASE = "airflow"
OWNER = "clickstream_owner"
WRITER = "clickstream_writer"
READER = "grafana_reader"
AIRFLOW_ROLE = "airflow"
ROLES = (OWNER, WRITER, READER, AIRFLOW_ROLE)


def ensure_roles(connection: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    """Create each role with its password, and both databases; change what differs.

    Args:
        connection: As a superuser, or as RDS's master user, who may create roles and databases and no more.
        passwords: Of each of `ROLES`.
    """
    for role in ROLES:
        _ensure_role(connection, role, passwords[role])
    _ensure_database(connection, DATABASE, owner=OWNER)
    _ensure_database(connection, AIRFLOW_DATABASE, owner=AIRFLOW_ROLE)
    connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {WRITER}")
    connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {READER}")


def _ensure_role(connection: psycopg.Connection, role: str, password: str) -> None:
    name = sql.Identifier(role)
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    connection.execute(sql.SQL("ALTER ROLE {} WITH LOGIN NOCREATEDB NOCREATEROLE").format(name))
    set_password(connection, role, password)


def set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    """Give a role a password; only the verifier travels, so that no statement log can hold it."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


def _ensure_database(connection: psycopg.Connection, database: str, *, owner: str) -> None:
    name = sql.Identifier(database)
    if not _is_superuser(connection):  # only a member may give a role a database
        connection.execute(
            sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE").format(sql.Identifier(owner))
        )
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone() is None:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(name, sql.Identifier(owner))
        )
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))


def _is_superuser(connection: psycopg.Connection) -> bool:
    return connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)
