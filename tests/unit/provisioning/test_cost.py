"""Every resource of both profiles has a price or is free, and nothing is left out by silence."""

from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from clickstream.errors import CostUnknown
from clickstream.provisioning.__main__ import cli
from clickstream.provisioning.cost import monthly_cost
from clickstream.provisioning.names import STACKS
from clickstream.provisioning.synthesis import Assembly

REGION = "eu-central-1"


@pytest.mark.parametrize("profile", ["small", "scaled"])
def test_every_resource_has_a_price_or_is_free(templates: dict[str, Path], profile: str) -> None:
    for stack in STACKS:
        estimate = monthly_cost(Assembly(templates[profile]).template(stack), region=REGION)
        assert estimate.monthly == round(sum(line.quantity * line.unit_price for line in estimate.lines), 2)
        assert all(line.assumption for line in estimate.lines)
        assert estimate.monthly > 0


def test_what_costs_most_stands_first_and_equal_things_are_one_line(templates: dict[str, Path]) -> None:
    first, *others = monthly_cost(Assembly(templates["small"]).template(STACKS[0]), region=REGION).lines
    assert (first.label, int(first.quantity)) == ("host t3.large", 730)
    assert [int(line.quantity) for line in others if line.label == "secret"] == [14]


def test_two_zones_cost_twice() -> None:
    properties = {"DBInstanceClass": "db.m7g.large", "AllocatedStorage": "100"}
    one, two = (
        monthly_cost(
            {"Resources": {"A": {"Type": "AWS::RDS::DBInstance", "Properties": properties | {"MultiAZ": zones}}}},
            region=REGION,
        ).monthly
        for zones in (False, True)
    )
    assert abs(two - 2 * one) <= Decimal("0.01")


@pytest.mark.parametrize(
    ("template", "region", "says"),
    [
        ({"New": {"Type": "AWS::Some::Thing"}}, REGION, r"AWS::Some::Thing \(New\)"),
        ({}, "mars-north-1", "no prices of mars-north-1"),
        ({"A": {"Type": "AWS::EC2::Instance", "Properties": {"InstanceType": "x9.huge"}}}, REGION, "'x9.huge' has no"),
    ],
)
def test_what_has_no_price_is_an_error_by_name(template: dict[str, object], region: str, says: str) -> None:
    with pytest.raises(CostUnknown, match=says):
        monthly_cost({"Resources": template}, region=region)


def test_the_command_shows_each_line_and_the_total(templates: dict[str, Path]) -> None:
    shown = CliRunner().invoke(cli, ["cost", str(templates["small"]), "--region", REGION])
    assert shown.exit_code == 0, shown.output
    assert "host t3.large" in shown.output
    assert "All together" in shown.output
