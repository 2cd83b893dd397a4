"""Migrations by their own command lines, in this process: importing what they need takes longer than they do."""

from __future__ import annotations

from collections.abc import Mapping
from unittest import mock

import click
from alembic.config import Config
from click.testing import CliRunner


def run(cli: click.Group, database: Mapping[str, str], *arguments: str) -> str:
    """What a command prints, on the database that these variables of libpq describe."""
    said: list[str] = []
    with mock.patch.object(Config, "print_stdout", lambda _, text, *values: said.append(text % values)):
        done = CliRunner().invoke(cli, arguments, env=database, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return "\n".join(said)
