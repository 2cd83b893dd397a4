"""Command line of the schema migrations: `python -m clickstream.ledger.migrate up|down|status`.

Connects as libpq does (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSFILE), as the owner of the database; the
roles `clickstream_writer` and `grafana_reader` exist before.
"""

from __future__ import annotations

from pathlib import Path

import click
from alembic import command
from alembic.config import Config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@click.group(help=__doc__)
def cli() -> None:
    """Group of the three commands."""


@cli.command()
@click.argument("revision", default="head")
def up(revision: str) -> None:
    """Apply all migrations up to REVISION."""
    command.upgrade(_config(), revision)


@cli.command()
@click.argument("revision")
def down(revision: str) -> None:
    """Undo migrations down to REVISION (`base` for all): the data of what they made is gone."""
    command.downgrade(_config(), revision)


@cli.command()
def status() -> None:
    """Print the revision of the database."""
    command.current(_config(), verbose=True)


if __name__ == "__main__":
    cli()
