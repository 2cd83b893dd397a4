"""Days of batches as the pipeline leaves them, made by SQL and by linked files, in a database whose clock is set.

A batch lands 12 records in three partitions: 9 accepted ones in three sessions, a duplicate, a late and a rejected one.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import ClientCursor

from tests.kit import aging

if TYPE_CHECKING:
    from psycopg import Connection

    from tests.kit.pipeline import Pipeline

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
PARTITIONS = 3
RECORDS = 4  # of a segment
ACCEPTED = 9  # of a batch

# What the library's SQL and the defaults of columns call the time is the setting `sim.now` where a session has one.
CLOCK = """
CREATE SCHEMA sim;
GRANT USAGE ON SCHEMA sim TO PUBLIC;
CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN coalesce(nullif(current_setting('sim.now', true), '')::timestamptz, pg_catalog.now());
CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    RETURN coalesce(nullif(current_setting('sim.now', true), '')::timestamptz, pg_catalog.clock_timestamp());
DO $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT d.adrelid::regclass AS relation, a.attname FROM pg_attrdef d
        JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
        WHERE pg_get_expr(d.adbin, d.adrelid) IN ('now()', 'clock_timestamp()')
          AND d.adrelid::regclass::text ~ '^(ledger|analytics)[.]'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT sim.now()', changed.relation, changed.attname);
    END LOOP;
END
$$;
"""

PARTITIONS_OF_TOPIC = """
INSERT INTO ledger.partitions (topic, topic_id, partition, first_offset, next_offset, log_start_offset, log_end_offset,
    settled, observed_at, retention_seconds)
SELECT %(topic)s, %(topic_id)s, p, 0, 0, 0, 0, true, %(day)s, %(kafka_seconds)s
FROM generate_series(0, %(partitions)s - 1) p;
"""

# Event times begin at `at`; a batch is landed seconds and published a minute later.
BATCHES = """
CREATE TEMP TABLE of_day ON COMMIT DROP AS
SELECT m, %(before)s + m AS batch_id, at, at + interval '50 seconds' AS landed_at,
       at + interval '80 seconds' AS published_at, date_trunc('hour', at, 'UTC') AS hour,
       md5('drain ' || %(before)s + m)::uuid AS landing, md5('batch ' || %(before)s + m)::uuid AS publishing
FROM (SELECT m, %(day)s + (m - 1) * (interval '1 day' / %(batches)s) AS at
      FROM generate_series(1, %(batches)s) m) moments;
ANALYZE of_day;

CREATE TEMP TABLE segments_of_day ON COMMIT DROP AS
SELECT b.*, p AS partition, (b.batch_id - 1) * %(records)s AS first_offset, b.batch_id * %(records)s AS end_offset,
       %(storage_url)s || '/raw/' || %(topic)s || '/partition=' || p || '/' || landing || '/'
       || (b.batch_id - 1) * %(records)s || '-' || b.batch_id * %(records)s || '.parquet' AS path
FROM of_day b CROSS JOIN generate_series(0, %(partitions)s - 1) p;

INSERT INTO ledger.drains (drain_id, dag_run_id, planned_at) OVERRIDING SYSTEM VALUE
SELECT batch_id, 'simulated', landed_at FROM of_day;
SELECT setval(pg_get_serial_sequence('ledger.drains', 'drain_id'), %(before)s + %(batches)s);

INSERT INTO ledger.drain_ranges (drain_id, topic_id, partition, first_offset, end_offset)
SELECT batch_id, %(topic_id)s, partition, first_offset, end_offset FROM segments_of_day;

INSERT INTO ledger.batches (batch_id, state, attempt, planned, landed, absent, lost, accepted, duplicate, late,
    rejected, id_conflicts, settings, created_at, published_at, written_at, dag_run_id)
OVERRIDING SYSTEM VALUE
SELECT batch_id, 'published', 1, %(partitions)s * %(records)s, %(partitions)s * %(records)s, 0, 0, %(accepted)s, 1, 1,
       1, 0, '{}', landed_at, published_at, published_at, 'simulated'
FROM of_day;
SELECT setval(pg_get_serial_sequence('ledger.batches', 'batch_id'), %(before)s + %(batches)s);

INSERT INTO ledger.attempts (attempt_id, drain_id, batch_id, attempt, state, dag_run_id, created_at, ended_at)
SELECT landing, batch_id, NULL, 1, 'committed', 'simulated', landed_at, landed_at FROM of_day
UNION ALL
SELECT publishing, NULL, batch_id, 1, 'committed', 'simulated', landed_at, published_at FROM of_day;

INSERT INTO ledger.landings (attempt_id, topic_id, partition, first_offset, end_offset, records, absent, historic,
    first_record_at, last_record_at, path, bytes)
SELECT landing, %(topic_id)s, partition, first_offset, end_offset, %(records)s, 0, 0, at, landed_at, path,
       %(raw_bytes)s
FROM segments_of_day;

INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost, historic,
    first_record_at, last_record_at, path, bytes, batch_id, attempt_id, previous_end)
SELECT %(topic_id)s, partition, first_offset, end_offset, %(records)s, 0, 0, 0, at, landed_at, path, %(raw_bytes)s,
       batch_id, landing, nullif(first_offset, 0)
FROM segments_of_day ORDER BY batch_id, partition;

UPDATE ledger.partitions SET
    next_offset = (%(before)s + %(batches)s) * %(records)s, log_end_offset = (%(before)s + %(batches)s) * %(records)s,
    last_record_at = (SELECT max(landed_at) FROM of_day);

INSERT INTO ledger.event_files (path, hour, records, bytes, batch_id)
SELECT %(storage_url)s || '/events/' || publishing || '/hour=' || to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24')
       || '/part-00000.zstd.parquet', hour, %(accepted)s,
       (%(event_bytes)s::bigint[])[1 + extract(hour FROM hour AT TIME ZONE 'UTC')], batch_id
FROM of_day;

INSERT INTO ledger.rejected_counts (batch_id, reason, records) SELECT batch_id, 'not_json', 1 FROM of_day;
INSERT INTO ledger.rejections (topic_id, partition, "offset", batch_id, record_at, reason, excerpt)
SELECT %(topic_id)s, 0, (batch_id - 1) * %(records)s, batch_id, landed_at, 'not_json', 'no JSON' FROM of_day;

UPDATE ledger.totals t SET value = value + %(batches)s * n
FROM (VALUES ('batches', 'published', 1), ('records', 'accepted', %(accepted)s), ('records', 'duplicate', 1),
             ('records', 'late', 1), ('records', 'rejected', 1), ('rejected', 'not_json', 1)) c (metric, label, n)
WHERE (t.metric, t.label) = (c.metric, c.label);
"""

RESULTS = """
CREATE TEMP TABLE sessions_of_day ON COMMIT DROP AS
SELECT batch_id, hour, 's' || batch_id || '-' || n AS session_id, at AS started_at, at + interval '40 s' AS ended_at,
       'u' || (batch_id * 3 + n) %% 4000 AS user_id, (ARRAY['mobile', 'desktop', 'tablet'])[n] AS device,
       (ARRAY['eu-west', 'us-east', 'japan'])[n] AS region, '/products/' || (batch_id + n) %% 190 AS page
FROM of_day CROSS JOIN generate_series(1, 3) n;

CREATE TEMP TABLE placed ON COMMIT DROP AS
SELECT s.*, minutes::smallint AS window_minutes,
       date_bin(make_interval(mins => minutes), started_at, '2000-01-01Z') AS window_start
FROM sessions_of_day s CROSS JOIN (VALUES (5), (60)) w (minutes);

INSERT INTO ledger.batch_windows (batch_id, window_start, window_minutes)
SELECT DISTINCT batch_id, window_start, window_minutes FROM placed;

INSERT INTO analytics.traffic_by_window (window_start, window_minutes, events, page_views, add_to_carts, purchases,
    logins, logouts, users, sessions, status, revision, batch_id, first_published_at, published_at)
SELECT window_start, window_minutes, 3 * count(*), count(*), count(*), count(*), 0, 0, count(DISTINCT user_id),
       count(*), 'complete', count(DISTINCT batch_id), max(batch_id), min(started_at) + interval '80 s',
       max(started_at) + interval '80 s'
FROM placed GROUP BY 1, 2;

INSERT INTO analytics.pages_by_window (window_start, window_minutes, page, views, users, sessions)
SELECT window_start, window_minutes, page, count(*), count(DISTINCT user_id), count(*) FROM placed GROUP BY 1, 2, 3;

INSERT INTO analytics.audience_by_window (window_start, window_minutes, dimension, value, events, users, sessions,
    purchases)
SELECT window_start, window_minutes, dimension, value, 3 * count(*), count(DISTINCT user_id), count(*), count(*)
FROM placed CROSS JOIN LATERAL (
    VALUES ('device', device), ('region', region), ('referrer', '(direct)')) d (dimension, value)
GROUP BY 1, 2, 3, 4;

INSERT INTO analytics.funnel_by_window (window_start, window_minutes, sessions_viewed, sessions_carted,
    sessions_purchased)
SELECT window_start, window_minutes, count(*), count(*), count(*) FROM placed GROUP BY 1, 2;

INSERT INTO analytics.revenue_by_window (window_start, window_minutes, currency, purchases, amount)
SELECT window_start, window_minutes, 'EUR', count(*), 19.9 * count(*) FROM placed GROUP BY 1, 2;

INSERT INTO analytics.session_hours (session_id, hour, started_at, ended_at, events, page_views, add_to_carts,
    purchases, user_id, device, region, entry_page, exit_page)
SELECT session_id, hour, started_at, ended_at, 3, 1, 1, 1, user_id, device, region, page, page FROM sessions_of_day;

INSERT INTO analytics.sessions (session_id, started_at, ended_at, events, page_views, add_to_carts, purchases, user_id,
    device, region, entry_page, exit_page, bounced)
SELECT session_id, started_at, ended_at, 3, 1, 1, 1, user_id, device, region, page, page, true FROM sessions_of_day;

INSERT INTO analytics.sessions_by_window (window_start, window_minutes, dimension, value, sessions, bounced, carted,
    purchased, page_views, seconds)
SELECT window_start, window_minutes, dimension, value, count(*), count(*), count(*), count(*), count(*), 40 * count(*)
FROM placed CROSS JOIN LATERAL (VALUES ('all', ''), ('device', device), ('region', region), ('entry_page', page),
                                       ('exit_page', page)) d (dimension, value)
GROUP BY 1, 2, 3, 4;

INSERT INTO analytics.users_by_hour (hour, user_id) SELECT DISTINCT hour, user_id FROM sessions_of_day;
"""


class Clock:
    """The time that a pipeline's connections are told."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def set(self, conn: Connection[Any], now: datetime) -> None:
        """Let it be that time from here on, for SQL of this connection."""
        self.now = now
        conn.execute("SELECT set_config('search_path', 'sim, pg_catalog, public', false)")
        conn.execute("SELECT set_config('sim.now', %s, false)", [now.isoformat()])

    def as_datetime(self) -> type[datetime]:
        """What stands in for `datetime` in a module that asks it for the time."""
        clock = self

        class Simulated(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Simulated:
                return cls.fromtimestamp(clock.now.timestamp(), tz)

        return Simulated


class Template:
    """Small valid files of a real batch, of which those of simulated ones are hard links.

    Args:
        pipeline: A pipeline that published one batch of 9 accepted records and a rejected one; its files are read.
        folder: Where to keep the files; on the file system of the storage.
    """

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._events = pq.read_table(_only(aging.files(pipeline, "events")), partitioning=None)
        raw = pq.read_table(_only(aging.files(pipeline, "raw")), partitioning=None).slice(0, RECORDS)
        pq.write_table(raw, folder / "raw", compression="zstd")
        shutil.copyfile(_only(aging.files(pipeline, "rejected")), folder / "rejected")
        for path in sorted(aging.files(pipeline, "batches")):
            of_traffic = path.endswith(".parquet") and "traffic_by_window" in path
            name = Path(path).name if path.endswith(".json") else "traffic" if of_traffic else None
            if name:
                shutil.copyfile(path.removeprefix("file://"), folder / name)
        (folder / "minute").write_bytes(b"{}\n")
        if self._events.num_rows != ACCEPTED:
            raise AssertionError(self._events.num_rows)

    def of_day(self, day: datetime) -> dict[str, Path]:
        """New files for a day, as a file has at most 65,000 links: one of each kind, and the events of each hour."""
        folder = self.folder / f"{day:%Y-%m-%d}"
        folder.mkdir()
        made = {}
        for path in self.folder.iterdir():
            if path.is_file():
                made[path.name] = Path(shutil.copyfile(path, folder / path.name))
        for hour in range(24):
            path = made[f"events-{hour}"] = folder / f"events-{hour}"
            time = self._events.schema.field("event_time")
            at = pa.array([day + hour * HOUR + timedelta(seconds=n) for n in range(ACCEPTED)], time.type)
            number = self._events.schema.get_field_index("event_time")
            pq.write_table(self._events.set_column(number, time, at), path, compression="zstd")
        return made

    def forget(self, day: datetime) -> None:
        """Remove the day's own files; their links stay."""
        shutil.rmtree(self.folder / f"{day:%Y-%m-%d}")


def _only(urls: set[str]) -> Path:
    (path,) = (Path(url.removeprefix("file://")) for url in urls)
    return path


def prepare(conn: Connection[Any], *, topic: str, topic_id: str, kafka_days: int, first: datetime) -> None:
    """Set up the clock and a topic of three empty partitions.

    Args:
        conn: Connection of a superuser to an empty database with all migrations.
        topic: Name of the topic.
        topic_id: Its id.
        kafka_days: How long the broker is said to keep records.
        first: Start of the first day.
    """
    conn.execute(CLOCK)
    ClientCursor(conn).execute(
        PARTITIONS_OF_TOPIC,
        {
            "topic": topic,
            "topic_id": topic_id,
            "day": first,
            "kafka_seconds": kafka_days * 86_400,
            "partitions": PARTITIONS,
        },
    )


def add_rows(
    conn: Connection[Any], pipeline: Pipeline, files: dict[str, Path], *, day: datetime, before: int, batches: int
) -> None:
    """Add the rows that a day's batches leave in the ledger and in the results.

    Triggers and foreign keys are off meanwhile: totals are added up here, and the equations are checked later.

    Args:
        conn: Connection of a superuser.
        pipeline: Whose batches these are.
        files: What the day's files are links to.
        day: Start of the day.
        before: How many batches there are.
        batches: How many are to be added.
    """
    (topic_id,) = conn.execute("SELECT topic_id FROM ledger.partitions LIMIT 1").fetchone() or ("",)
    values = {
        "topic": pipeline.settings.topic,
        "topic_id": topic_id,
        "storage_url": pipeline.settings.storage_url,
        "day": day,
        "before": before,
        "batches": batches,
        "partitions": PARTITIONS,
        "records": RECORDS,
        "accepted": ACCEPTED,
        "raw_bytes": files["raw"].stat().st_size,
        "event_bytes": [files[f"events-{hour}"].stat().st_size for hour in range(24)],
    }
    with conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("SET LOCAL synchronous_commit = off")
        ClientCursor(conn).execute(BATCHES + RESULTS, values)


def add_files(root: Path, topic: str, files: dict[str, Path], *, day: datetime, before: int, batches: int) -> None:
    """Link the files of a day's batches, and those of the archive's minutes.

    Args:
        root: The folder of the storage.
        topic: Name of the topic.
        files: What to link to.
        day: Start of the day.
        before: How many batches there are.
        batches: How many are to be added.
    """
    for number in range(1, batches + 1):
        batch = before + number
        at = day + (number - 1) * (DAY / batches)
        landing, publishing = _id("drain", batch), _id("batch", batch)
        for partition in range(PARTITIONS):
            home = f"{root}/raw/{topic}/partition={partition}/{landing}"
            _link(files["raw"], home, f"{(batch - 1) * RECORDS}-{batch * RECORDS}.parquet")
        home = f"{root}/events/{publishing}/hour={at:%Y-%m-%dT%H}"
        _link(files[f"events-{at.hour}"], home, "part-00000.zstd.parquet")
        _link(files["rejected"], f"{root}/rejected/{publishing}", "part-00000.zstd.parquet")
        home = f"{root}/batches/{publishing}"
        _link(files["traffic"], f"{home}/traffic_by_window", "part-00000.zstd.parquet")
        for name in ("spec.json", "report.json"):
            _link(files[name], home, name)
        _link(files["minute"], f"{root}/archive/clickstream/{at:%Y/%m/%d/%H}", f"{at:%M}-{batch}.jsonl.gz")


def _link(source: Path, folder: str, name: str) -> None:
    """As `pathlib` does it, in a third of the time."""
    try:
        os.link(source, f"{folder}/{name}")
    except FileNotFoundError:
        os.makedirs(folder)  # noqa: PTH103
        os.link(source, f"{folder}/{name}")


def _id(kind: str, batch: int) -> str:
    return str(UUID(md5(f"{kind} {batch}".encode(), usedforsecurity=False).hexdigest()))


def midnight() -> datetime:
    """The start of this UTC day."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
