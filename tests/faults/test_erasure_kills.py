"""An erasure that is killed anywhere is complete once it was run again, and may run beside everything else."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from clickstream.errors import StaleAttempt, StaleBase
from tests import erasing
from tests.erasing import USER, assert_gone, erased, mapped_log
from tests.faults.test_kills import environment
from tests.faults.victim import ERASURE
from tests.integration.test_drain_and_aggregate import values
from tests.pipeline import Pipeline

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def known(pipeline: Pipeline, spark: SparkSession) -> Pipeline:
    """A user in two published batches, a segment that waits, the archive, and two files of the rejected zone."""
    erasing.use_key(pipeline)
    pipeline.create_topic()
    hers, others = erasing.spread(erasing.hers()), erasing.spread(erasing.others())
    erasing.archive_all(pipeline, [*hers, *others])
    for part in (hers[:13], [*hers[10:], *others]):
        pipeline.produce([*part, *[(1, value) for value in erasing.rejected()]])
        pipeline.drain_all()
        pipeline.aggregate_all(spark)
    pipeline.produce(hers[:4])
    pipeline.drain_all()
    return pipeline


def kill(pipeline: Pipeline, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.victim", point, USER],
        cwd=REPOSITORY,
        env=environment(pipeline) | {"CLICKSTREAM_ERASURE_KEY_FILE": str(pipeline.settings.erasure_key_file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 20
    while pipeline.one(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


BEFORE = (
    "in the middle of files written anew",
    "before the erasure's transaction",
    "in the middle of the erasure's transaction",
    "just before the erasure's COMMIT",
)


@pytest.mark.parametrize("point", ERASURE)
def test_killed_and_run_again(known: Pipeline, spark: SparkSession, point: str) -> None:
    before = known.traffic()
    kill(known, point)
    committed = known.one("SELECT count(*) FROM ledger.erasures WHERE kind = 'user'")
    assert committed == (0 if point in BEFORE else 1)
    assert known.traffic() == before
    assert known.unaccounted() == {}
    token = known.one("SELECT token FROM ledger.erasures WHERE kind = 'user'")
    erased(known)
    assert token in {None, known.one("SELECT token FROM ledger.erasures WHERE kind = 'user'")}
    assert known.one("SELECT count(*) FROM ledger.erasure_requests WHERE committed_at IS NULL") == 1 - committed
    assert known.one("SELECT count(*) FROM ledger.erasure_requests WHERE finished_at IS NULL") == 1 - committed
    assert known.one("SELECT count(*) FROM ledger.rewrites WHERE state = 'open'") == 0
    dead = known.conn.execute("SELECT attempt_id FROM ledger.rewrites WHERE state = 'dead'").fetchall()
    for (attempt_id,) in dead:  # what the sweep does with the files of attempts without effect
        for path in Path(known.settings.storage_url.removeprefix("file://")).rglob(str(attempt_id)):
            shutil.rmtree(path)
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known)


def test_beside_drains_and_batches(known: Pipeline, spark: SparkSession) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        own = Pipeline(known.stack, known.settings, known.dsn, known.connect(), known.partitions)
        try:
            for user in (USER, "u1", "u2", "u3"):
                erased(own, user)
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)
        finally:
            own.close()

    worker = threading.Thread(target=work)
    worker.start()
    stale = 0
    while worker.is_alive():
        known.produce([*erasing.spread(erasing.hers()[:8]), *values(10)])
        try:
            known.drain()
            known.aggregate(spark)
        except (StaleAttempt, StaleBase):
            stale += 1
    worker.join()
    assert failed == []
    with suppress(StaleAttempt):
        known.drain_all()
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known, [*erasing.IDS, '"u1"', '"u2"', '"u3"'])
