"""AWS's database: whether it is available, has room, and waits for nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from clickstream.health import aws
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.provisioning.names import DEPLOYMENT, TAG

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKING = ("backing-up", "modifying", "storage-optimization", "maintenance", "upgrading")
LEAST_SHARE = 0.1
GIB = 1 << 30
MINUTES = timedelta(minutes=10)


def look(installation: Installation) -> Finding:
    """Find the databases with the pipeline's tag and ask how they are."""
    rds = aws.client(installation, "rds")
    tag = {"Key": TAG, "Value": DEPLOYMENT}
    found = [one for one in rds.describe_db_instances()["DBInstances"] if tag in one.get("TagList", [])]
    if not found:
        problem = "There is no database with the pipeline's tag: run provision_infrastructure."
        return finding("", [Problem(Status.DOWN, problem)])
    free = {one["DBInstanceIdentifier"]: _free(installation, one["DBInstanceIdentifier"]) for one in found}
    problems = [problem for one in found for problem in _problems(one, free[one["DBInstanceIdentifier"]])]
    return finding("; ".join(_shown(one, free[one["DBInstanceIdentifier"]]) for one in found) + ".", problems)


def _shown(database: dict[str, Any], free: float | None) -> str:
    room = "its free storage is not known yet" if free is None else f"{free / GIB:.1f} GiB free"
    return f"{database['DBInstanceIdentifier']}, {database['DBInstanceClass']}, {room}"


def _problems(database: dict[str, Any], free: float | None) -> Iterator[Problem]:
    name, status = database["DBInstanceIdentifier"], database["DBInstanceStatus"]
    if status in WORKING:
        yield Problem(Status.DEGRADED, f"Database {name} is {status}.")
    elif status != "available":
        start = f"aws rds start-db-instance --db-instance-identifier {name}"
        yield Problem(Status.DOWN, f"Database {name} is {status}. If it is stopped: {start}")
    if free is not None and free < LEAST_SHARE * database["AllocatedStorage"] * GIB:
        yield Problem(
            Status.DEGRADED,
            f"Database {name} has {free / GIB:.1f} GiB of {database['AllocatedStorage']} GiB left; it grows by itself"
            f" up to {database.get('MaxAllocatedStorage', database['AllocatedStorage'])} GiB.",
        )
    if waiting := sorted(database.get("PendingModifiedValues", {})):
        yield Problem(
            Status.DEGRADED, f"Database {name} waits for its maintenance window with changes of {', '.join(waiting)}."
        )


def _free(installation: Installation, name: str) -> float | None:
    """Free storage in bytes as CloudWatch last heard it, None where it has heard nothing."""
    now = datetime.now(UTC)
    answer = aws.client(installation, "cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS",
        MetricName="FreeStorageSpace",
        Dimensions=[{"Name": "DBInstanceIdentifier", "Value": name}],
        StartTime=now - MINUTES,
        EndTime=now,
        Period=60,
        Statistics=["Minimum"],
    )["Datapoints"]
    return float(max(answer, key=lambda point: point["Timestamp"])["Minimum"]) if answer else None


CHECK = Check(
    component="aws_rds",
    look=look,
    remedy=aws.REACH,
    slow_seconds=aws.SLOW_SECONDS,
    deadline_seconds=aws.DEADLINE_SECONDS,
    configured=aws.is_configured,
)
