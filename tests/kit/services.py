"""The real services of a test session: where they are, and who may do everything in their database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg

from infra.local.stack import Stack

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
    return subprocess.run(
        [sys.executable, "-m", "clickstream.ledger.migrate", *arguments],
        env=os.environ
        | {
            "PYTHONPATH": str(REPOSITORY / "plugins"),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(stack.ports.postgres),
            "PGUSER": "clickstream_owner",
            "PGPASSWORD": (stack.secrets / "clickstream_owner").read_text(encoding="utf-8"),
            "PGDATABASE": database,
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout
