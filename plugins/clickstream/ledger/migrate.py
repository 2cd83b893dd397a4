"""Command line of the schema migrations: `python -m clickstream.ledger.migrate up|down|status`.

Connects as libpq does (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSFILE), as the owner of the database; the
roles `clickstream_writer` and `grafana_reader` exist before.
"""

from __future__ import annotations

from pathlib import Path

import click
from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def command_line(versions: Path, *, explanation: str | None) -> click.Group:
    """The commands `up`, `down` and `status` for the migrations in a folder.

    Args:
        versions: The folder; each database knows one.
        explanation: What `--help` shows.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "newline")  # the folder's name may hold any other character

    @click.group(help=explanation)
    def group() -> None:
        """Group of the three commands."""

    @group.command()
    @click.argument("revision", default="head")
    def up(revision: str) -> None:
        """Apply all migrations up to REVISION."""
        command.upgrade(config, revision)

    @group.command()
    @click.argument("revision")
    def down(revision: str) -> None:
        """Undo migrations down to REVISION (`base` for all): the data of what they made is gone."""
        command.downgrade(config, revision)

    @group.command()
    def status() -> None:
        """Print the revision of the database."""
        command.current(config, verbose=True)

    return group


cli = command_line(MIGRATIONS / "versions", explanation=__doc__)

if __name__ == "__main__":
    cli()
