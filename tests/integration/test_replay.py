"""A real access log, replayed through the pipeline, gives the windows that a short script computes from the file."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.kit.pipeline import Pipeline

REPOSITORY = Path(__file__).parents[2]
LOG = REPOSITORY.parent / "shared" / "data" / "access_log_2015-05.gz"
LINE = re.compile(r'^(\S+) \S+ \S+ \[([^]]+)] "(?:[^"\\]|\\.)*" \d+ \S+ "(?:[^"\\]|\\.)*" "((?:[^"\\]|\\.)*)"$')

Windows = dict[tuple[int, int], tuple[int, int, int]]


def windows_of_the_file() -> Windows:
    """Events, visitors and sessions by (start, minutes), from the file alone."""
    requests = []
    for line in gzip.decompress(LOG.read_bytes()).decode(errors="replace").split("\n"):
        if match := LINE.match(line):
            seconds = int(datetime.strptime(match[2], "%d/%b/%Y:%H:%M:%S %z").timestamp())
            requests.append((seconds, (match[1], match[3])))
    last: dict[tuple[str, str], int] = {}
    session: Counter[tuple[str, str]] = Counter()
    found = defaultdict(lambda: (Counter[str](), set(), set()))  # type: ignore[var-annotated]
    for seconds, visitor in sorted(requests, key=lambda request: request[0]):
        session[visitor] += seconds - last.get(visitor, seconds) > 1800
        last[visitor] = seconds
        for minutes in (5, 60):
            events, visitors, sessions = found[seconds // (minutes * 60) * minutes * 60, minutes]
            events["all"] += 1
            visitors.add(visitor)
            sessions.add((visitor, session[visitor]))
    return {key: (events["all"], len(visitors), len(sessions)) for key, (events, visitors, sessions) in found.items()}


def replay(pipeline: Pipeline, state: Path, *options: str) -> None:
    subprocess.run(
        [sys.executable, "lambda/access_log_replay.py", str(LOG), "--state", str(state), *options],
        cwd=REPOSITORY,
        env=os.environ
        | {"KAFKA_BOOTSTRAP_SERVERS": pipeline.settings.kafka_bootstrap_servers, "TOPIC": pipeline.settings.topic},
        check=True,
        capture_output=True,
    )


def published(pipeline: Pipeline) -> Windows:
    return {key: (row["events"], row["users"], row["sessions"]) for key, row in pipeline.traffic().items()}


needs_the_log = pytest.mark.skipif(not LOG.exists(), reason="the real access log does not lie beside this checkout")


@needs_the_log
def test_the_windows_of_a_real_log_and_a_second_replay_changes_nothing(
    pipeline: Pipeline, spark: SparkSession, tmp_path: Path
) -> None:
    pipeline.create_topic()
    replay(pipeline, tmp_path, "--times", "kept")
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert published(pipeline) == windows_of_the_file()
    pipeline.assert_equals_oracle(pipeline.log())
    before = pipeline.traffic()
    replay(pipeline, tmp_path, "--times", "kept")
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert pipeline.traffic() == before
    assert pipeline.dispositions() == {"accepted": 9_999, "duplicate": 9_999}


@needs_the_log
def test_a_log_that_is_shifted_to_now_is_the_same_when_it_is_replayed_again(
    pipeline: Pipeline, spark: SparkSession, tmp_path: Path
) -> None:
    pipeline.create_topic()
    began = datetime.now(UTC)
    replay(pipeline, tmp_path, "--times", "shifted")
    ended = datetime.now(UTC)
    replay(pipeline, tmp_path, "--times", "shifted")
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert pipeline.dispositions() == {"accepted": 9_999, "duplicate": 9_999}
    newest = pipeline.one("SELECT max(ended_at) FROM analytics.sessions")
    assert began.replace(microsecond=0) <= newest <= ended
    assert sum(events for (_, minutes), (events, _, _) in published(pipeline).items() if minutes == 60) == 9_999
    pipeline.assert_equals_oracle(pipeline.log())
