"""What a step of maintenance did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Outcome:
    """What was done, or in a dry run would be.

    Attributes:
        what: What is counted, in plain words, such as `raw files`.
        items: How many.
        bytes: Their size, as far as it is known.
        lines: What else to know, a line each.
    """

    what: str
    items: int = 0
    bytes: int = 0
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line, for a log or a table."""
        return f"{self.what}: {self.items:,} ({self.bytes:,} bytes)"
