"""What a deployment is told, and that the command refuses what is wrong; what it makes is in test_stacks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clickstream.retention import LOG_DAYS
from infra.stacks.context import ContextError, Deployment
from tests.kit.templates import synthesize

CONTEXT = {"profile": "small", "account": "123456789012", "region": "eu-central-1", "allowedCidr": "10.0.0.0/16"}


def told(context: dict[str, str]) -> Deployment:
    app: Any = SimpleNamespace(node=SimpleNamespace(try_get_context=context.get))
    return Deployment.of(app)


def test_a_right_context_is_taken() -> None:
    deployment = told(CONTEXT)
    assert deployment.allowed_cidr == "10.0.0.0/16"
    assert deployment.profile.host.instance_type == "t3.large"
    assert deployment.alarm_email is None


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("profile", "huge", "scaled or small"),
        ("account", "12345678901", "the 12 digits of an AWS account"),
        ("region", "Frankfurt", "such as eu-central-1"),
        ("allowedCidr", "0.0.0.0/0", "at widest a /16"),
        ("allowedCidr", "10.0.0.0/15", "at widest a /16"),
        ("allowedCidr", "203.0.113.4/24", "at widest a /16"),
        ("allowedCidr", "::/0", "the IPv4 network"),
        ("alarmEmail", "nobody", "the address that alarms go to"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str, rule: str) -> None:
    with pytest.raises(ContextError) as refusal:
        told(CONTEXT | {name: value})
    assert str(refusal.value).startswith(f"{name}={value!r} is refused: ")
    assert rule in str(refusal.value)


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ContextError) as refusal:
        told({"profile": "small"})
    assert [line.split(" ")[0] for line in str(refusal.value).splitlines()] == ["account", "region", "allowedCidr"]


@pytest.mark.needs("node")
@pytest.mark.parametrize(
    ("context", "environment", "refusal"),
    [
        ({"allowedCidr": "0.0.0.0/0"}, {}, "allowedCidr='0.0.0.0/0' is refused: "),
        ({}, {"CLICKSTREAM_KEEP_EVENTS_DAYS": "3"}, "CLICKSTREAM_KEEP_EVENTS_DAYS is 3, CLICKSTREAM_KEEP_KAFKA_DAYS"),
    ],
    ids=["context", "period"],
)
def test_the_command_says_what_is_wrong_and_writes_nothing(
    tmp_path: Path, context: dict[str, str], environment: dict[str, str], refusal: str
) -> None:
    process = synthesize(tmp_path / "out", environment, profile="small", **context)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith(refusal)
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("*.template.json"))


@pytest.mark.needs("node")
def test_the_stacks_allow_what_the_settings_allow() -> None:
    from infra.stacks.log_groups import DAYS
    from infra.stacks.source import CONTENTS

    assert tuple(DAYS) == LOG_DAYS
    assert {"infra/periods.py", "infra/bootstrap", "plugins"} <= set(CONTENTS)


@pytest.mark.needs("node")
def test_a_finding_of_cdk_nag_that_is_not_acknowledged_fails_the_synthesis(tmp_path: Path) -> None:
    from aws_cdk import App
    from aws_cdk import aws_ec2 as ec2

    from infra.stacks.assembly import build
    from infra.stacks.infrastructure_stack import InfrastructureStack

    app = App(context=CONTEXT, outdir=str(tmp_path))
    build(app)
    infrastructure = app.node.find_child("InfrastructureStack")
    assert isinstance(infrastructure, InfrastructureStack)
    planted = infrastructure.network.group("Planted", description="Open to the world")
    planted.add_ingress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(8080))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    assert "AwsSolutions-EC23" in (tmp_path / "validation-report.json").read_text(encoding="utf-8")
