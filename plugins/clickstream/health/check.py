"""What a check is, what it looks at, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from psycopg import Connection

    from clickstream.health.spark import Master
    from clickstream.settings import Settings


class Status(StrEnum):
    """How a component is, from good to bad."""

    OK = "ok"
    DEGRADED = "degraded"  # it works, but needs attention
    DOWN = "down"  # it does not do its work


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is checked. A connection that can't even be looked up fails only the checks that need it.

    Attributes:
        settings: The pipeline's settings.
        connect: Opens an autocommit connection to the ledger as `clickstream_writer`.
        spark: Looks up where Spark jobs are submitted.
        airflow_url: Looks up the base URL of Airflow's API server.
    """

    settings: Settings
    connect: Callable[[], AbstractContextManager[Connection[Any]]]
    spark: Callable[[], Master]
    airflow_url: Callable[[], str]


@dataclass(frozen=True)
class Problem:
    """One thing that isn't as it should be: what it is and what to do."""

    status: Status
    text: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        status: The worst of its problems.
        reason: Each problem with its remedy, then what else was found.
        latency_seconds: What was measured, where that isn't how long the whole check took.
    """

    status: Status
    reason: str
    latency_seconds: float | None = None


def finding(found: str, problems: Iterable[Problem] = (), *, latency_seconds: float | None = None) -> Finding:
    """What was found, and the problems in it, the worst first."""
    order = list(Status)
    sorted_problems = sorted(problems, key=lambda problem: order.index(problem.status), reverse=True)
    return Finding(
        status=sorted_problems[0].status if sorted_problems else Status.OK,
        reason=" ".join([*(problem.text for problem in sorted_problems), found]),
        latency_seconds=latency_seconds,
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of one component.

    Attributes:
        component: Its name in `ledger.health_checks`.
        look: Looks, and raises where the component can't be used at all.
        remedy: What to do when it raises, is slow or gives no answer.
        slow_seconds: A greater latency is degraded.
        deadline_seconds: With no answer by then it is down.
        configured: Whether the installation has this component; without it there is no row.
    """

    component: str
    look: Callable[[Installation], Finding]
    remedy: str
    slow_seconds: float
    deadline_seconds: float
    configured: Callable[[Settings], bool] = lambda _: True
