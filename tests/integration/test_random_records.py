"""Random record sets, split at random and arriving in any order, end in the oracle's numbers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from infra.local.stack import Stack
from tests.kit.pipeline import Pipeline
from tests.kit.records import CORNER_CASES, RETIRED_HOURS, record_lists
from tests.oracle import Record

FEW, MANY = 2, 24
given_random_records = given(data=st.data(), records=record_lists(max_size=40), retired=RETIRED_HOURS)


def examples(number: int) -> settings:
    """So many, the same in each run."""
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],  # shrinking would take an hour of Spark
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def empty(pipeline: Pipeline) -> None:
    """Forget everything, as a new installation would begin."""

    with pipeline.superuser() as conn:
        tables = conn.execute(
            "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables"
            " WHERE schemaname IN ('ledger', 'analytics')"
        ).fetchone()
        conn.execute(f"TRUNCATE {tables[0] if tables else ''} RESTART IDENTITY CASCADE".encode())
    for folder in Path(urlparse(pipeline.settings.storage_url).path).iterdir():
        shutil.rmtree(folder)


@examples(FEW)
@given_random_records
def test_random_records_in_random_splits(
    pipeline: Pipeline, spark: SparkSession, data: st.DataObject, records: list[Record], retired: frozenset[str]
) -> None:
    assert_as_the_oracle_says(pipeline, spark, data, records, retired)


@pytest.mark.long
@examples(MANY)
@given_random_records
def test_many_random_records_in_random_splits(
    pipeline: Pipeline, spark: SparkSession, data: st.DataObject, records: list[Record], retired: frozenset[str]
) -> None:
    assert_as_the_oracle_says(pipeline, spark, data, records, retired)


def assert_as_the_oracle_says(
    pipeline: Pipeline, spark: SparkSession, data: st.DataObject, records: list[Record], retired: frozenset[str]
) -> None:
    empty(pipeline)
    for hour in retired:
        pipeline.conn.execute(
            "INSERT INTO ledger.retired_hours (hour, events) VALUES (%s::timestamptz, 0)", [f"{hour}:00:00Z"]
        )
    pipeline.use(batch_max_offsets=data.draw(st.sampled_from([5, 15, 1000]), label="batch_max_offsets"))
    segments = []
    for partition in sorted({record.partition for record in records}):
        log = [record for record in records if record.partition == partition]
        cuts = data.draw(st.sets(st.integers(1, max(1, len(log) - 1)), max_size=2), label="cuts")
        bounds = [0, *sorted(cut for cut in cuts if cut < len(log)), len(log)]
        segments.append([log[first:end] for first, end in pairwise(bounds)])
    while any(segments):
        queue = data.draw(st.sampled_from([queue for queue in segments if queue]), label="next partition")
        pipeline.land_records(queue.pop(0))
        if data.draw(st.booleans(), label="aggregate now"):
            pipeline.aggregate(spark)
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(records, retired_hours=retired)


@pytest.fixture(scope="module")
def decided(services: Stack, template: str, spark: SparkSession) -> Iterator[Pipeline]:
    """All corner cases, a partition for each of their timestamps, and the private record in one after them."""
    with Pipeline.new(services, template) as pipeline:
        for partition, timestamp in enumerate(PARTITIONS):
            cases = [case for case in CORNER_CASES if case[2] == timestamp]
            pipeline.land_records(
                [
                    Record("corner-cases", partition, offset, timestamp, None, value, headers)
                    for offset, (_, value, _, headers, *_) in enumerate(cases)
                ]
            )
        pipeline.land_records([Record("corner-cases", len(PARTITIONS), 0, PARTITIONS[0], None, PRIVATE.encode(), ())])
        pipeline.aggregate_all(spark)
        yield pipeline


PARTITIONS = sorted({timestamp for _, _, timestamp, *_ in CORNER_CASES})
PRIVATE = '{"email": "ann@example.org", "имя": "Иван"'


def test_every_corner_case_is_decided_by_spark_as_by_hand(decided: Pipeline) -> None:
    rejected = {
        (partition, offset): (reason, detail)
        for partition, offset, reason, detail in decided.conn.execute(
            'SELECT partition, "offset", reason, detail FROM ledger.rejected_records'
        )
    }
    for partition, timestamp in enumerate(PARTITIONS):
        cases = [case for case in CORNER_CASES if case[2] == timestamp]
        for offset, (name, _, _, _, disposition, reason, detail) in enumerate(cases):
            found = rejected.get((partition, offset))
            assert (found is not None) == (disposition == "rejected"), name
            if found:
                assert found[0] == reason, name
                assert detail is None or found[1] == detail, name
    assert decided.unaccounted() == {}


@pytest.mark.parametrize(
    ("role", "shown"),
    [("clickstream_writer", PRIVATE), ("grafana_reader", '{"*****": "***@*******.***", "***": "****"')],
)
def test_excerpts_are_masked_for_dashboards(decided: Pipeline, role: str, shown: str) -> None:
    with psycopg.connect(
        host="127.0.0.1",
        port=decided.stack.ports.postgres,
        dbname=decided.database,
        user=role,
        password=(decided.stack.secrets / role).read_text(),
    ) as conn:
        excerpts = conn.execute(
            "SELECT excerpt FROM ledger.rejected_records WHERE partition = %s", [len(PARTITIONS)]
        ).fetchall()
    assert excerpts == [(shown,)]
