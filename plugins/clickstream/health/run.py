"""Run every check at the same time, each with a deadline of its own, and write down what they found."""

from __future__ import annotations

import logging
import re
import time
from threading import Thread
from typing import TYPE_CHECKING, Any

from clickstream.errors import ClickstreamError, ComponentsDown, HealthNotRecorded
from clickstream.health import (
    airflow,
    aws_ec2,
    aws_lambda,
    aws_rds,
    aws_stacks,
    generator,
    grafana,
    kafka,
    kafka_canary,
    ledger,
    postgresql,
    prometheus,
    spark,
    storage,
)
from clickstream.health.check import Check, Finding, Installation, Status
from clickstream.ledger import health as ledger_health
from clickstream.ledger.health import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection

log = logging.getLogger(__name__)

CHECKS: tuple[Check, ...] = (
    kafka.CHECK,
    kafka_canary.CHECK,
    postgresql.CHECK,
    ledger.CHECK,
    spark.CHECK,
    storage.CHECK,
    generator.CHECK,
    *airflow.CHECKS,
    prometheus.CHECK,
    grafana.CHECK,
    aws_stacks.CHECK,
    aws_ec2.CHECK,
    aws_rds.CHECK,
    aws_lambda.CHECK,
)
WRITE_TIMEOUT_MS = 10_000
MOST_REASON_CHARACTERS = 2_000


class _Look(Thread):
    """One check at work; what it found is there once it has ended."""

    def __init__(self, check: Check, installation: Installation) -> None:
        super().__init__(name=f"check-{check.component}", daemon=True)
        self.check = check
        self._installation = installation
        self._began = time.monotonic()
        self._row: Row | None = None

    def run(self) -> None:
        began = time.monotonic()
        try:
            found = self.check.look(self._installation)
        except ClickstreamError as error:  # says itself what to do
            found = Finding(status=Status.DOWN, reason=str(error))
        except Exception as error:
            log.debug("%s raised", self.check.component, exc_info=True)
            found = Finding(status=Status.DOWN, reason=f"{type(error).__name__}: {error} {self.check.remedy}")
        took = time.monotonic() - began
        self._row = _row(self.check, found, took if found.latency_seconds is None else found.latency_seconds)

    def row(self) -> Row:
        """What it found, or that it has found nothing by its deadline."""
        deadline = self.check.deadline_seconds
        self.join(max(0.0, self._began + deadline - time.monotonic()))
        return self._row or _row(
            self.check,
            Finding(status=Status.DOWN, reason=f"No answer within {deadline:g} s. {self.check.remedy}"),
            deadline,
        )


def _row(check: Check, found: Finding, latency: float) -> Row:
    status, reason = found.status, found.reason
    if latency > check.slow_seconds and status != Status.DOWN:
        status = Status.DEGRADED
        reason = f"Slow: {latency:.1f} s, more than {check.slow_seconds:g} s. {check.remedy} {reason}"
    return Row(component=check.component, status=status, latency_seconds=latency, reason=_public(reason))


def _public(reason: str) -> str:
    """The reason in one line that everyone may read: without the credentials of a URL."""
    line = " ".join(re.sub(r"://[^/@\s]+@", "://***@", reason).replace("\0", " ").split())
    return line[:MOST_REASON_CHARACTERS]


def run(installation: Installation, checks: Iterable[Check] = CHECKS) -> list[Row]:
    """Run the checks of what is configured; returns a row for each, whatever any of them does."""
    looks = [_Look(check, installation) for check in checks if check.configured(installation.settings)]
    for look in looks:
        look.start()
    return [look.row() for look in looks]


def check(installation: Installation, dag_run_id: str, checks: Iterable[Check] = CHECKS) -> int:
    """Run the checks and write their rows; returns how many.

    Raises:
        HealthNotRecorded: The rows can't be written; lists them.
    """
    rows = run(installation, checks)
    log.info("Found:\n%s", _listing(rows))
    try:
        with installation.connect() as conn:
            ledger_health.limit_statements(conn, WRITE_TIMEOUT_MS)
            ledger_health.record(conn, rows, dag_run_id)
    except Exception as error:
        raise HealthNotRecorded(
            f"What was found can't be written to ledger.health_checks ({_public(str(error))}). Mend PostgreSQL first;"
            f" the drain can't work without it either.\n{_listing(rows)}"
        ) from error
    return len(rows)


def report(conn: Connection[Any], dag_run_id: str) -> None:
    """Say what isn't ok in a run, and fail if anything is down.

    Raises:
        ComponentsDown: With every component that isn't ok, its reason and its remedy.
        HealthNotRecorded: If the run has written nothing, or its rows are older than a week.
    """
    rows = ledger_health.rows_of(conn, dag_run_id)
    if not rows:
        raise HealthNotRecorded(f"ledger.health_checks has no row of run {dag_run_id}. Trigger check_health anew.")
    wrong = [row for row in rows if row.status != Status.OK]
    down = [row for row in wrong if row.status == Status.DOWN]
    if down:
        raise ComponentsDown(f"{len(down)} of {len(rows)} components are down.\n{_listing(wrong)}")
    log.info("None of %d components is down.%s", len(rows), f"\n{_listing(wrong)}" if wrong else "")


def _listing(rows: Sequence[Row]) -> str:
    return "\n".join(
        f"- [{row.status}] {row.component}, {row.latency_seconds * 1000:.0f} ms: {row.reason}" for row in rows
    )
