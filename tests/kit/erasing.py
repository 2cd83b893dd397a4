"""A user who is everywhere, and the search for what is left of her."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from clickstream.erasure import erase, key
from clickstream.erasure.mapping import Tokens
from clickstream.ledger import erasures
from tests import oracle
from tests.kit.archive import archive
from tests.kit.pipeline import RUN, Pipeline
from tests.kit.records import event, purchase

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

USER = "änn/é@example.org"
SESSIONS = ("hers-one", "hers-tẅo", "shared-session")
REJECTED_SESSIONS = ("hers-rejected", "hers-" + 300 * "x")
IDS = (USER, *SESSIONS, *REJECTED_SESSIONS)
Values = list[tuple[int, bytes | None]]


def at(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()


def hers() -> list[dict[str, object]]:
    """Her events of two hours, with amounts that the decimal column doesn't keep as they are written."""
    events = [
        event(eventId=f"hers-{n}", userId=USER, sessionId=SESSIONS[n % 3], eventTime=at(5 * n), page=f"/{n}")
        for n in range(20)
    ]
    amounts = ("007.50", "0.5", "00", "000000000000000001.000001", "999999999999999999.999999", "10")
    return events + [
        purchase(eventId=f"bought-{n}", userId=USER, sessionId=SESSIONS[0], eventTime=at(n), amount=amount)
        for n, amount in enumerate(amounts)
    ]


def others() -> list[dict[str, object]]:
    """Events of others, some in a session with her, some with her id as another field."""
    events = [
        event(eventId=f"other-{n}", userId=f"u{n % 7}", sessionId=f"s{n % 11}", eventTime=at(3 * n)) for n in range(60)
    ]
    return events + [
        event(eventId=f"shared-{n}", userId="before-login", sessionId=SESSIONS[2], eventTime=at(7 * n))
        for n in range(9)
    ]


def rejected() -> list[bytes]:
    """Records of hers that are no events, each for another reason."""
    late = event(eventId="old", userId=USER, sessionId=SESSIONS[1], eventTime=at(60 * 24 * 3))
    return [
        json.dumps(event(userId=USER, sessionId=REJECTED_SESSIONS[0], eventType="JUMP")).encode(),
        json.dumps(event(userId=USER, sessionId=REJECTED_SESSIONS[1])).encode(),
        json.dumps(event(userId=USER, sessionId=REJECTED_SESSIONS[0]), ensure_ascii=False).encode() + b"\xff",
        json.dumps(event(userId=USER, sessionId=REJECTED_SESSIONS[0]), ensure_ascii=False).encode()[:-30],
        json.dumps([{"deep": {"userId": USER, "sessionId": REJECTED_SESSIONS[0]}}]).encode(),
        b'{"page":"/tv-55"-lg",' + json.dumps({"userId": USER, "sessionId": REJECTED_SESSIONS[0]}).encode()[1:],
        json.dumps(late).encode(),
    ]


def spread(documents: Iterable[dict[str, object]], *, ensure_ascii: bool = True) -> Values:
    return [(n % 2, json.dumps(one, ensure_ascii=ensure_ascii).encode()) for n, one in enumerate(documents)]


def use_key(pipeline: Pipeline) -> None:
    file = Path(pipeline.settings.storage_url.removeprefix("file://")).parent / f"{pipeline.settings.topic}.key"
    if not file.exists():
        file.write_text(secrets.token_urlsafe(24), encoding="utf-8")
    pipeline.use(erasure_key_file=file)


def make_known(pipeline: Pipeline, spark: SparkSession) -> None:
    """Let her be in two batches, a segment that waits, the archive, two files of the rejected zone, and statistics."""
    use_key(pipeline)
    pipeline.create_topic()
    of_hers, of_others = spread(hers()), spread(others())
    archive(pipeline, [*of_hers, *of_others])
    for part in ([*of_hers[:15], *of_others], of_hers[10:]):
        pipeline.produce([*part, *[(0, value) for value in rejected()]])
        pipeline.drain_all()
        pipeline.aggregate_all(spark)
    pipeline.produce(spread(hers()[:4], ensure_ascii=False))
    pipeline.drain_all()
    assert {user for _, user in left_in_files(pipeline)} == set(IDS)
    erasures.take_statistics(pipeline.conn)
    assert USER in "".join(statistics(pipeline))


def erased(pipeline: Pipeline, user_id: str = USER, *, dry_run: bool = False) -> dict[str, int]:
    return erase.erase(pipeline.conn, pipeline.settings, user_id, RUN, dry_run=dry_run)


def tokens(pipeline: Pipeline) -> Tokens:
    return key.tokens(pipeline.settings, erasures.read(pipeline.conn)[0])


def mapped_log(pipeline: Pipeline, records: Iterable[oracle.Record] | None = None) -> list[oracle.Record]:
    """What the pipeline is to make of the log: the records as the list makes them."""
    of_list = tokens(pipeline)
    log = pipeline.log() if records is None else records
    mapped = ((one, *of_list.record(one.key, one.value)) for one in log)
    return [replace(one, key=key, value=value) for one, key, value in mapped]


def remove(pipeline: Pipeline) -> None:
    """Do what the sweep does once the grace is over."""
    for (path,) in pipeline.conn.execute("DELETE FROM ledger.removals RETURNING path").fetchall():
        local = Path(path.removeprefix("file://"))
        if path.endswith("/"):
            shutil.rmtree(local, ignore_errors=True)
        else:
            local.unlink()


def left_in_files(pipeline: Pipeline, ids: Iterable[str] = IDS) -> list[tuple[str, str]]:
    """Files below the storage folder that hold an id, in their bytes or in what their columns say."""
    found = []
    for path in Path(pipeline.settings.storage_url.removeprefix("file://")).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += b"".join(_cells(path))
            found += [(str(path), one) for one in ids if any(text in content for text in _spellings(one))]
    return found


def _cells(path: Path) -> Iterable[bytes]:
    for column in pq.ParquetFile(path).read().columns:
        for cell in column.to_pylist():
            yield cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "surrogatepass")


def _spellings(identifier: str) -> set[bytes]:
    return {identifier.encode(), json.dumps(identifier)[1:-1].encode(), json.dumps(identifier)[1:-1].upper().encode()}


def dump(pipeline: Pipeline) -> dict[str, list[str]]:
    """Every row of both schemas, as text."""
    tables = pipeline.conn.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('ledger', 'analytics')"
    ).fetchall()
    return {
        name: sorted(row for (row,) in pipeline.conn.execute(f"SELECT t::text FROM {name} t").fetchall())
        for (name,) in tables
    }


def statistics(pipeline: Pipeline) -> list[str]:
    """Values of the tables' rows that the planner knows."""
    rows = pipeline.conn.execute(
        "SELECT concat(tablename, attname, most_common_vals::text, histogram_bounds::text) FROM pg_stats"
        " WHERE schemaname IN ('ledger', 'analytics')"
    ).fetchall()
    return [row for (row,) in rows]


def left_in_database(pipeline: Pipeline, ids: Iterable[str] = IDS) -> list[tuple[str, str]]:
    return [
        (name, one)
        for name, rows in {**dump(pipeline), "pg_stats": statistics(pipeline)}.items()
        for one in ids
        if any(text.decode() in row for row in rows for text in _spellings(one))
    ]


def assert_gone(pipeline: Pipeline, ids: Iterable[str] = IDS) -> None:
    remove(pipeline)
    assert left_in_database(pipeline, ids) == []
    assert left_in_files(pipeline, ids) == []
