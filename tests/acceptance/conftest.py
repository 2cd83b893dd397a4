"""The whole stack, for who needs Airflow: started by one worker, ended with its last test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from infra.local import airflow, demo, lifecycle
from infra.local.stack import Stack
from infra.local.supervision import Supervisor
from tests.kit.aws import Server
from tests.kit.demonstration import Demonstration, demonstrate


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A busy machine gets more time than somebody who watches the demo."""
    with pytest.MonkeyPatch.context() as patch:
        for limit in ("PUBLISHED_WITHIN_SECONDS", "CHECKED_WITHIN_SECONDS"):
            patch.setattr(demo, limit, 600)
        yield


@pytest.fixture(scope="package")
def stack(services: Stack, template: str) -> Iterator[Stack]:  # noqa: ARG001 - copied before data come
    """The services with Airflow, whose DAGs are paused, and Prometheus where it is installed."""
    whole = replace(services, with_airflow=True, with_prometheus=True)
    lifecycle.up(whole)
    yield whole
    airflow.stop(whole)
    Supervisor(whole).stop_program("prometheus")


@pytest.fixture(scope="package")
def demonstration(stack: Stack) -> Demonstration:
    """What the demo left in the stack: a burst that Airflow has drained and published, and the health of it all."""
    return demonstrate(stack)


@pytest.fixture(scope="package", autouse=True)
def account(aws_server: Server) -> Iterator[None]:
    """What Airflow is to find of AWS, for a supervisor that a test starts."""
    with aws_server.account.known():
        yield
