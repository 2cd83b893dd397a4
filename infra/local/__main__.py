"""``python -m infra.local``: see ``infra.local.cli``."""

from infra.local.cli import cli

cli(prog_name="python -m infra.local")
