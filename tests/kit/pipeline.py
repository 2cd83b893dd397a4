"""The pipeline without Airflow in between: the library's own functions on real Kafka, PostgreSQL, files and Spark."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from psycopg.rows import dict_row

from clickstream import broker
from clickstream.aggregate import attempt, publish
from clickstream.drain import commit, land, plan
from clickstream.ledger import drains
from clickstream.ledger.drains import Landing
from clickstream.settings import Settings
from clickstream_transform import pipeline as transform
from clickstream_transform.protocol import Report, Spec
from infra.local.stack import TOPIC
from tests import oracle
from tests.kit.services import superuser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from pyspark.sql import SparkSession

    from infra.local.stack import Stack

RUN = "manual__test"
TRAFFIC_COLUMNS = (
    "events", "page_views", "add_to_carts", "purchases", "logins", "logouts", "users", "sessions",
)  # fmt: skip
WINDOW = ("window_start", "window_minutes")
TABLES = {  # of the oracle: the table, its key and its numbers
    "traffic": ("traffic_by_window", WINDOW, TRAFFIC_COLUMNS),
    "pages": ("pages_by_window", (*WINDOW, "page"), ("views", "users", "sessions")),
    "audience": (
        "audience_by_window", (*WINDOW, "dimension", "value"), ("events", "users", "sessions", "purchases"),
    ),
    "funnel": ("funnel_by_window", WINDOW, ("sessions_viewed", "sessions_carted", "sessions_purchased")),
    "revenue": ("revenue_by_window", (*WINDOW, "currency"), ("purchases", "amount")),
    "sessions": (
        "sessions", ("session_id",),
        ("events", "page_views", "add_to_carts", "purchases", "started_at", "ended_at", "user_id", "device", "region",
         "entry_page", "exit_page", "bounced"),
    ),
}  # fmt: skip


def _copy_database(stack: Stack, template: str, name: str) -> None:
    with superuser(stack) as conn:
        conn.execute(f"CREATE DATABASE {name} OWNER clickstream_owner TEMPLATE {template}")


def alter_topic(settings: Settings, **configs: str) -> None:
    """Change a topic's configuration and wait until the brokers, which answer before, have it."""
    topic = settings.topic
    with broker.admin_of(settings) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])

        def present() -> dict[str, str]:
            found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
            return {name: entry["value"] for name, entry in found["topic"][topic].items()}

        while not configs.items() <= present().items():
            time.sleep(0.1)


@dataclass
class Pipeline:
    """A topic, a database and a storage folder, and the steps that the DAGs wire together."""

    stack: Stack
    settings: Settings
    database: str
    dsn: str
    conn: psycopg.Connection[Any]
    partitions: int = 2

    @classmethod
    def create(cls, stack: Stack, *, database: str, topic: str, storage: Path) -> Pipeline:
        """On a database and a folder that are there."""
        settings = Settings(kafka_bootstrap_servers=stack.bootstrap_servers, topic=topic, storage_url=storage.as_uri())
        return cls.on(stack, settings, database)

    @classmethod
    def of(cls, stack: Stack) -> Pipeline:
        """A view on what the stack's own DAGs publish."""
        settings = Settings(kafka_bootstrap_servers=stack.bootstrap_servers, topic=TOPIC, storage_url=stack.storage_url)
        view = cls.on(stack, settings, "clickstream")
        view.partitions = 3
        return view

    @classmethod
    def on(cls, stack: Stack, settings: Settings, database: str) -> Pipeline:
        password = (stack.secrets / "clickstream_writer").read_text(encoding="utf-8")
        dsn = f"postgresql://clickstream_writer:{password}@127.0.0.1:{stack.ports.postgres}/{database}"
        return cls(stack, settings, database, dsn, psycopg.connect(dsn, autocommit=True))

    @classmethod
    def new(cls, stack: Stack, template: str) -> Pipeline:
        """With a database, a folder and the name of a topic of its own, until it is dropped."""
        name = f"t_{uuid4().hex[:12]}"
        storage = stack.folder / "test-storage" / name
        storage.mkdir(parents=True)
        _copy_database(stack, template, name)
        return cls.create(stack, database=name, topic=name, storage=storage)

    def copied(self) -> Pipeline:
        """Another with the same history, until it is dropped; this one must have no connection open.

        It reads the same topic, so none of the two may produce into it.
        """
        name = f"t_{uuid4().hex[:12]}"
        storage = self.folder.with_name(name)
        shutil.copytree(self.folder, storage)
        _copy_database(self.stack, self.database, name)
        settings = self.settings.model_copy(update={"storage_url": storage.as_uri()})
        made = Pipeline.on(self.stack, settings, name)
        made.partitions = self.partitions
        for table in ("segments", "event_files"):
            made.conn.execute(
                f"UPDATE ledger.{table} SET path = replace(path, %s, %s)", [self.folder.as_uri(), storage.as_uri()]
            )
        for file in storage.glob("batches/*/*.json"):  # specs and reports
            file.write_text(file.read_text().replace(self.folder.as_uri(), storage.as_uri()))
        return made

    def beside(self) -> Pipeline:
        """The same, for another thread."""
        return replace(self, conn=self.connect())

    def drop(self) -> None:
        """Remove database and folder."""
        self.close()
        with superuser(self.stack) as conn:
            conn.execute(f"DROP DATABASE {self.database} WITH (FORCE)")
        shutil.rmtree(self.folder)

    @property
    def folder(self) -> Path:
        """The storage."""
        return Path(self.settings.storage_url.removeprefix("file://"))

    def superuser(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        return superuser(self.stack, self.database)

    def close(self) -> None:
        self.conn.close()

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def use(self, **changes: Any) -> None:
        """Change settings."""
        self.settings = self.settings.model_copy(update=changes)

    # Kafka

    def create_topic(self, **configs: str) -> None:
        with broker.admin_of(self.settings) as admin:
            admin.create_topics(
                [
                    NewTopic(
                        self.settings.topic,
                        self.partitions,
                        1,
                        topic_configs={
                            "message.timestamp.type": "LogAppendTime",
                            "max.message.bytes": str(2 << 20),
                            **configs,
                        },
                    )
                ]
            )
            admin.wait_for_topics([self.settings.topic])

    def alter_topic(self, **configs: str) -> None:
        alter_topic(self.settings, **configs)

    def delete_topic(self) -> None:
        with broker.admin_of(self.settings) as admin:
            admin.delete_topics([self.settings.topic])

    def produce(
        self,
        values: Iterable[tuple[int, bytes | None]],
        headers: Sequence[tuple[str, bytes | None]] = (),
        **configs: Any,
    ) -> None:
        """Produce (partition, value) pairs, each acknowledged."""
        producer = KafkaProducer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers, max_request_size=2 << 20, acks="all", **configs
        )
        futures = [
            producer.send(self.settings.topic, value=value, key=b"k", partition=partition, headers=list(headers))
            for partition, value in values
        ]
        producer.flush()
        for future in futures:
            future.get(timeout=30)
        producer.close()

    def log(self) -> list[oracle.Record]:
        """Every record that the topic's log holds now."""
        topic_id = ""
        with broker.admin_of(self.settings) as admin:
            topic_id = broker.topic_id_of(admin, self.settings.topic)
        consumer = KafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        keys = [TopicPartition(self.settings.topic, number) for number in range(self.partitions)]
        consumer.assign(keys)
        consumer.seek_to_beginning(*keys)
        ends = consumer.end_offsets(keys)
        found = []
        while any(consumer.position(key) < ends[key] for key in keys):
            for key, records in consumer.poll(timeout_ms=500).items():
                found += [
                    oracle.Record(topic_id, key.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                    for r in records
                ]
        consumer.close()
        return found

    # The steps

    def plan(self) -> list[int]:
        return plan.plan(self.conn, self.settings, RUN)

    def land(self, drain_id: int) -> UUID | None:
        return land.land(self.conn, self.settings, drain_id, RUN)

    def commit(self, attempts: Iterable[UUID | None]) -> int:
        return commit.commit(self.conn, self.settings, [one for one in attempts if one])

    def drain(self) -> int:
        """Plan, land, commit; returns the number of segments."""
        return self.commit([self.land(drain_id) for drain_id in self.plan()])

    def drain_all(self) -> None:
        while self.drain():
            pass

    def claim(self) -> int | None:
        return attempt.claim(self.conn, self.settings, RUN)

    def begin(self, batch_id: int) -> UUID:
        return attempt.begin(self.conn, self.settings, batch_id, RUN)

    def spec(self, attempt_id: UUID) -> Spec:
        return Spec.from_json((attempt.folder(self.settings, attempt_id) / "spec.json").read_text())

    def transform(self, spark: SparkSession, attempt_id: UUID) -> Report:
        return transform.run(spark, self.spec(attempt_id))

    def publish(self, attempt_id: UUID) -> bool:
        return publish.publish(self.conn, self.settings, attempt_id)

    def attempt(self, spark: SparkSession) -> UUID | None:
        """Claim, begin and transform, without publishing."""
        batch_id = self.claim()
        if batch_id is None:
            return None
        attempt_id = self.begin(batch_id)
        self.transform(spark, attempt_id)
        return attempt_id

    def aggregate(self, spark: SparkSession) -> bool:
        """One run of the aggregation; whether there was a batch."""
        attempt_id = self.attempt(spark)
        return attempt_id is not None and self.publish(attempt_id)

    def aggregate_all(self, spark: SparkSession) -> None:
        while self.aggregate(spark):
            pass

    # Landing records whose timestamps the test chooses

    def land_records(self, records: Sequence[oracle.Record]) -> None:
        """Write contiguous records of one partition as a segment, through the drain's own file writer and commit."""
        first, end = records[0].offset, records[-1].offset + 1
        topic_id, partition = records[0].topic_id, records[0].partition
        drains.adopt(
            self.conn,
            topic=self.settings.topic,
            topic_id=topic_id,
            partition=partition,
            first_offset=first,
            observed_at=datetime.now(UTC),
        )
        span = drains.Range(
            topic=self.settings.topic, topic_id=topic_id, partition=partition, first_offset=first, end_offset=end
        )
        drain_id = drains.register_drain(self.conn, [span], RUN)
        attempt_id = drains.register_attempt(self.conn, drain_id, RUN)
        path = land.raw_path(self.settings, span, attempt_id)
        with land.SegmentFile(path, topic_id, partition) as segment:
            segment.write([_ConsumerRecord.of(record) for record in records])
        landing = Landing(
            topic_id=topic_id, partition=partition, first_offset=first, end_offset=end, records=segment.records,
            absent=0, historic=segment.historic, first_record_at=segment.first_record_at,
            last_record_at=segment.last_record_at, path=str(path), bytes=path.stat().st_size,
        )  # fmt: skip
        drains.report_landings(self.conn, attempt_id, [landing])
        drains.commit(self.conn, attempt_id, lambda _: None)

    # What is published

    def table(self, name: str) -> oracle.Table:
        """A table of the results in the oracle's form: window starts in epoch seconds, times in UTC."""
        source, key, numbers = TABLES[name]
        with self.conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(f"SELECT * FROM analytics.{source}").fetchall()
        found: oracle.Table = {}
        for row in rows:
            parts = tuple(int(row[c].timestamp()) if c == "window_start" else row[c] for c in key)
            of_key = parts if len(parts) > 1 else parts[0]
            assert of_key not in found, (name, of_key)
            found[of_key] = {c: row[c] for c in numbers}
        return found

    def traffic(self) -> oracle.Table:
        return self.table("traffic")

    def dispositions(self) -> Counter[str]:
        row = self.conn.execute(
            "SELECT coalesce(sum(accepted), 0)::int, coalesce(sum(duplicate), 0)::int, coalesce(sum(late), 0)::int,"
            " coalesce(sum(rejected), 0)::int FROM ledger.batches WHERE state = 'published'"
        ).fetchone()
        return +Counter(dict(zip(("accepted", "duplicate", "late", "rejected"), row or (), strict=True)))

    def reasons(self) -> Counter[str]:
        return Counter(
            dict(
                self.conn.execute("SELECT reason, sum(records)::int FROM ledger.rejected_counts GROUP BY 1").fetchall()
            )
        )

    def id_conflicts(self) -> int:
        return int(self.one("SELECT coalesce(sum(id_conflicts), 0)::int FROM ledger.batches WHERE state = 'published'"))

    def one(self, query: str, *values: object) -> Any:
        row = self.conn.execute(query, values).fetchone()
        return row[0] if row else None

    def unaccounted(self) -> dict[str, int]:
        rows = self.conn.execute("SELECT check_name || ' ' || subject, unaccounted FROM ledger.conservation").fetchall()
        return {name: value for name, value in rows if value}

    def assert_equals_oracle(self, records: Iterable[oracle.Record], **rules: Any) -> None:
        """Every published number is what the contract says of these records, and the equations hold."""
        expected = oracle.fold(records, **rules)
        assert self.unaccounted() == {}
        assert self.dispositions() == +expected.dispositions
        assert self.reasons() == +expected.reasons
        assert self.id_conflicts() == expected.id_conflicts
        for name in TABLES:
            assert self.table(name) == getattr(expected, name), name
        self.assert_derived(expected)
        kept = {
            (topic_id, partition, offset): (reason, detail)
            for topic_id, partition, offset, reason, detail in self.conn.execute(
                'SELECT topic_id, partition, "offset", reason, detail FROM ledger.rejected_records'
            )
        }
        assert {key: reason for key, (reason, _) in kept.items()} == {
            key: reason for key, (reason, _) in expected.rejections.items()
        }
        named = {key: detail for key, (_, detail) in expected.rejections.items() if detail is not None}
        assert {key: kept[key][1] for key in named} == named

    def assert_derived(self, expected: oracle.Result) -> None:
        """What is kept beside the contract's tables says the same of the oracle's events and sessions."""
        assert self.conn.execute("SELECT * FROM ledger.hour_checks WHERE expected <> found").fetchall() == []
        users = self.conn.execute("SELECT extract(epoch FROM hour)::bigint, user_id FROM analytics.users_by_hour")
        assert sorted(users.fetchall()) == sorted(
            {(e.time // oracle.HOUR * 3600, e.fields["userId"]) for e in expected.accepted}
        )
        counted: Counter[tuple[int, int, str, str]] = Counter()
        for row in expected.sessions.values():
            started = int(row["started_at"].timestamp())
            values = {"all": "", **{name: row[name] for name in ("device", "region", "entry_page", "exit_page")}}
            counted.update(
                (started // (minutes * 60) * minutes * 60, minutes, dimension, value)
                for minutes in (5, 60)
                for dimension, value in values.items()
                if value is not None
            )
        rows = self.conn.execute(
            "SELECT extract(epoch FROM window_start)::bigint, window_minutes, dimension, value, sessions"
            " FROM analytics.sessions_by_window"
        ).fetchall()
        assert {tuple(key): sessions for *key, sessions in rows} == counted
        sums = "sum(bounced)::int, sum(carted)::int, sum(purchased)::int, sum(page_views)::int, sum(seconds)"
        found = self.conn.execute(
            f"SELECT {sums} FROM analytics.sessions_by_window WHERE dimension = 'all' AND window_minutes = 5"
        ).fetchone()
        rows_of = list(expected.sessions.values())
        assert not rows_of or found == (
            sum(row["bounced"] for row in rows_of),
            sum(row["add_to_carts"] > 0 for row in rows_of),
            sum(row["purchases"] > 0 for row in rows_of),
            sum(row["page_views"] for row in rows_of),
            sum(Decimal((row["ended_at"] - row["started_at"]) // oracle.MICROSECOND) for row in rows_of) / 1_000_000,
        )


@dataclass(frozen=True)
class _ConsumerRecord:
    """A record as the consumer hands it out."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @classmethod
    def of(cls, record: oracle.Record) -> _ConsumerRecord:
        return cls(
            record.offset, record.timestamp_ms, broker.LOG_APPEND_TIME, record.key, record.value, list(record.headers)
        )
