"""All zones on S3: drain, Spark through S3A, publishing, archive and checks, with what the SDKs find by themselves."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import IO
from uuid import UUID

import pytest
from pyspark.sql import SparkSession

from clickstream import storage as zones
from clickstream.aggregate import attempt
from clickstream.errors import OutputMismatch
from clickstream.health import generator, storage
from clickstream.health.run import run as look_at
from clickstream_source.archive import write_minute
from clickstream_transform.storage import InputFileError, check_inputs
from infra.bootstrap import s3a
from infra.local import jars
from infra.local.java import find_java
from tests.kit import spark_task
from tests.kit.aws import REGION, Account
from tests.kit.events import values
from tests.kit.installations import installation, patient
from tests.kit.open_batch import records_of
from tests.kit.pipeline import Pipeline

BUCKET = "clickstream-test"
STORAGE_URL = f"s3://{BUCKET}/zones"


@pytest.fixture
def on_s3(pipeline: Pipeline, aws: Account) -> Pipeline:
    """The pipeline, whose zones are in a bucket from now on; what the ledger names may be moved there."""
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    there = replace(pipeline)
    there.use(storage_url=STORAGE_URL, spark_s3_jars=jars.fetch(f"s3a-{s3a.VERSION}", s3a.MODULE, find_java()))
    return there


def move(pipeline: Pipeline, aws: Account) -> None:
    """Bring the raw and event files of a pipeline into the bucket."""
    for file in [*pipeline.folder.glob("raw/**/*.parquet"), *pipeline.folder.glob("events/**/*.parquet")]:
        aws.client("s3").upload_file(str(file), BUCKET, f"zones/{file.relative_to(pipeline.folder)}")
    for table in ("segments", "event_files"):
        pipeline.conn.execute(
            f"UPDATE ledger.{table} SET path = replace(path, %s, %s)", [pipeline.folder.as_uri(), STORAGE_URL]
        )


def submit(pipeline: Pipeline, attempt_id: UUID) -> tuple[list[str], str]:
    """Submit an attempt as the DAG's task does; returns the command and what it printed."""
    command = spark_task.command(pipeline, attempt_id)
    environment = spark_task.environment() | {
        "CLICKSTREAM_STORAGE_URL": pipeline.settings.storage_url,
        "PIPELINE_PASSWORD": "not-for-spark",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return command, done.stdout + done.stderr


def batch(pipeline: Pipeline) -> UUID:
    """Claim, begin, submit."""
    batch_id = pipeline.claim()
    assert batch_id is not None
    attempt_id = pipeline.begin(batch_id)
    command, printed = submit(pipeline, attempt_id)
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    spec = (attempt.folder(pipeline.settings, attempt_id) / "spec.json").read_text()
    assert not [text for text in (*command, printed, spec) if secret in text]
    return attempt_id


def keys(aws: Account, prefix: str = "zones/") -> list[str]:
    pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


def test_a_batch_from_kafka_to_postgresql_by_way_of_s3(
    pipeline: Pipeline, on_s3: Pipeline, spark: SparkSession, aws: Account
) -> None:
    fresh = values(120)
    pipeline.create_topic()
    pipeline.produce(fresh[:80])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    move(pipeline, aws)
    aws.client("s3").put_object(Bucket=BUCKET, Key=f"zones/events/{UUID(int=0)}/hour=2026-01-01T00/litter.parquet")
    on_s3.produce([*fresh[70:], *fresh[:10]])  # reads the event files of the batch before
    on_s3.drain_all()
    assert on_s3.publish(batch(on_s3))
    assert on_s3.dispositions() == {"accepted": 120, "duplicate": 20}
    on_s3.assert_equals_oracle(on_s3.log())
    found = keys(aws)
    assert {key.split("/")[1] for key in found} == {"raw", "events", "batches"}
    assert [key for key in found if "_temporary" in key or ".partial" in key or key.endswith("/")] == []


def test_what_is_missing_or_cut_on_s3_is_named_and_never_published(on_s3: Pipeline, aws: Account) -> None:
    log, _ = records_of(range(20))
    on_s3.land_records(log)
    batch_id = on_s3.claim()
    assert batch_id is not None
    spec = on_s3.spec(on_s3.begin(batch_id))
    segment = spec.segments[0]
    assert check_inputs([segment])[0].records == segment.records
    key = segment.path.removeprefix(f"s3://{BUCKET}/")
    content = aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content[:-1])
    with pytest.raises(InputFileError, match=re.escape(segment.path)):
        check_inputs([segment])
    aws.client("s3").delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(InputFileError, match="does not exist"):
        check_inputs([segment])
    with pytest.raises(OutputMismatch, match=r"report\.json does not exist"):
        on_s3.publish(UUID(spec.attempt_id))


def test_a_file_is_replaced_by_one_put_with_nothing_beside_it(aws: Account) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=BUCKET, Key="zones/archive/minute.json", Body=b"old")
    url = f"{STORAGE_URL}/archive/minute.json"
    zones.replace(STORAGE_URL, url, lambda stream: stream.write(b"new"))

    def cut_short(stream: IO[bytes]) -> None:
        stream.write(b"half of")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        zones.replace(STORAGE_URL, url, cut_short)
    versions = s3.list_object_versions(Bucket=BUCKET)
    assert [one["Key"] for one in versions["Versions"]] == 2 * ["zones/archive/minute.json"]
    assert "DeleteMarkers" not in versions
    assert s3.get_object(Bucket=BUCKET, Key="zones/archive/minute.json")["Body"].read() == b"new"
    s3.delete_object(Bucket=BUCKET, Key="zones/archive/minute.json")
    with pytest.raises(FileNotFoundError):
        zones.replace(STORAGE_URL, url, lambda stream: stream.write(b"back"))
    assert keys(aws) == []


def test_what_s3_refuses_to_remove_is_no_success(aws: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for name in ("1", "2"):
        s3.put_object(Bucket=BUCKET, Key=f"zones/events/attempt/{name}", Body=b"event")

    async def refuse_each(_: object, pathlist: list[str]) -> list[str]:  # its answer then names no deleted key
        return [] if pathlist else pathlist

    with monkeypatch.context() as patch:
        patch.setattr("s3fs.S3FileSystem._bulk_delete", refuse_each)
        with pytest.raises(PermissionError, match=r"2 of its files are still there, such as .*attempt/1"):
            zones.remove(f"{STORAGE_URL}/events/attempt/")
        assert zones.remove(f"{STORAGE_URL}/events/attempt/1") == 5  # by a request of its own, whose refusal is raised
    assert zones.remove(f"{STORAGE_URL}/events/attempt/") == 5
    assert keys(aws) == []
    assert zones.remove(f"{STORAGE_URL}/events/attempt/") == 0
    assert zones.remove(f"{STORAGE_URL}/events/attempt/1") == 0


def test_checks_look_at_s3_and_make_no_bucket(pipeline: Pipeline, aws: Account) -> None:
    where = installation(pipeline, storage_url=STORAGE_URL, archive_max_age_minutes=5)
    checks = [patient(storage.CHECK), patient(generator.CHECK)]
    rows = look_at(where, checks[:1])
    assert [row.status for row in rows] == ["down"], rows
    assert "specified bucket does not exist" in rows[0].reason, rows[0].reason
    assert aws.client("s3").list_buckets()["Buckets"] == []
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert [row.status for row in look_at(where, checks)] == ["ok", "degraded"]
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    write_minute(f"{STORAGE_URL}/archive", "lambda-1", minute, [b"{}"])
    assert keys(aws) == [f"zones/archive/clickstream/{minute:%Y/%m/%d/%H/%M}-lambda-1.json"]
    assert [row.status for row in look_at(where, checks)] == ["ok", "ok"]
