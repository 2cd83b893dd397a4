"""Of equal events the first is accepted. All cases are decided by one query, as the ids of each are its own."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from clickstream_transform import schemas
from clickstream_transform.counts import take_tally
from clickstream_transform.dedupe import dedupe
from tests.kit.lake import NOON

COLUMNS = [
    *to_arrow_schema(schemas.EVENTS, timezone="UTC"),
    pa.field("hour", pa.string()),
    pa.field("disposition", pa.string()),
]
Decided = set[tuple[str, int, int, str, bool]]


def row(content: str, offset: int = 0, partition: int = 0, topic_id: str = "t", **changes: Any) -> dict[str, Any]:
    return {
        "topic_id": topic_id,
        "partition": partition,
        "offset": offset,
        "event_id": "event-1",
        "event_time": NOON,
        "fingerprint": content.encode(),
        "hour": "2026-11-22T12",
        "disposition": "candidate",
    } | changes


# Candidates, live events, and what becomes of the candidates.
CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], Decided]] = {
    "the least coordinates win": (
        [row("a", 7, 1), row("a", 10), row("a", 9), row("a", topic_id="u"), row("a", topic_id="T2")],
        [],
        {
            ("T2", 0, 0, "accepted", False),  # by bytes, upper case comes first
            ("t", 0, 9, "duplicate", False),
            ("t", 0, 10, "duplicate", False),
            ("t", 1, 7, "duplicate", False),
            ("u", 0, 0, "duplicate", False),
        },
    ),
    "a live event precedes every candidate": (
        [row("a", 0), row("b", 1)],
        [row("a", 999, 9, topic_id="z")],
        {("t", 0, 0, "duplicate", False), ("t", 0, 1, "accepted", True)},
    ),
    "conflicts count accepted events only": (
        [
            row("a", 0),
            row("a", 1),  # a duplicate is no conflict
            row("b", 2),
            row("c", 3),
            row("b", 4),
            row("x", 5, event_id="event-2"),
            row("y", 6, hour="2026-11-22T13"),  # another hour
            row("z", 7, event_id="Event-1"),  # another id
        ],
        [],
        {
            ("t", 0, 0, "accepted", False),
            ("t", 0, 1, "duplicate", False),
            ("t", 0, 2, "accepted", True),
            ("t", 0, 3, "accepted", True),
            ("t", 0, 4, "duplicate", False),
            ("t", 0, 5, "accepted", False),
            ("t", 0, 6, "accepted", False),
            ("t", 0, 7, "accepted", False),
        },
    ),
    "ids compare by bytes": (
        [row("a", 0, event_id="\u00e9"), row("b", 1, event_id="e\u0301"), row("c", 2, event_id="\u00e9 ")],
        [],
        {("t", 0, offset, "accepted", False) for offset in range(3)},
    ),
}


def frame(spark: SparkSession, rows: Iterable[dict[str, Any]]) -> DataFrame:
    return spark.createDataFrame(pa.Table.from_pylist(list(rows), schema=pa.schema(COLUMNS)))


def deduped(spark: SparkSession, rows: list[dict[str, Any]], live: list[dict[str, Any]], *, tasks: int) -> DataFrame:
    return dedupe(frame(spark, rows), frame(spark, live).drop("hour", "disposition"), tasks=tasks)


def named(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ids that no other case has."""
    return [one | {"event_id": f"{name}: {one['event_id']}"} for one in rows]


@pytest.fixture(scope="module", params=[1, 3], ids=["one task", "three tasks"])
def decided(request: pytest.FixtureRequest, steps_session: SparkSession) -> dict[str, Decided]:
    rows = [one for name, (candidates, _, _) in CASES.items() for one in named(name, candidates)]
    live = [one for name, (_, events, _) in CASES.items() for one in named(name, events)]
    found: dict[str, Decided] = {name: set() for name in CASES}
    for one in deduped(steps_session, rows, live, tasks=request.param).collect():
        decision = (one["topic_id"], one["partition"], one["offset"], one["disposition"], one["id_conflict"])
        found[one["event_id"].partition(": ")[0]].add(decision)
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_becomes_of_candidates(decided: dict[str, Decided], case: str) -> None:
    _, _, expected = CASES[case]
    assert decided[case] == expected


def test_the_tally_counts_by_unit_of_time(steps_session: SparkSession) -> None:
    rows = [
        row("a", 0),
        row("a", 1),
        row("b", 2),
        row("c", 3, event_id="event-2", event_time=NOON.replace(minute=4, second=59, microsecond=999_999)),
        row("d", 4, event_id="event-3", event_time=NOON.replace(minute=5)),
        row("e", 5, event_id="event-4", event_time=NOON.replace(hour=13), hour="2026-11-22T13"),
    ]
    tally = take_tally(deduped(steps_session, rows, [], tasks=1), unit_minutes=5)
    noon = int(NOON.timestamp())
    assert (tally.accepted, tally.duplicate, tally.id_conflicts) == (5, 1, 1)
    assert tally.accepted_by_unit == {noon: 3, noon + 300: 1, noon + 3_600: 1}
    assert tally.largest_hour() == 4
