"""The stack's components: what runs, where it listens, and how to tell that it is healthy."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from infra.local import airflow, kafka, postgres, prometheus
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK
from infra.local.stack import Stack

Probe = Callable[[Stack, float], None]


@dataclass(frozen=True, kw_only=True)
class Component:
    """One component of a stack.

    Attributes:
        name: Its name, also that of its program and of its log.
        address: Its URL or host:port; empty when it does not listen.
        ports: Names of its ports in ``Ports``.
        probe: Raises when it is not healthy; gets the stack and when its process started (Unix time).
        start_seconds: How long it may take to get healthy.
    """

    name: str
    probe: Probe
    address: str = ""
    ports: tuple[str, ...] = ()
    start_seconds: int = 60


def components(stack: Stack) -> list[Component]:
    """Return the components that the stack runs, in the order of the status table."""
    broker = Component(
        name="kafka",
        address=stack.bootstrap_servers,
        ports=("kafka", "kafka_controller"),
        probe=lambda stack, _: kafka.probe(stack),
    )
    database = Component(
        name="postgres",
        address=f"{LOOPBACK}:{stack.ports.postgres}",
        ports=("postgres",),
        probe=lambda stack, _: postgres.probe(stack),
        start_seconds=120,  # a crash leaves a write-ahead log to replay
    )
    found = [database, broker, *(_airflow(stack) if stack.with_airflow else [])]
    if stack.with_generator:
        found.append(Component(name="generator", probe=lambda _stack, _started: None))
    if stack.with_prometheus and prometheus.find_binary():
        found.append(
            Component(
                name="prometheus",
                address=stack.prometheus_url,
                ports=("prometheus",),
                probe=lambda stack, _: prometheus.probe(stack),
            )
        )
    return found


def _airflow(stack: Stack) -> list[Component]:
    api_server = Component(
        name="airflow-api-server",
        address=stack.airflow_url,
        ports=("airflow",),
        probe=lambda stack, _: _heartbeat_is_new(stack, None, 0),
        start_seconds=120,
    )
    return [
        api_server,
        Component(
            name="airflow-scheduler",
            probe=lambda stack, started: _heartbeat_is_new(stack, "scheduler", started),
            start_seconds=120,
        ),
        Component(
            name="airflow-triggerer",
            probe=lambda stack, started: _heartbeat_is_new(stack, "triggerer", started),
            start_seconds=120,
        ),
        Component(
            name="airflow-dag-processor",
            probe=lambda stack, started: _heartbeat_is_new(stack, "dag_processor", started),
            start_seconds=120,
        ),
    ]


def _heartbeat_is_new(stack: Stack, component: str | None, started: float) -> None:
    """Check the last heartbeat, which may be that of a process before this one."""
    beat = airflow.heartbeat(stack, component)
    if beat is not None and datetime.fromisoformat(beat).timestamp() < started:
        raise StackError(f"the last heartbeat, {beat}, is older than the process", remedy="Wait.")
