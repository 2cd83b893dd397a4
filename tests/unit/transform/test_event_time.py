from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickstream_transform.event_time import parse_event_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T12:00:00Z", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22t12:00:00z", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22T12:00:00-00:00", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22T12:00:00.1Z", datetime(2026, 11, 22, 12, 0, 0, 100_000, tzinfo=UTC)),
        ("2026-11-22T12:00:00.999999999Z", datetime(2026, 11, 22, 12, 0, 0, 999_999, tzinfo=UTC)),
        ("2026-11-22T12:00:00+23:59", datetime(2026, 11, 21, 12, 1, tzinfo=UTC)),
        ("2026-11-22T12:00:00-23:59", datetime(2026, 11, 23, 11, 59, tzinfo=UTC)),
        ("2024-02-29T23:59:59Z", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        ("1999-12-31T23:00:00-01:00", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2100-12-31T23:59:59.999999Z", datetime(2100, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2101-01-01T00:59:59+01:00", datetime(2100, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    assert parse_event_time(text) == (expected - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22 12:00:00Z",
        "2026-11-22T12:00:00",
        "2026-11-22T12:00Z",
        "2026-11-22T12:00:00.Z",
        "2026-11-22T12:00:00,5Z",
        "2026-11-22T12:00:00.1234567890Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T12:60:00Z",
        "2026-12-31T23:59:60Z",
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-10T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-22T12:00:00+24:00",
        "2026-11-22T12:00:00+01:60",
        "2026-11-22T12:00:00+0100",
        "2026-11-22T12:00:00+01",
        "2026-11-22T12:00:00Z ",
        "2026-11-22T12:00:00Z\n",
        "20261122T120000Z",
        "2026-W47-7T12:00:00Z",
        "\uff12026-11-22T12:00:00Z",
        "1999-12-31T23:59:59.999999Z",
        "2000-01-01T00:00:00+00:01",
        "2101-01-01T00:00:00Z",
        "2100-12-31T23:59:59-00:01",
    ],
)
def test_what_is_no_event_time(text: str) -> None:
    assert parse_event_time(text) is None


@given(
    moment=st.datetimes(datetime(2000, 1, 3), datetime(2100, 12, 29)),  # noqa: DTZ001 - the zone is drawn beside it
    offset=st.integers(-1_439, 1_439),
)
def test_agrees_with_the_standard_library(moment: datetime, offset: int) -> None:
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    text = f"{moment.isoformat(timespec='microseconds')}{sign}{minutes // 60:02}:{minutes % 60:02}"
    assert parse_event_time(text) == (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)
