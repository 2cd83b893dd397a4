import shutil
import subprocess
from pathlib import Path

import pytest

if shutil.which("node") is None:
    pytest.skip("the CDK needs Node.js", allow_module_level=True)

from aws_cdk import App
from aws_cdk import aws_ec2 as ec2

from infra.stacks.assembly import build
from infra.stacks.context import ContextError, Deployment
from infra.stacks.infrastructure_stack import InfrastructureStack
from tests.kit.templates import synthesize

CONTEXT = {"profile": "small", "account": "123456789012", "region": "eu-central-1", "allowedCidr": "10.0.0.0/16"}


def test_a_right_context_is_taken() -> None:
    deployment = Deployment.of(App(context=CONTEXT))
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
        Deployment.of(App(context=CONTEXT | {name: value}))
    assert str(refusal.value).startswith(f"{name}={value!r} is refused: ")
    assert rule in str(refusal.value)


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ContextError) as refusal:
        Deployment.of(App(context={"profile": "small"}))
    assert [line.split(" ")[0] for line in str(refusal.value).splitlines()] == ["account", "region", "allowedCidr"]


@pytest.mark.parametrize(
    ("periods", "refusal"),
    [
        ({"ARCHIVE_DAYS": "a year"}, "CLICKSTREAM_KEEP_ARCHIVE_DAYS is 'a year'; it must be 1 to 36,500 days "),
        (
            {"EVENTS_DAYS": "3"},
            "CLICKSTREAM_KEEP_EVENTS_DAYS is 3, CLICKSTREAM_KEEP_KAFKA_DAYS is 7 and CLICKSTREAM_ALLOWED_LATENESS_",
        ),
        (
            {"EVENT_DAYS": "90"},
            "CLICKSTREAM_KEEP_EVENT_DAYS is no setting; the nearest one is CLICKSTREAM_KEEP_EVENTS_",
        ),
    ],
)
def test_the_command_refuses_wrong_periods(tmp_path: Path, periods: dict[str, str], refusal: str) -> None:
    environment = {f"CLICKSTREAM_KEEP_{name}": value for name, value in periods.items()}
    process = synthesize(tmp_path / "out", environment, profile="small")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith(refusal)
    assert "Traceback" not in output


def test_the_command_says_what_is_wrong_and_writes_nothing(tmp_path: Path) -> None:
    process: subprocess.Popen[str] = synthesize(tmp_path / "out", profile="small", allowedCidr="0.0.0.0/0")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith("allowedCidr='0.0.0.0/0' is refused: ")
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("*.template.json"))


def test_a_finding_of_cdk_nag_that_is_not_acknowledged_fails_the_synthesis(tmp_path: Path) -> None:
    app = App(context=CONTEXT, outdir=str(tmp_path))
    build(app)
    infrastructure = app.node.find_child("InfrastructureStack")
    assert isinstance(infrastructure, InfrastructureStack)
    planted = infrastructure.network.group("Planted", description="Open to the world")
    planted.add_ingress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(8080))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    assert "AwsSolutions-EC23" in (tmp_path / "validation-report.json").read_text(encoding="utf-8")
