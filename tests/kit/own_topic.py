"""A copied pipeline goes on with a topic of its own, so that it may produce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from clickstream import broker
from clickstream.erasure import parquet

if TYPE_CHECKING:
    from tests.kit.pipeline import Pipeline

SIZED = ("segments", "landings", "event_files")  # tables of the ledger with the size of each file
WITH_TOPIC_ID = """
SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'ledger' AND column_name = 'topic_id' AND table_type = 'BASE TABLE'
"""


def take_own_topic(pipeline: Pipeline) -> None:
    """Fill a topic with the same records at the same offsets, and let files and ledger be of that one.

    What waits to be committed or published must not be of before.
    """
    records, shared = pipeline.log(), pipeline.settings.topic
    pipeline.use(topic=pipeline.database)
    pipeline.borrows_topic = False
    pipeline.create_topic()
    pipeline.produce((one.partition, one.value) for one in records)
    with broker.admin_of(pipeline.settings) as admin:
        topic_id = broker.topic_id_of(admin, pipeline.settings.topic)
    raw = pipeline.folder / "raw"
    (raw / shared).rename(raw / pipeline.settings.topic)
    sizes = {path: _rewrite(path, topic_id) for path in pipeline.folder.rglob("*.parquet") if _names_topic(path)}
    with pipeline.superuser() as conn, conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")  # neither foreign keys nor triggers
        for (table,) in conn.execute(WITH_TOPIC_ID).fetchall():
            conn.execute(f"UPDATE ledger.{table} SET topic_id = %s", [topic_id])
        conn.execute("UPDATE ledger.partitions SET topic = %s", [pipeline.settings.topic])
        for table in ("segments", "landings", "removals"):
            folders = [f"/raw/{topic}/" for topic in (shared, pipeline.settings.topic)]
            conn.execute(f"UPDATE ledger.{table} SET path = replace(path, %s, %s)", folders)
        with conn.cursor() as cursor:
            for table in SIZED:
                cursor.executemany(
                    f"UPDATE ledger.{table} SET bytes = %s WHERE path = %s",
                    [(size, f"file://{path}") for path, size in sizes.items()],
                )


def _names_topic(path: Path) -> bool:
    return "topic_id" in pq.read_schema(path).names


def _rewrite(path: Path, topic_id: str) -> int:
    """Give the rows of a file another topic_id; returns the file's size."""
    fresh = path.with_suffix(".fresh")
    with fresh.open("wb") as stream:
        parquet.rewrite(
            f"file://{path}",
            stream,
            lambda table: parquet.replace(table, "topic_id", pa.array([topic_id] * table.num_rows)),
        )
    fresh.rename(path)
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)  # Hadoop's, of the old content
    return path.stat().st_size
