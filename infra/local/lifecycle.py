"""Start and stop a stack."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import psycopg
from kafka.errors import KafkaError

from infra.local import airflow, generator, kafka, postgres, prometheus, spark_cds
from infra.local.components import Component, components
from infra.local.errors import StackError
from infra.local.files import exclusive, private_folder
from infra.local.java import Java, find_java
from infra.local.ports import require_free
from infra.local.stack import Stack
from infra.local.supervision import Program, Supervisor

UNHEALTHY = (StackError, OSError, httpx.HTTPError, psycopg.Error, KafkaError)
SHOWN_LOG_LINES = 15
POLL_SECONDS = 0.25
RESTARTS_SECONDS = 10  # a killed PostgreSQL starts only when the last of its old processes has ended

Report = Callable[[str], None]


def up(stack: Stack, *, report: Report = lambda _: None) -> None:
    """Start what does not run yet and return when every component is healthy.

    Args:
        stack: What to start.
        report: Gets a line for each step that has ended.

    Raises:
        StackError: Something that the owner can mend; the next ``up`` goes on from there.
    """
    java = find_java()
    _make_folder(stack)
    with locked(stack):
        supervisor = Supervisor(stack)
        if supervisor.is_running():
            _require_same(stack)
        elif supervisor.was_killed():
            report("ending what a killed supervisor has left")
            supervisor.shut_down()
        running = {name for name, info in supervisor.processes().items() if info["statename"] == "RUNNING"}
        for component in components(stack):
            for port in component.ports if component.name not in running else ():
                require_free(port, getattr(stack.ports, port))
        _Start(stack, java, supervisor, report).run()


class _Start:
    """One start of a stack: everything that may be is done at the same time."""

    def __init__(self, stack: Stack, java: Java, supervisor: Supervisor, report: Report) -> None:
        self._stack = stack
        self._java = java
        self._supervisor = supervisor
        self._report = report
        self._components = {component.name: component for component in components(stack)}

    def run(self) -> None:
        with ThreadPoolExecutor(max_workers=10) as pool:
            checks = [pool.submit(generator.check_settings, self._stack)]
            if self._stack.with_airflow:
                checks.append(pool.submit(airflow.check_settings, self._stack, self._java))
            cluster = pool.submit(postgres.prepare, self._stack)
            jars = pool.submit(kafka.fetch_jars, self._java)
            for step in (*checks, cluster):
                step.result()
            kafka.prepare(self._stack, self._java, jars.result())
            if self._stack.with_airflow:
                airflow.prepare(self._stack)
            self._supervisor.start(self._programs())
            self._stack.save()

            topic = pool.submit(self._start_kafka)
            self._start("postgres")
            postgres.ensure_roles(self._stack)
            schemas = pool.submit(self._migrate)
            if self._stack.with_airflow:
                airflow.migrate(self._stack, self._java)
            first = self._start_all(pool, "airflow-api-server", "airflow-dag-processor")
            for step in (topic, schemas):
                step.result()
            others = self._start_all(pool, "airflow-scheduler", "airflow-triggerer", "generator", "prometheus")
            for step in (*first, *others):
                step.result()
        if self._stack.with_airflow and not spark_cds.archive_path(self._java).exists():
            self._supervisor.start_program("spark-cds")

    def _programs(self) -> list[Program]:
        stack, java = self._stack, self._java
        programs = [
            postgres.program(stack),
            kafka.program(stack, java, kafka.fetch_jars(java)),
        ]
        if stack.with_airflow:
            programs += [*airflow.programs(stack, java), spark_cds.program(java)]
        if "generator" in self._components:
            programs.append(generator.program(stack))
        binary = prometheus.find_binary()
        if "prometheus" in self._components and binary:
            prometheus.prepare(stack)
            programs.append(prometheus.program(stack, binary))
        return programs

    def _start_kafka(self) -> None:
        self._start("kafka")
        kafka.ensure_topic(self._stack)

    def _migrate(self) -> None:
        began = time.monotonic()
        postgres.migrate(self._stack)
        self._report(f"schemas migrated in {time.monotonic() - began:.1f} s")

    def _start_all(self, pool: ThreadPoolExecutor, *names: str) -> list[Future[None]]:
        return [pool.submit(self._start, name) for name in names if name in self._components]

    def _start(self, name: str) -> None:
        began = time.monotonic()
        self._supervisor.start_program(name)
        wait_until_healthy(self._stack, self._supervisor, self._components[name])
        self._report(f"{name} healthy in {time.monotonic() - began:.1f} s")


def wait_until_healthy(stack: Stack, supervisor: Supervisor, component: Component) -> None:
    """Wait until a started component is healthy.

    Raises:
        StackError: It ends instead, or takes longer than it may; shows the last lines of its log.
    """
    began = time.monotonic()
    while True:
        info = supervisor.process(component.name)
        waited = time.monotonic() - began
        if has_done_its_work(info):
            return
        ended = info["statename"] in {"BACKOFF", "EXITED"} and waited > RESTARTS_SECONDS
        if ended or info["statename"] == "FATAL":
            raise _not_healthy(stack, component, why_it_ended(info))
        try:
            component.probe(stack, info["start"])
        except UNHEALTHY as error:
            if waited > component.start_seconds:
                reason = f"not healthy after {component.start_seconds} s: {error}"
                raise _not_healthy(stack, component, reason) from error
        else:
            return
        time.sleep(POLL_SECONDS)


def why_it_ended(info: dict[str, Any]) -> str:
    """Say in words what supervisord knows about a process that ended."""
    return str(info["spawnerr"]) or f"it ended with code {info['exitstatus']}"


def has_done_its_work(info: dict[str, Any]) -> bool:
    """Say whether supervisord tells of a generator that ended after its number of minutes."""
    return bool(info["name"] == "generator" and info["statename"] == "EXITED" and info["exitstatus"] == 0)


def _not_healthy(stack: Stack, component: Component, reason: str) -> StackError:
    log = stack.log(component.name)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    telling = [line for line in lines if not line.startswith("\tat ")]  # Java's stack traces hide the message
    shown = "\n".join(f"  | {line}" for line in telling[-SHOWN_LOG_LINES:])
    return StackError(
        f"{component.name} did not start: {reason}\n{shown}",
        remedy=f"Its log: {log}. Correct the cause and run `make up` again, or `make down` to stop the others.",
    )


def restart(stack: Stack, name: str) -> None:
    """Stop one component in its orderly way, start it, and return when it is healthy again."""
    supervisor = Supervisor(stack)
    supervisor.stop_program(name)
    supervisor.start_program(name)
    component = next(component for component in components(stack) if component.name == name)
    wait_until_healthy(stack, supervisor, component)


def down(stack: Stack, *, report: Report = lambda _: None) -> None:
    """Stop everything and return when no process of the stack is left; its data stay.

    First what makes and moves data, then Kafka, then PostgreSQL. Running tasks get half a minute to end.

    Raises:
        StackError: Another command is starting or stopping this stack.
    """
    if not stack.folder.exists():
        return
    with locked(stack):
        supervisor = Supervisor(stack)
        if supervisor.is_running():
            for names in (
                ("generator", "airflow-scheduler", "spark-cds"),
                ("airflow-triggerer", "airflow-dag-processor", "airflow-api-server", "prometheus"),
                ("kafka",),
                ("postgres",),
            ):
                with ThreadPoolExecutor() as pool:
                    list(pool.map(supervisor.stop_program, names))
                report(f"stopped {', '.join(names)}")
        supervisor.shut_down()


def _make_folder(stack: Stack) -> None:
    private_folder(stack.folder)
    if postgres.runs_as_another_user():
        stack.folder.chmod(0o711)  # PostgreSQL passes through it to its own folder


def locked(stack: Stack) -> AbstractContextManager[None]:
    """Keep other commands from starting, stopping or changing the stack.

    Raises:
        StackError: One of them is at work.
    """
    return exclusive(stack.folder / "lock", what=f"starting or stopping the stack in {stack.folder}")


def _require_same(stack: Stack) -> None:
    saved = Stack.load(stack.folder)
    if saved is not None and saved.ports != stack.ports:
        raise StackError(
            f"The stack runs with the ports {saved.ports}, and now is to have {stack.ports}.",
            remedy="Run `make down` first, then `make up` with the new ports.",
        )
