"""The stacks on AWS from a command line: `python -m clickstream.provisioning --help`, behind `make list` and the like.

The same steps as those of the DAGs `provision_infrastructure` and `teardown_infrastructure`, with the credentials that
the AWS SDKs find.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import click
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from clickstream.errors import ClickstreamError
from clickstream.provisioning import (
    assets,
    change_sets,
    connections,
    cost,
    host,
    leftovers,
    provision,
    report,
    synthesis,
    teardown,
)
from clickstream.provisioning.deployment import Deployment, Place
from clickstream.provisioning.names import HOST_STACK, STACKS
from clickstream.provisioning.synthesis import Assembly

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH_OF_A_FILE = 140  # of what is piped, where there is no terminal to fit
output = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
account_option = click.option("--account", help="Its 12 digits; not given, the account that the credentials are of.")
region_option = click.option("--region", required=True, help="The region of the stacks.")


@click.group(help=__doc__)
def cli() -> None:
    """Show what the steps say as they go."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("botocore", "boto3", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def explained() -> Iterator[None]:
    """Print an error that is explained, instead of where it was raised."""
    try:
        yield
    except ClickstreamError as error:
        output.print(f"[red]{type(error).__name__}[/]: {error}", soft_wrap=True)
        sys.exit(1)


@cli.command("list")
@region_option
@account_option
def list_stacks(region: str, account: str | None) -> None:
    """Show the stacks, their state and outputs."""
    with explained():
        place = _place(region, account)
        cloudformation = place.client("cloudformation")
        for stack in STACKS:
            output.print(f"{stack}: [bold]{change_sets.status(cloudformation, stack)}[/]")
        table = Table("output", "value")
        for name, value in sorted(provision.outputs(place).items()):
            if not name.startswith("Exports"):
                table.add_row(name, value)
        output.print(table)


@cli.command()
@region_option
@account_option
@click.option("--profile", type=click.Choice(["small", "scaled"]), default="small", show_default=True)
@click.option("--allowed-cidr", required=True, help="IPv4 network that may open Airflow and Grafana.")
@click.option("--alarm-email", default="", help="Who gets the alarms.")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="For the templates.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would change and cost.")
def deploy(
    *,
    region: str,
    account: str | None,
    profile: str,
    allowed_cidr: str,
    alarm_email: str,
    folder: Path,
    yes: bool,
    dry_run: bool,
) -> None:
    """Show what would change and cost, ask, deploy, connect, bring the host to this release."""
    with explained():
        place = _place(region, account)
        wanted = Deployment(place=place, profile=profile, allowed_cidr=allowed_cidr, alarm_email=alarm_email)
        assembly = synthesis.synthesize(wanted, folder)
        assets.ensure_bucket(place)
        assets.upload(assembly, place)
        previews = provision.preview(assembly, place, run="command line")
        output.print(Markdown(report.markdown(wanted, assembly, previews)))
        planned = [one.planned for one in previews]
        if dry_run or not (yes or click.confirm("Deploy this?")):
            provision.discard(place, planned)
            output.print("Nothing was changed.")
            return
        for plan in planned:
            provision.deploy(assembly, place, plan)
        outputs = provision.outputs(place)
        connections.write(place, outputs)
        host.run(place, outputs["HostInstanceId"], host.BOOTSTRAP)
        output.print("Deployed. `make list` shows the addresses.")


@cli.command()
@region_option
@account_option
def destroy(region: str, account: str | None) -> None:
    """Show what would go, ask for the stack's name, delete, and list what is left."""
    with explained():
        place = _place(region, account)
        doomed = teardown.plan(place)
        teardown.refuse_own_ground(place, doomed)
        output.print(Markdown(teardown.markdown(place, doomed)))
        if (
            doomed
            and click.prompt(f"Type {HOST_STACK} to delete all of this", default="", show_default=False) != HOST_STACK
        ):
            output.print("Nothing is deleted.")
            sys.exit(1)
        for stack in reversed(STACKS):
            teardown.delete(place, stack)
        connections.delete(place)
        left = leftovers.scan(place)
        output.print(Markdown(leftovers.listing(left)))
        leftovers.require_none(left)


@cli.command("cost")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@region_option
def show_cost(folders: tuple[Path, ...], region: str) -> None:
    """Show what the templates in FOLDERS cost a month, line by line."""
    with explained():
        for folder in folders:
            _show_cost(Assembly(folder), region)


def _show_cost(assembly: Assembly, region: str) -> None:
    total = Decimal(0)
    table = Table(title=f"{assembly.folder.name}, {region}, USD a month", title_justify="left")
    for column in ("what", "quantity", "unit", "price", "a month"):
        table.add_column(column, justify="left" if column in {"what", "unit"} else "right")
    table.add_column("assumption", overflow="fold")
    for stack in STACKS:
        estimate = cost.monthly_cost(assembly.template(stack), region=region)
        total += estimate.monthly
        table.add_section()
        table.add_row(f"[bold]{stack}[/]", "", "", "", f"[bold]{estimate.monthly:,.2f}[/]")
        for line in estimate.lines:
            table.add_row(
                line.label,
                f"{line.quantity:,.2f}",
                line.unit,
                f"{line.unit_price:f}",
                f"{line.monthly:,.2f}",
                line.assumption,
            )
    output.print(table)
    months = cost.CREDIT / total
    output.print(f"All together [bold]{total:,.2f} USD[/] a month at the list prices of {cost.prices(region).as_of}.")
    output.print(
        f"The credit of a new account, up to {cost.CREDIT} USD, pays for {months:.1f} months. See docs/cost.md."
    )


def _place(region: str, account: str | None) -> Place:
    """The region in the account that is named, or that the credentials are of."""
    if account is None:
        account = str(boto3.Session(region_name=region).client("sts").get_caller_identity()["Account"])
    place = Place(account=account, region=region)
    place.require_account()
    return place


if __name__ == "__main__":
    cli()
