"""The real services of a test session: where they are, and who may do everything in their database."""

from __future__ import annotations

from pathlib import Path

import psycopg

from clickstream.ledger.migrate import cli
from infra.local.stack import Stack
from tests.kit import migrations

REPOSITORY = Path(__file__).parents[2]


def superuser(stack: Stack, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
    password = (stack.folder / "postgres" / "superuser-password").read_text(encoding="utf-8")
    return psycopg.connect(
        host="127.0.0.1",
        port=stack.ports.postgres,
        user="postgres",
        password=password,
        dbname=database,
        autocommit=True,
    )


def migrate(stack: Stack, database: str, *arguments: str) -> str:
    """Run the command line of the migrations on a database; returns what it prints."""
    return migrations.run(
        cli,
        {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(stack.ports.postgres),
            "PGUSER": "clickstream_owner",
            "PGPASSWORD": (stack.secrets / "clickstream_owner").read_text(encoding="utf-8"),
            "PGDATABASE": database,
        },
        *arguments,
    )
