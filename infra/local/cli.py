"""Command line of the embedded stack."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from infra.bootstrap import roles
from infra.local import credentials, demo, lifecycle, postgres, rotation
from infra.local import lineage as lineage_of
from infra.local.aws_status import aws_status
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK
from infra.local.settings import component_environment
from infra.local.stack import ADMIN, DEFAULT_FOLDER, PYTHON, REPOSITORY, TOPIC, Stack
from infra.local.status import Status, local_data, read_status

WIDTH_OF_A_FILE = 160  # of what is piped, where there is no terminal to fit
output = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
COLOURS = {"up": "green", "done": "green", "down": "red", "unhealthy": "red", "starting": "yellow"}


@contextmanager
def _explained() -> Iterator[None]:
    """Show a StackError as message and remedy, and end with code 1."""
    try:
        yield
    except StackError as error:
        errors.print(f"[bold red]Error:[/] {_escaped(error.problem)}\n[bold]Remedy:[/] {_escaped(error.remedy)}")
        sys.exit(1)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _existing() -> Stack:
    return Stack.load() or Stack.from_settings()


@click.group(help=__doc__, context_settings={"max_content_width": 110})
def cli() -> None:
    """Group of the commands."""


@cli.command()
def up() -> None:
    """Start what does not run yet; returns when everything is healthy."""
    began = time.monotonic()
    with _explained():
        stack = Stack.from_settings()
        lifecycle.up(stack, report=lambda line: output.print(f"  {_escaped(line)}"))
        output.print(_status_table(read_status(stack)))
        output.print(
            f"Everything is healthy after {time.monotonic() - began:.0f} s.\n"
            f"Airflow: {stack.airflow_url}, user {ADMIN}, password {credentials.token(stack, 'airflow_admin')}\n"
            f"SQL: make psql (role grafana_reader, which only reads)   All addresses and passwords: make env\n"
            f"Logs: make logs ({stack.logs})"
        )


@cli.command()
@click.argument("names", metavar="[SECRET]...", nargs=-1, type=click.Choice(rotation.SECRETS))
def rotate(names: tuple[str, ...]) -> None:
    """Rotate each SECRET, or all, and return when everything works with the new ones."""
    with _explained():
        rotation.rotate(_existing(), names or rotation.SECRETS, report=lambda line: output.print(f"  {line}"))
        output.print("Programs of your own need the new ones: make env")


@cli.command("demo")
def run_demo() -> None:
    """Send one burst through everything; the exit code is 0 only if windows are published and all balances."""
    with _explained():
        sys.exit(0 if demo.demo(Stack.from_settings(), output) else 1)


@cli.command()
@click.option("--window", help="Its start, as in 2026-01-31T12:05Z; the newest window when left out.")
@click.option("--minutes", default=60, show_default=True, help="Its width: 5 or 60.")
def lineage(window: str | None, minutes: int) -> None:
    """Show where a window's numbers come from: batches, offset ranges, raw files and Airflow runs."""
    with _explained():
        lineage_of.lineage(_existing(), output, window, minutes)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("log", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1)
def replay(log: Path, arguments: tuple[str, ...]) -> None:
    """Send the access LOG (Combined Log Format, gzip or not) through the pipeline; options: see --help after LOG."""
    with _explained():
        stack = _existing()
        _become(
            str(PYTHON),
            [str(REPOSITORY / "lambda" / "access_log_replay.py"), str(log), *arguments],
            {"KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers, "TOPIC": TOPIC},
        )


@cli.command()
def down() -> None:
    """Stop everything; no process is left and no data is lost."""
    with _explained():
        lifecycle.down(_existing(), report=lambda line: output.print(f"  {line}"))
        output.print("Everything is stopped; `make up` goes on from here.")


@cli.command()
def status() -> None:
    """Show each component: up or down, since when, and why; the exit code is 0 only if all are up."""
    if region := component_environment(DEFAULT_FOLDER).get("CLICKSTREAM_AWS_REGION"):
        _show("On AWS", aws_status(region))
    with _explained():
        stack = _existing()
        found = read_status(stack)
        output.print(_status_table(found))
        _show("Data and credentials", local_data(stack))
    sys.exit(0 if all(one.is_fine for one in found) else 1)


def _show(title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(_escaped(name), _escaped(text))
    output.print(table)


def _status_table(found: list[Status]) -> Table:
    table = Table()
    for column in ("component", "state", "since", "pid", "address"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for one in found:
        colour = COLOURS.get(one.state, "dim")
        table.add_row(
            one.component,
            f"[{colour}]{one.state}[/]",
            f"{one.since:%Y-%m-%d %H:%M:%S}Z" if one.since else "",
            str(one.pid or ""),
            one.address,
            _escaped(one.reason),
        )
    return table


@cli.command()
@click.argument("component", required=False)
@click.option("-n", "lines", default=20, show_default=True, help="So many last lines of each log.")
@click.option("--follow/--no-follow", "-f", default=True, show_default=True, help="Wait for more.")
def logs(component: str | None, *, lines: int, follow: bool) -> None:
    """Show the log of COMPONENT, or of all."""
    with _explained():
        stack = _existing()
        names = sorted(path.stem for path in stack.logs.glob("*.log"))
        if component is not None and component not in names:
            raise StackError(f"There is no log of {component}.", remedy=f"There are: {', '.join(names)}.")
        files = [str(stack.log(name)) for name in ([component] if component else names)]
        if not files:
            raise StackError("There are no logs yet.", remedy="Run `make up` first.")
        _become("tail", ["-n", str(lines), *(["-F"] if follow else []), *files], {})


@cli.command()
def env() -> None:
    """Print KEY=value lines for outside programs, and nothing else."""
    with _explained():
        stack = Stack.load()
        if stack is None:
            raise StackError("There is no stack yet.", remedy="Run `make up` first.")
        for name, value in environment(stack).items():
            click.echo(f"{name}={value}")


def environment(stack: Stack) -> dict[str, str]:
    """Return what an outside program needs to use the stack."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "DATABASE_URL": credentials.reader_url(stack),
        "AIRFLOW_URL": stack.airflow_url,
        "AIRFLOW_USERNAME": ADMIN,
        "AIRFLOW_PASSWORD": credentials.token(stack, "airflow_admin"),
        "PROMETHEUS_URL": stack.prometheus_url,
        "STORAGE_URL": stack.storage_url,
        "METRICS_URL": stack.metrics_url,
    }


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--role", type=click.Choice(credentials.DATABASE_ROLES), default="grafana_reader", show_default=True)
@click.argument("arguments", nargs=-1)
def psql(role: str, arguments: tuple[str, ...]) -> None:
    """Open psql on the database; further ARGUMENTS go to psql (after --)."""
    with _explained():
        stack = _existing()
        connection = ["-h", LOOPBACK, "-p", str(stack.ports.postgres), "-U", role, "-d", roles.DATABASE]
        passfile = {"PGPASSFILE": str(stack.secrets / "pgpass")}
        _become(str(postgres.binaries() / "psql"), [*connection, *arguments], passfile)


def _become(program: str, arguments: list[str], environment: dict[str, str]) -> None:
    path = shutil.which(program)
    if path is None:
        raise StackError(f"The program {program} is missing.", remedy=f"Install {program}.")
    sys.stdout.flush()
    os.execve(path, [path, *arguments], dict(os.environ) | environment)  # noqa: S606 - no shell wanted
