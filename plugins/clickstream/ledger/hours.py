"""UTC hours: YYYY-MM-DDTHH in specs, reports and folder names, timestamps in the ledger."""

from datetime import UTC, datetime


def parse(text: str) -> datetime:
    """The start of an hour spelled YYYY-MM-DDTHH."""
    return datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC)


def spell(start: datetime) -> str:
    """An hour as YYYY-MM-DDTHH."""
    return f"{start.astimezone(UTC):%Y-%m-%dT%H}"
