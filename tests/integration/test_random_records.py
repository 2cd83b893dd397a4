"""Random record sets, split at random and arriving in any order, end in the oracle's numbers."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from tests.kit.pipeline import Pipeline
from tests.kit.records import CORNER_CASES, RETIRED_HOURS, record_lists
from tests.oracle import Record

EXAMPLES = 8


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


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take an hour of Spark
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data(), records=record_lists(max_size=40), retired=RETIRED_HOURS)
def test_random_records_in_random_splits(
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


def test_every_corner_case_is_decided_by_spark_as_by_hand(pipeline: Pipeline, spark: SparkSession) -> None:
    partitions = sorted({timestamp for _, _, timestamp, *_ in CORNER_CASES})
    expected = {}
    for partition, timestamp in enumerate(partitions):
        cases = [case for case in CORNER_CASES if case[2] == timestamp]
        records = []
        for offset, (name, value, _, headers, disposition, reason, detail) in enumerate(cases):
            records.append(Record("corner-cases", partition, offset, timestamp, None, value, headers))
            expected[partition, offset] = (name, disposition, reason, detail)
        pipeline.land_records(records)
    pipeline.aggregate_all(spark)
    rejected = {
        (partition, offset): (reason, detail)
        for partition, offset, reason, detail in pipeline.conn.execute(
            'SELECT partition, "offset", reason, detail FROM ledger.rejected_records'
        )
    }
    for key, (name, disposition, reason, detail) in expected.items():
        assert (key in rejected) == (disposition == "rejected"), name
        if disposition == "rejected":
            assert rejected[key][0] == reason, name
            assert detail is None or rejected[key][1] == detail, name
    assert pipeline.unaccounted() == {}


@pytest.mark.parametrize("role", ["clickstream_writer", "grafana_reader"])
def test_excerpts_are_masked_for_dashboards(pipeline: Pipeline, spark: SparkSession, role: str) -> None:
    pipeline.land_records(
        [Record("t", 0, 0, 1_795_372_200_000, None, '{"email": "ann@example.org", "имя": "Иван"'.encode(), ())]
    )
    pipeline.aggregate_all(spark)
    import psycopg

    password = (pipeline.stack.secrets / role).read_text()
    with psycopg.connect(
        host="127.0.0.1",
        port=pipeline.stack.ports.postgres,
        dbname=pipeline.database,
        user=role,
        password=password,
    ) as conn:
        (excerpt,) = conn.execute("SELECT excerpt FROM ledger.rejected_records").fetchone() or ("",)
    masked = '{"*****": "***@*******.***", "***": "****"'
    shown = '{"email": "ann@example.org", "имя": "Иван"' if role == "clickstream_writer" else masked
    assert excerpt == shown
