"""What the templates cost a month at list prices, each line with its assumption.

Every type of resource in a template has a rule here or is free; one that has neither is an error, so that no cost is
left out by silence.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clickstream.errors import CostUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PRICES = Path(__file__).with_name("prices.json")
HOURS = Decimal(730)
MINUTES = HOURS * 60
CENT = Decimal("0.01")
CREDIT = Decimal(200)
"""USD: the most that an account opened since 15 July 2025 gets, half of it when it is opened."""

INVOCATION_SECONDS = Decimal(2)
WRITES_A_MINUTE = Decimal(60)
STORED_GB = Decimal(20)
LOGGED_GB = Decimal("0.5")
NAT_GB = Decimal(10)
DETAILED_METRICS = Decimal(7)
SPARK_VCPUS, SPARK_GB, SPARK_SHARE = Decimal(8), Decimal(32), Decimal("0.25")

FREE = {
    "AWS::Events::Rule": "schedules of the default bus are free",
    "AWS::IAM::InstanceProfile": "IAM is free",
    "AWS::IAM::Policy": "IAM is free",
    "AWS::IAM::Role": "IAM is free",
    "AWS::SNS::Topic": "the first 1,000 mails a month are free",
    "AWS::SQS::Queue": "the first million requests a month are free",
    "AWS::SSM::Parameter": "standard parameters are free",
    "AWS::EC2::VPC": "networks are free, what passes their gateways is not",
    **dict.fromkeys(
        (
            "AWS::CDK::Metadata", "AWS::EC2::FlowLog", "AWS::EC2::InternetGateway", "AWS::EC2::Route",
            "AWS::EC2::RouteTable", "AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupEgress",
            "AWS::EC2::SecurityGroupIngress", "AWS::EC2::Subnet", "AWS::EC2::SubnetRouteTableAssociation",
            "AWS::EC2::VPCGatewayAttachment", "AWS::EC2::VolumeAttachment", "AWS::Lambda::EventInvokeConfig",
            "AWS::Lambda::Permission", "AWS::MSK::BatchScramSecret", "AWS::MSK::Configuration",
            "AWS::RDS::DBParameterGroup", "AWS::RDS::DBSubnetGroup", "AWS::S3::BucketPolicy", "AWS::SNS::Subscription",
            "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy", "AWS::SecretsManager::ResourcePolicy",
            "AWS::SecretsManager::RotationSchedule", "AWS::SecretsManager::SecretTargetAttachment", "Custom::AWS",
        ),
        "a part of what it belongs to",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing that is paid for.

    Attributes:
        label: What it is.
        quantity: How much of it a month.
        unit: Of the quantity and the price.
        unit_price: USD.
        assumption: What the quantity rests on.
    """

    label: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    assumption: str

    @property
    def monthly(self) -> Decimal:
        """USD a month."""
        return self.quantity * self.unit_price


@dataclass(frozen=True)
class Estimate:
    """All lines of a template, the dearest first."""

    lines: tuple[Line, ...]

    @property
    def monthly(self) -> Decimal:
        """USD a month, to the cent."""
        return sum((line.monthly for line in self.lines), Decimal(0)).quantize(CENT)


@dataclass(frozen=True)
class Prices:
    """The list prices of a region.

    Attributes:
        as_of: The day on which they were written down.
        region: Whose they are.
    """

    as_of: str
    region: str
    _of: Mapping[str, Decimal]

    def line(self, item: str, quantity: Decimal, *, label: str, unit: str, assumption: str) -> Line:
        """A line at the price of an item.

        Raises:
            CostUnknown: It has no price here.
        """
        if item not in self._of:
            raise CostUnknown(
                f"{item!r} has no price in {self.region}. Add it, with its source's date, to {PRICES.name}."
            )
        return Line(label=label, quantity=quantity, unit=unit, unit_price=self._of[item], assumption=assumption)

    def hours(self, item: str, *, label: str, count: Decimal = Decimal(1), assumption: str = "all month") -> Line:
        """A line of something that is paid by the hour, all month."""
        return self.line(item, HOURS * count, label=label, unit="hour", assumption=assumption)


@cache
def prices(region: str) -> Prices:
    """The prices of a region.

    Raises:
        CostUnknown: There are none.
    """
    found = json.loads(PRICES.read_text(encoding="utf-8"), parse_float=Decimal)
    if region not in found["regions"]:
        known = ", ".join(sorted(found["regions"]))
        raise CostUnknown(f"There are no prices of {region}, only of {known}. Add them to {PRICES.name}.")
    return Prices(found["as_of"], region, found["regions"][region])


def monthly_cost(template: Mapping[str, Any], *, region: str) -> Estimate:
    """What a template costs.

    Raises:
        CostUnknown: A type of resource has neither a rule nor is it known to be free, or a price is missing.
    """
    of = prices(region)
    lines: Counter[Line] = Counter()
    for name, resource in template["Resources"].items():
        kind = resource["Type"]
        if kind in FREE:
            continue
        if kind not in RULES:
            raise CostUnknown(
                f"Nobody has said what {kind} ({name}) costs. Add a rule, or to FREE, in {Path(__file__).name}."
            )
        lines.update(RULES[kind](resource.get("Properties", {}), of))
    merged = [
        Line(
            label=line.label,
            quantity=line.quantity * count,
            unit=line.unit,
            unit_price=line.unit_price,
            assumption=f"{count} of them; {line.assumption}" if count > 1 else line.assumption,
        )
        for line, count in lines.items()
    ]
    return Estimate(tuple(sorted(merged, key=lambda line: -line.monthly)))


def _instance(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    kind = properties["InstanceType"]
    yield of.hours(
        kind, label=f"host {kind}", assumption="all month, on demand; a year's commitment takes off about a third"
    )
    for disk in properties.get("BlockDeviceMappings", ()):
        yield _gigabytes(of, "volume GB-month", disk["Ebs"]["VolumeSize"], "system disk, gp3")
    if properties.get("Monitoring"):
        yield of.line(
            "metric month", DETAILED_METRICS, label="host's metrics each minute", unit="metric", assumption="7 metrics"
        )


def _volume(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    yield _gigabytes(of, "volume GB-month", properties["Size"], "data volume, gp3")


def _database(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    zones = Decimal(2 if properties.get("MultiAZ") else 1)
    kind = properties["DBInstanceClass"]
    what = "replica" if "SourceDBInstanceIdentifier" in properties else "database"
    yield of.hours(kind, label=f"{what} {kind}", count=zones, assumption=f"all month, zones: {zones}")
    if "AllocatedStorage" in properties or what == "replica":
        size = Decimal(properties.get("AllocatedStorage", 100)) * zones
        yield _gigabytes(of, "database GB-month", size, f"{what}'s storage, gp3; backups up to its size are free")


def _gigabytes(of: Prices, item: str, size: object, label: str) -> Line:
    return of.line(item, Decimal(str(size)), label=label, unit="GB-month", assumption="the size that is allocated")


def _endpoint(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    if properties.get("VpcEndpointType") == "Interface":
        zones = Decimal(len(properties["SubnetIds"]))
        yield of.hours("interface endpoint hour", label="interface endpoint", count=zones, assumption=f"zones: {zones}")


def _address(_: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    yield of.hours("address hour", label="public IPv4 address")


def _nat(_: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    yield of.hours("NAT hour", label="NAT gateway")
    yield of.line(
        "NAT GB", NAT_GB, label="through the NAT", unit="GB", assumption="Airflow's packages and calls of AWS"
    )


def _function(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    if properties.get("Handler") != "clickstream_generator.handler":
        return  # runs at deployments only
    memory = Decimal(properties["MemorySize"]) / 1024
    yield of.line(
        "Lambda million requests", MINUTES / 10**6, label="generator's calls", unit="million", assumption="one a minute"
    )
    yield of.line(
        "Lambda GB-second",
        MINUTES * INVOCATION_SECONDS * memory,
        label="generator's time",
        unit="GB-second",
        assumption=f"{INVOCATION_SECONDS} s each; always free up to 400,000",
    )


def _bucket(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    if "clickstream-data" not in str(properties.get("BucketName")):
        return  # DAGs and templates: less than a cent
    yield of.line(
        "S3 GB-month",
        STORED_GB,
        label="zones on S3",
        unit="GB-month",
        assumption="three months at 600 events a minute; docs/sizing.md for other rates",
    )
    yield of.line(
        "S3 1,000 writes",
        MINUTES * WRITES_A_MINUTE / 1000,
        label="writes to S3",
        unit="1,000 writes",
        assumption=f"a batch a minute, {WRITES_A_MINUTE} objects each; a batch every 5 minutes costs a fifth",
    )


def _log_group(_: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    yield of.line("log GB", LOGGED_GB, label="logs", unit="GB", assumption=f"{LOGGED_GB} GB a month each")


def _secret(_: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    yield of.line("secret month", Decimal(1), label="secret", unit="secret", assumption="a month")


def _alarm(_: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    yield of.line("alarm month", Decimal(1), label="alarm", unit="alarm", assumption="always free up to 10")


def _key(_: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    yield of.line("key month", Decimal(1), label="encryption key", unit="key", assumption="a month")


def _brokers(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    count, nodes = Decimal(properties["NumberOfBrokerNodes"]), properties["BrokerNodeGroupInfo"]
    kind = nodes["InstanceType"]
    yield of.hours(kind, label=f"brokers {kind}", count=count, assumption=f"brokers: {count}")
    size = Decimal(nodes["StorageInfo"]["EBSStorageInfo"]["VolumeSize"]) * count
    yield _gigabytes(of, "broker GB-month", size, "brokers' storage")


def _managed_airflow(properties: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    kind = properties["EnvironmentClass"]
    yield of.hours(kind, label=f"managed Airflow {kind}", assumption="all month, one worker, which it includes")


def _managed_spark(_: Mapping[str, Any], of: Prices) -> Iterator[Line]:
    busy = HOURS * SPARK_SHARE
    assumption = f"busy {SPARK_SHARE:.0%} of the time, with {SPARK_VCPUS} vCPUs and {SPARK_GB} GB"
    yield of.line(
        "Spark vCPU hour", busy * SPARK_VCPUS, label="managed Spark, vCPUs", unit="vCPU-hour", assumption=assumption
    )
    yield of.line(
        "Spark GB hour", busy * SPARK_GB, label="managed Spark, memory", unit="GB-hour", assumption=assumption
    )


RULES: Mapping[str, Callable[[Mapping[str, Any], Prices], Iterator[Line]]] = {
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::EC2::EIP": _address,
    "AWS::EC2::Instance": _instance,
    "AWS::EC2::NatGateway": _nat,
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EC2::Volume": _volume,
    "AWS::EMRServerless::Application": _managed_spark,
    "AWS::KMS::Key": _key,
    "AWS::Lambda::Function": _function,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::MSK::Cluster": _brokers,
    "AWS::MWAA::Environment": _managed_airflow,
    "AWS::RDS::DBInstance": _database,
    "AWS::S3::Bucket": _bucket,
    "AWS::SecretsManager::Secret": _secret,
}
