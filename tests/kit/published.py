"""Closed days as a Delta table, as tests fill it and look at it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from clickstream.maintenance import days
from tests import oracle
from tests.kit.events import event_record
from tests.kit.pipeline import Pipeline
from tests.oracle import Record

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=12)
FIRST, SECOND = MIDNIGHT.date(), MIDNIGHT.date() + timedelta(days=1)
BOTH_CLOSED = MIDNIGHT + timedelta(days=3, minutes=2)  # the end of the second, the allowed lateness, two minutes
HOURS = (0, 9, 17, 23)
KINDS = ("PAGE_VIEW", "ADD_TO_CART", "PURCHASE")


def two_days() -> list[Record]:
    """Events of a few hours of two days, one of them twice, then one long after, which closes both."""
    moments = [
        MIDNIGHT + timedelta(days=day, hours=HOURS[number * len(HOURS) // events], minutes=number)
        for day, events in enumerate((31, 29))
        for number in range(events)
    ]
    made = [
        event_record(
            number,
            moment,
            userId=f"secret-user-{number % 7}",
            sessionId=f"s{number % 11}",
            eventType=KINDS[number % 3],
            productId=f"p{number % 5}",
            amount=f"{number}.25",
            currency=("EUR", "USD")[number % 2],
        )
        for number, moment in enumerate(moments)
    ]
    again = Record("t", 0, len(made), made[-1].timestamp_ms, None, made[0].value)
    return [*made, again, event_record(len(made) + 1, BOTH_CLOSED, userId="later")]


def publish(pipeline: Pipeline, *, dry_run: bool = False) -> Any:
    return days.publish_days(pipeline.conn, pipeline.settings, dry_run=dry_run)


def remove(pipeline: Pipeline, *, dry_run: bool = False) -> Any:
    return days.remove_days(pipeline.conn, pipeline.settings, dry_run=dry_run)


def take(pipeline: Pipeline, spark: SparkSession, records: list[Record]) -> None:
    pipeline.land_records(records)
    pipeline.aggregate_all(spark)


def folder(pipeline: Pipeline) -> Path:
    return Path(days.table_url(pipeline.settings).removeprefix("file://"))


def table(pipeline: Pipeline) -> DeltaTable:
    return DeltaTable(folder(pipeline))


def rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table(pipeline).to_pyarrow_table().to_pylist()
    return found


def noted(pipeline: Pipeline) -> dict[date, tuple[int, int]]:
    found = pipeline.conn.execute("SELECT day, events, erasures_seen FROM ledger.published_days").fetchall()
    return {day: (events, erasures) for day, events, erasures in found}


def accepted(records: list[Record], *of: date) -> list[oracle.Event]:
    return [one for one in oracle.fold(records).accepted if day_of(one) in of]


def day_of(one: oracle.Event) -> date:
    return (oracle.EPOCH + one.time * oracle.MICROSECOND).date()


def assert_table_is(pipeline: Pipeline, records: list[Record], *of: date) -> None:
    """The table has exactly the oracle's events of these days, field by field, and the ledger says so."""
    names = {
        "eventId": "event_id", "userId": "user_id", "sessionId": "session_id", "device": "device", "region": "region",
        "producerId": "producer_id", "eventType": "event_type", "productId": "product_id", "currency": "currency",
    }  # fmt: skip
    expected = Counter(
        (
            day_of(one),
            one.time,
            one.fingerprint,
            Decimal(one.fields["amount"]) if "amount" in one.fields else None,
            *(one.fields.get(name) for name in names),
        )
        for one in accepted(records, *of)
    )
    found = Counter(
        (
            row["day"],
            (row["event_time"] - oracle.EPOCH) // oracle.MICROSECOND,
            row["fingerprint"],
            row["amount"],
            *(row[column] for column in names.values()),
        )
        for row in rows(pipeline)
    )
    assert found == expected
    assert {day: events for day, (events, _) in noted(pipeline).items()} == Counter(key[0] for key in expected)
