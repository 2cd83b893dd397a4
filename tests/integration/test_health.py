"""Each check, with its component really down, slow or wrong: the row says so, and what to do."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError

from clickstream import broker, broker_access
from clickstream.errors import ComponentsDown, HealthNotRecorded
from clickstream.health import (
    airflow,
    fetch,
    gate,
    generator,
    grafana,
    kafka,
    kafka_canary,
    ledger,
    postgresql,
    prometheus,
    run,
    spark,
    storage,
)
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.health.spark import Master
from clickstream.ledger import erasures
from clickstream.ledger import health as ledger_health
from clickstream.settings import Settings
from infra.local import prometheus as local_prometheus
from infra.local.java import find_java
from infra.local.ports import LOOPBACK, free_ports, is_free
from infra.local.supervision import base_environment
from tests.kit.installations import (
    CLOSED_PORT,
    NOWHERE,
    disk,
    installation,
    look,
    patient,
    prometheus_configuration,
    says,
    serving,
    silent_server,
    spark_daemon,
    started,
    two_brokers,
)
from tests.kit.pipeline import RUN, Pipeline, alter_topic
from tests.kit.rollback import RolledBack
from tests.kit.services import superuser
from tests.kit.waiting import eventually


@pytest.fixture
def here(shared: Pipeline, tmp_path: Path) -> Pipeline:
    """With the name of a topic and a folder of the test's own, for checks that leave the ledger as it is."""
    own = {"topic": f"t_{uuid4().hex[:12]}", "storage_url": (tmp_path / "storage").as_uri()}
    (tmp_path / "storage").mkdir()
    return replace(shared, settings=shared.settings.model_copy(update=own))


# Kafka


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absent broker is given up after a second."""
    monkeypatch.setattr(broker_access, "BOOTSTRAP_MILLISECONDS", 1_000)


@pytest.fixture(scope="module")
def brokers() -> Iterator[tuple[Settings, list[Popen[bytes]]]]:
    """Two brokers, to be stopped by the tests in their order; a topic on both and one on the second alone."""
    with two_brokers() as (stack, processes):
        settings = Settings(
            kafka_bootstrap_servers=stack.bootstrap_servers, topic="replicated", storage_url="file:///nowhere"
        )
        topics = [
            NewTopic(
                name,
                replica_assignments={0: replicas},
                topic_configs=kafka.CONTRACT | {"retention.ms": str(7 * 86_400_000)},
            )
            for name, replicas in (("replicated", [1, 2]), ("on-the-second", [2]))
        ]

        def both_have_them() -> bool:
            try:
                with broker.admin_of(settings) as admin:
                    known = admin.list_topics()
                    if missing := [topic for topic in topics if topic.name not in known]:
                        admin.create_topics(missing)
                        return False
                    return all(
                        set(one["isr_nodes"]) == set(one["replica_nodes"])
                        for topic in topics
                        for one in broker.described(admin, topic.name)["partitions"]
                    )
            except KafkaError:  # the second broker is not there yet
                return False

        assert eventually(lambda: not is_free(stack.ports.kafka))
        assert eventually(both_have_them)
        yield settings, processes


def of_brokers(pipeline: Pipeline, settings: Settings, topic: str = "replicated") -> Installation:
    return installation(pipeline, kafka_bootstrap_servers=settings.kafka_bootstrap_servers, topic=topic)


def test_kafka_is_fine_with_every_replica_and_the_canary_makes_its_topic(
    here: Pipeline, brokers: tuple[Settings, list[Popen[bytes]]]
) -> None:
    settings, _ = brokers
    where = of_brokers(here, settings)
    says(look(kafka.CHECK, where), "ok", "Brokers: 2; partitions of replicated: 1.")
    says(look(kafka_canary.CHECK, where), "ok", "the topic was made for it")
    again = look(kafka_canary.CHECK, where)
    says(again, "ok", f"after {again.latency_seconds:.2f} s.")
    with broker.admin_of(settings) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, kafka_canary.TOPIC)
        configs = admin.describe_configs([resource], config_filter="all")["topic"][kafka_canary.TOPIC]
        assert {name: configs[name]["value"] for name in kafka_canary.TOPIC_CONFIGS} == kafka_canary.TOPIC_CONFIGS
    with broker.consumer_of(settings) as consumer:
        assert consumer.end_offsets([kafka_canary.PARTITION]) == {kafka_canary.PARTITION: 2}


def test_a_slow_broker_shows_in_the_round_trip(
    here: Pipeline, brokers: tuple[Settings, list[Popen[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, processes = brokers
    send = KafkaProducer.send

    def send_while_they_stand_still(producer: KafkaProducer, *arguments: Any, **options: Any) -> Any:
        for one in processes:  # either may lead the canary's partition
            one.send_signal(signal.SIGSTOP)
            threading.Timer(0.5, one.send_signal, [signal.SIGCONT]).start()
        return send(producer, *arguments, **options)

    monkeypatch.setattr(KafkaProducer, "send", send_while_they_stand_still)
    row = look(kafka_canary.CHECK, of_brokers(here, settings), slow_seconds=0.3)
    says(row, "degraded", "Slow: ", "more than 0.3 s. See the brokers' logs and load")
    assert row.latency_seconds > 0.4


def test_a_missing_replica_and_a_missing_leader(here: Pipeline, brokers: tuple[Settings, list[Popen[bytes]]]) -> None:
    settings, (_, second) = brokers
    second.terminate()
    second.wait(120)
    row = look(kafka.CHECK, of_brokers(here, settings))
    says(row, "degraded", "replicated/0 is under-replicated: broker 2 holds no current copy. Start it")
    row = look(kafka.CHECK, of_brokers(here, settings, "on-the-second"))
    says(row, "down", "on-the-second/0 has no leader: start its brokers (2).")
    alter_topic(settings, **{"min.insync.replicas": "2"})
    row = look(kafka.CHECK, of_brokers(here, settings))
    says(row, "degraded", "Until then producers are refused (min.insync.replicas).")


@pytest.mark.usefixtures("soon")
def test_a_stopped_broker(here: Pipeline, brokers: tuple[Settings, list[Popen[bytes]]]) -> None:
    settings, (first, _) = brokers
    first.kill()
    first.wait()
    rows = run.run(of_brokers(here, settings), [kafka.CHECK, kafka_canary.CHECK])
    says(rows[0], "down", "CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS run and can be reached")
    says(rows[1], "down", "See the brokers' logs and load")


@pytest.mark.usefixtures("soon")
def test_a_broker_that_accepts_and_never_answers(here: Pipeline) -> None:
    with silent_server() as port:
        where = installation(here, kafka_bootstrap_servers=f"{LOOPBACK}:{port}")
        for row in run.run(where, [kafka.CHECK, kafka_canary.CHECK]):
            says(row, "down", "See ")
            assert row.latency_seconds < 10


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        (
            {"message.timestamp.type": "CreateTime"},
            "message.timestamp.type of {} is CreateTime, but must be LogAppendTime: set it with kafka-configs --alter",
        ),
        ({"retention.ms": "60000"}, "retention.ms of {} is 60000, but must be 86400000 or more (24 h): set it"),
        (
            {"retention.ms": "172800000"},
            "retention.ms of {} is 172800000, but must be 604800000 or more (CLICKSTREAM_KEEP_KAFKA_DAYS=7): set it",
        ),
        *(
            (
                {"retention.ms": longer},
                f"retention.ms of {{}} is {longer}, but must be 7689600000 or less (CLICKSTREAM_KEEP_EVENTS_DAYS less",
            )
            for longer in ("7689600001", "-1")
        ),
        ({"cleanup.policy": "compact"}, "cleanup.policy of {} is compact, but must be delete"),
        ({"max.message.bytes": "1000"}, "max.message.bytes of {} is 1000, but must be 2097152"),
    ],
)
def test_a_topic_against_the_contract(here: Pipeline, configs: dict[str, str], words: str) -> None:
    here.create_topic(**configs)
    says(look(kafka.CHECK, installation(here)), "degraded", words.format(here.settings.topic))


def test_a_missing_topic(here: Pipeline) -> None:
    words = "Create it with message.timestamp.type=LogAppendTime, or correct CLICKSTREAM_TOPIC."
    says(look(kafka.CHECK, installation(here)), "down", words)
    here.create_topic()
    says(look(kafka.CHECK, installation(here)), "ok")


def test_each_canary_waits_for_its_own_record(here: Pipeline) -> None:
    says(look(kafka_canary.CHECK, installation(here)), "ok")
    rows = run.run(installation(here), [patient(kafka_canary.CHECK)] * 3)
    assert [row.status for row in rows] == ["ok"] * 3


# PostgreSQL

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def elsewhere(pipeline: Pipeline, port: int, options: str = "") -> Callable[[], psycopg.Connection[Any]]:
    dsn = pipeline.dsn.replace(f":{pipeline.stack.ports.postgres}/", f":{port}/")
    return lambda: psycopg.connect(f"{dsn}{options}", autocommit=True)


def test_postgresql_takes_a_write_and_does_not_grow(pipeline: Pipeline) -> None:
    for _ in range(3):
        says(look(postgresql.CHECK, installation(pipeline)), "ok", "Written and read back; ", "connections in use")
    assert pipeline.one("SELECT count(*) FROM ledger.write_probe") == 1


def test_an_absent_postgresql(here: Pipeline) -> None:
    for check in (postgresql.CHECK, ledger.CHECK):
        row = look(check, installation(here, connect=elsewhere(here, CLOSED_PORT)))
        says(row, "down", "Connection refused", check.remedy)
        assert "clickstream_writer:" not in row.reason


def test_a_postgresql_that_accepts_and_never_answers(here: Pipeline) -> None:
    with silent_server() as port:
        where = installation(here, connect=elsewhere(here, port, "?connect_timeout=2"))
        says(look(postgresql.CHECK, where), "down", "timeout expired", "See whether the server")


def test_a_postgresql_that_is_slow_and_one_that_is_stuck(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with pipeline.connect() as other, ExitStack() as held:
        transaction = held.enter_context(ExitStack())
        transaction.enter_context(other.transaction())
        other.execute("LOCK TABLE ledger.write_probe IN ACCESS EXCLUSIVE MODE")
        monkeypatch.setattr(postgresql, "STATEMENT_TIMEOUT_MS", 300)
        says(look(postgresql.CHECK, installation(pipeline)), "down", "statement timeout", "its locks (pg_locks)")
        monkeypatch.undo()

        def let_go() -> None:
            eventually(lambda: pipeline.one(WAITING) == 1)
            time.sleep(0.3)
            transaction.close()

        threading.Thread(target=let_go).start()
        row = look(postgresql.CHECK, installation(pipeline), slow_seconds=0.2)
        says(row, "degraded", "Slow: ", "more than 0.2 s", "Written and read back")
        assert row.latency_seconds > 0.3


def test_a_role_that_may_not_write(here: Pipeline) -> None:
    password = (here.stack.secrets / "grafana_reader").read_text()
    where = installation(
        here,
        connect=lambda: psycopg.connect(here.dsn, user="grafana_reader", password=password, autocommit=True),
    )
    words = "permission denied for table write_probe", "whether clickstream_writer may write the schema ledger"
    says(look(postgresql.CHECK, where), "down", *words)


def test_a_database_set_to_read_only(pipeline: Pipeline) -> None:
    with superuser(pipeline.stack) as conn:
        conn.execute(f"ALTER DATABASE {pipeline.database} SET default_transaction_read_only = on")
    says(look(postgresql.CHECK, installation(pipeline)), "down", "read-only transaction", "clickstream_db")


def test_connections_nearly_used_up(pipeline: Pipeline) -> None:
    most = ledger_health.connections(pipeline.conn).most
    with ExitStack() as opened:
        while ledger_health.connections(pipeline.conn).used <= 0.8 * most + 5:  # others may close theirs meanwhile
            opened.enter_context(pipeline.connect())
        row = look(postgresql.CHECK, installation(pipeline))
    says(row, "degraded", "More than 80% of the connections are in use: close idle ones", f"of {most}")


@pytest.mark.needs("root")
def test_the_disk_of_the_database_is_nearly_full(pipeline: Pipeline, tmp_path: Path) -> None:
    with disk(tmp_path / "small", "size=1m") as small:
        row = look(postgresql.CHECK, installation(pipeline, database_folder=small))
    says(row, "degraded", "The disk that holds the database is nearly full (0.0 of 0.0 GiB free", "free some")


# The ledger


def test_the_equations_are_kept_for_a_week(pipeline: Pipeline) -> None:
    pipeline.conn.execute(
        "INSERT INTO ledger.audits SELECT now() - age, 'old', 0, 0"
        " FROM unnest(ARRAY['8 days', '6 days']::interval[]) age"
    )
    says(look(ledger.CHECK, installation(pipeline)), "ok", "8 of 8 equations hold.")
    kept = "SELECT count(*) FROM ledger.audits WHERE check_name {} 'old'"
    assert pipeline.one(kept.format("=")) == 1
    assert pipeline.one(kept.format("<>")) == pipeline.one("SELECT count(DISTINCT check_name) FROM ledger.conservation")


def test_a_broken_equation(pipeline: Pipeline) -> None:
    pipeline.create_topic()
    pipeline.produce([(0, b"{}"), (1, b"{}")])
    pipeline.drain_all()
    pipeline.conn.execute("UPDATE ledger.partitions SET next_offset = next_offset + partition * 4 + 3")
    row = look(ledger.CHECK, installation(pipeline))
    says(row, "down", f"of {pipeline.settings.topic}/1", "misses 3", "misses 7", "stop and ask why")
    audited = pipeline.conn.execute("SELECT check_name, unaccounted FROM ledger.audits WHERE unaccounted > 0")
    assert audited.fetchall() == [("partition: next_offset - first_offset = its segments", 10)]


def test_an_erasure_that_ended_half_way(pipeline: Pipeline) -> None:
    request_id = erasures.request(pipeline.conn, "erased-token", "manual__1")
    with pipeline.connect() as other:
        other.autocommit = True
        erasures.enter(other)
        assert look(ledger.CHECK, installation(pipeline)).status == "ok"
    row = look(ledger.CHECK, installation(pipeline))
    says(row, "degraded", f"request {request_id} ended before it was done", "run erase_user again")
    erasures.finish(pipeline.conn, request_id, "erased-token", {})
    assert look(ledger.CHECK, installation(pipeline)).status == "ok"


def test_a_locked_ledger(here: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "STATEMENT_TIMEOUT_MS", 300)
    with here.connect() as writer, writer.transaction():
        writer.execute("LOCK TABLE ledger.batches IN ACCESS EXCLUSIVE MODE")
        row = look(ledger.CHECK, installation(here))
    says(row, "degraded", "took more than 0.3 s, so nobody knows", "pg_locks show what is in its way")
    assert here.one("SELECT count(*) FROM ledger.audits") == 0


# Spark


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the stack's tasks, as to programs."""
    monkeypatch.setenv("PATH", base_environment()["PATH"])
    monkeypatch.setenv("JAVA_HOME", str(find_java().home))


def test_a_missing_spark_submit(here: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    row = look(spark.CHECK, installation(here))
    says(row, "down", "ended with code 127", "failed to execute spark-submit", "Install pyspark", "on PATH")


@pytest.mark.usefixtures("on_path")
def test_a_java_that_is_not_there(here: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    says(look(spark.CHECK, installation(here)), "down", "/nowhere/bin/java", "point JAVA_HOME at a Java 17")


@pytest.mark.usefixtures("on_path")
def test_a_master_without_workers_and_one_that_is_gone(
    here: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = free_ports()
    master = Master(url=f"spark://{LOOPBACK}:{ports.kafka}", ui_port=ports.airflow)
    where = installation(here, spark=lambda: master)
    address = ("--host", LOOPBACK, "--port", str(ports.kafka), "--webui-port", str(ports.airflow))

    def workers() -> int | None:
        try:
            return len(httpx.get(f"http://{LOOPBACK}:{ports.airflow}/json/", timeout=30).json()["workers"])
        except ValueError:
            return None

    with spark_daemon("master.Master", tmp_path / "master.log", *address):
        assert eventually(lambda: workers() == 0)
        none = Problem(Status.DOWN, f"{master.url} has no worker alive: start one (start-worker.sh).")
        assert spark._workers(master) == (0, [none])  # a look would start a JVM to find the same
        worker_options = ("--host", LOOPBACK, "--webui-port", str(ports.postgres), "--cores", "1", "--memory", "512m")
        with spark_daemon("worker.Worker", tmp_path / "worker.log", *worker_options, master.url):
            assert eventually(lambda: workers() == 1)
            says(look(spark.CHECK, where), "ok", "spark-submit 4.", "workers alive: 1.")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # spares the time of a third JVM
    row = look(spark.CHECK, where)
    says(row, "down", "/json/ does not answer", "Start the master, or set webui-port", "no worker alive")


# Storage


def test_the_storage_is_left_as_it_was(here: Pipeline) -> None:
    row = look(storage.CHECK, installation(here))
    says(row, "ok", "64 KiB put, read back, compared and deleted below file://", "GiB free")
    folder = Path(here.settings.storage_url.removeprefix("file://"))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_storage_that_loses_what_it_is_given(here: Pipeline) -> None:
    folder = Path(here.settings.storage_url.removeprefix("file://")) / "health"
    folder.mkdir()
    (folder / "probe").symlink_to("/dev/null")
    says(look(storage.CHECK, installation(here)), "down", "gave back other bytes", "Check the storage's disk")


@pytest.mark.needs("root")
def test_a_storage_that_is_read_only_full_or_nearly_so(here: Pipeline, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/small"
    remedy = "is mounted or can be reached, has free space, and lets Airflow's user write"
    with disk(tmp_path / "small", "size=1m,ro"):
        row = look(storage.CHECK, installation(here, storage_url=url))
        says(row, "down", "Read-only file system", remedy)
    with disk(tmp_path / "small", "size=1m") as small:
        row = look(storage.CHECK, installation(here, storage_url=url))
        says(row, "degraded", "The disk that holds the zones is nearly full", "give it a larger one")
        (small / "filler").write_bytes(bytes((1 << 20) - (8 << 10)))
        says(look(storage.CHECK, installation(here, storage_url=url)), "down", "No space left on device", remedy)


# The generator


def archive(pipeline: Pipeline, minute: datetime) -> None:
    file = Path(pipeline.settings.storage_url.removeprefix("file://"))
    file = file / f"archive/clickstream/{minute:%Y/%m/%d/%H/%M}-lambda-1.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_an_archive_that_stands_still(pipeline: Pipeline) -> None:
    where = installation(pipeline, archive_max_age_minutes=70)
    remedy = "No archive file of the last 70 minutes", "see the log of the generator", "or of the Lambda"
    says(look(generator.CHECK, where), "degraded", "None yet: it is looked for since less than 70 minutes")
    pipeline.conn.execute(
        "INSERT INTO ledger.health_checks (component, status, latency_seconds, reason, dag_run_id, checked_at)"
        " VALUES ('generator', 'degraded', 0, '', '', now() - interval '71 minutes')"
    )
    says(look(generator.CHECK, where), "down", *remedy, "None is in the hours before it.")
    now = datetime.now(UTC)
    archive(pipeline, now - timedelta(days=2))
    says(look(generator.CHECK, where), "down", *remedy)
    archive(pipeline, now - timedelta(minutes=68))
    archive(pipeline, now - timedelta(minutes=65))
    says(look(generator.CHECK, where), "ok", f"is of {now - timedelta(minutes=65):%H:%M} UTC")
    says(look(generator.CHECK, installation(pipeline, archive_max_age_minutes=64)), "down", "of the last 64 minutes")


# Airflow


def test_an_api_server_that_is_gone_and_one_that_never_answers(here: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.5)
    token = here.stack.secrets / "metrics_token"
    for row in run.run(installation(here, airflow_url=lambda: NOWHERE, metrics_token_file=token), airflow.CHECKS):
        says(row, "down", f"{NOWHERE}/", "does not answer (ConnectError", "See whether the API server")
    with silent_server() as port:
        where = installation(here, airflow_url=lambda: f"http://{LOOPBACK}:{port}", metrics_token_file=token)
        for row in run.run(where, airflow.CHECKS):
            says(row, "down", "does not answer (ReadTimeout", "See whether the API server")


@pytest.mark.parametrize(
    ("pools", "others", "status", "words"),
    [
        (("drain", "spark"), {}, "ok", "pools drain, spark"),
        (("drain",), {}, "down", "Pool spark is missing, so its tasks never start: make it under"),
        (("drain", "spark"), {"airflow_dag_import_errors": 2}, "degraded", "2 DAG files can't be imported: see the"),
        (("drain", "spark"), {"exporter_scrape_success": 0}, "degraded", "exporter_scrape_success is not 1"),
    ],
)
def test_what_the_exporter_says_of_airflow(
    here: Pipeline, pools: tuple[str, ...], others: dict[str, int], status: str, words: str
) -> None:
    """Its text comes from a stand-in: files that don't parse would be seen by every other test's Airflow."""
    samples = {"exporter_scrape_success": 1, **others}
    samples |= {f'airflow_pool_slots{{pool="{pool}",state="open"}}': 1 for pool in pools}
    text = "".join(f"{name} {value}\n" for name, value in samples.items())
    token = here.stack.secrets / "metrics_token"
    with serving({"/clickstream/metrics": text}) as url:
        where = installation(here, airflow_url=lambda: url, metrics_token_file=token)
        says(look(airflow.CHECKS[2], where), status, words)


# Prometheus and Grafana


@pytest.mark.needs("prometheus")
def test_a_target_that_is_down_and_a_prometheus_that_is(here: Pipeline, tmp_path: Path) -> None:
    port = free_ports().prometheus
    url = f"http://{LOOPBACK}:{port}"
    where = installation(here, prometheus_url=f"{url}/")
    configuration = prometheus_configuration(tmp_path, {"itself": port, "absent": CLOSED_PORT})
    command = [
        local_prometheus.find_binary(),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
    ]

    def scraped() -> bool:
        try:
            targets = httpx.get(f"{url}/api/v1/targets", timeout=30).json()["data"]["activeTargets"]
        except ValueError:  # it isn't ready to answer
            return False
        return len(targets) == 2 and all(target["health"] != "unknown" for target in targets)

    with started(command, tmp_path / "prometheus.log"):
        assert eventually(scraped)
        row = look(prometheus.CHECK, where)
        says(row, "degraded", f"Target absent at {LOOPBACK}:{CLOSED_PORT} is down", "refused", "its alerts are blind")
        assert "itself" not in row.reason
    says(look(prometheus.CHECK, where), "down", f"{url}/-/ready does not answer", "runs, and its log")


def test_grafana_is_looked_at_where_it_is_configured(here: Pipeline) -> None:
    """Grafana itself is no part of the embedded stack, so its answers come from a stand-in."""
    assert run.run(installation(here), [grafana.CHECK, prometheus.CHECK, generator.CHECK]) == []
    for state, status, words in (("ok", "ok", "13.0"), ("failing", "down", "calls its database failing: see its log")):
        with serving({"/api/health": json.dumps({"database": state, "version": "13.0"})}) as url:
            says(look(grafana.CHECK, installation(here, grafana_url=url)), status, words)
    row = look(grafana.CHECK, installation(here, grafana_url=f"http://{LOOPBACK}:{CLOSED_PORT}"))
    says(row, "down", f"{NOWHERE}/api/health does not answer", "CLICKSTREAM_GRAFANA_URL runs")


# All of them together


def fake(component: str, look: Callable[[Installation], Finding], deadline_seconds: float = 5) -> Check:
    return Check(component=component, look=look, remedy="Do this.", slow_seconds=4, deadline_seconds=deadline_seconds)


def test_one_that_hangs_or_raises_is_its_own_row_and_hides_no_other(here: Pipeline) -> None:
    def explode(_: Installation) -> Finding:
        raise RuntimeError("went wrong at https://user:password@host/ \0 for good")

    def after(seconds: float) -> Callable[[Installation], Finding]:
        def wait(_: Installation) -> Finding:
            time.sleep(seconds)
            return finding("Here.")

        return wait

    began = time.monotonic()
    with silent_server() as port:
        stuck = elsewhere(here, port)
        rows = run.run(
            installation(here, connect=stuck),
            [
                replace(postgresql.CHECK, deadline_seconds=0.4),
                fake("hangs", after(60), 0.2),
                fake("explodes", explode),
                replace(fake("late", after(0.6)), slow_seconds=60, deadline_seconds=60),
                patient(storage.CHECK),
            ],
        )
    assert time.monotonic() - began < 30  # half of what the one that hangs would take
    assert [row.status for row in rows] == ["down", "down", "down", "ok", "ok"]
    says(rows[0], "down", "No answer within 0.4 s. See whether the server of connection clickstream_db runs")
    assert rows[1].reason == "No answer within 0.2 s. Do this."
    assert rows[2].reason == "RuntimeError: went wrong at https://***@host/ for good Do this."


def test_rows_are_written_for_a_week_and_reported(pipeline: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    pipeline.conn.execute(
        "INSERT INTO ledger.health_checks SELECT 'old', now() - age, 'ok', 1, '', 'old'"
        " FROM unnest(ARRAY['8 days', '6 days']::interval[]) age"
    )
    where = installation(pipeline)
    checks = [patient(storage.CHECK), fake("slow", lambda _: finding("Found.", latency_seconds=9))]
    assert run.check(where, RUN, checks) == 2
    with caplog.at_level(logging.INFO):
        run.report(pipeline.conn, RUN)
    assert "None of 2 components is down.\n- [degraded] slow, 9000 ms: Slow: 9.0 s, more than 4 s. Do" in caplog.text
    rows = pipeline.conn.execute("SELECT component, status, latency_seconds FROM ledger.health ORDER BY 1").fetchall()
    assert [row[:2] for row in rows] == [("old", "ok"), ("slow", "degraded"), ("storage", "ok")]
    assert rows[1][2] == 9
    assert pipeline.one("SELECT count(*) FROM ledger.health_checks WHERE component = 'old'") == 1
    run.check(where, RUN, [postgresql.CHECK, *checks, fake("dead", lambda _: 1 / 0)])  # type: ignore[arg-type,return-value]
    with pytest.raises(ComponentsDown, match=r"1 of 4 components are down.\n- \[down\] dead.*Do this.\n.*degraded"):
        run.report(pipeline.conn, RUN)
    with pytest.raises(HealthNotRecorded, match=r"no row of run another\. Trigger check_health anew"):
        run.report(pipeline.conn, "another")


def test_what_was_found_is_told_even_where_it_can_not_be_written(here: Pipeline) -> None:
    where = installation(here, connect=elsewhere(here, CLOSED_PORT))
    with pytest.raises(HealthNotRecorded, match=r"refused(.|\n)*Mend PostgreSQL(.|\n)*postgresql(.|\n)*\[ok\] storage"):
        run.check(where, RUN, [postgresql.CHECK, patient(storage.CHECK)])


# The gate of the drain


def note(pipeline: Pipeline, component: str, status: str, minutes_ago: float) -> None:
    pipeline.conn.execute(
        "INSERT INTO ledger.health_checks VALUES (%s, now() - %s, %s, 1, 'It broke. Mend it.', 'r')",
        [component, timedelta(minutes=minutes_ago), status],
    )


@pytest.mark.parametrize(
    ("history", "gate_is"),
    [
        ([], "open"),
        ([("kafka", "down", 1)], "closed"),
        ([("postgresql", "down", 9)], "closed"),
        ([("storage", "down", 0)], "closed"),
        ([("kafka", "down", 11)], "open"),
        ([("kafka", "degraded", 1)], "open"),
        ([("kafka", "down", 6), ("kafka", "ok", 1)], "open"),
        ([("kafka", "ok", 6), ("kafka", "down", 1)], "closed"),
        ([(component, "down", 1) for component in ("kafka_canary", "spark", "ledger", "airflow", "generator")], "open"),
    ],
)
def test_only_a_fresh_outage_of_what_it_needs_stops_the_drain(
    rolled_back: RolledBack, history: list[tuple[str, str, float]], gate_is: str
) -> None:
    for row in history:
        note(rolled_back, *row)
    assert gate.is_open(rolled_back.conn) is (gate_is == "open")


def test_the_gate_says_which_since_when_and_why(rolled_back: RolledBack, caplog: pytest.LogCaptureFixture) -> None:
    for status, minutes_ago in (("down", 40), ("ok", 30), ("down", 12), ("down", 7), ("down", 2)):
        note(rolled_back, "storage", status, minutes_ago)
    assert not gate.is_open(rolled_back.conn)
    since = rolled_back.one(
        "SELECT min(checked_at) FROM ledger.health_checks WHERE checked_at > now() - interval '20 min'"
    )
    words = f"Waiting, because storage is down since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC (checked at "
    assert words in caplog.text
    assert "It broke. Mend it." in caplog.text
