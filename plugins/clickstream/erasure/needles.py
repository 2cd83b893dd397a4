"""A cheap look at bytes before records are read one by one: can an id be in there at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 64  # more are slower to look for than records are to read


class Needles:
    """Ids that are looked for; without any given, all bytes may hold what is looked for."""

    def __init__(self, identifiers: Iterable[str] | None = None) -> None:
        """Take the ids, as decoded text."""
        known = None if identifiers is None else list(identifiers)
        self._any = known is None or len(known) > MOST or any(not _is_utf8(one) for one in known)
        self._texts = [] if self._any or known is None else [one.encode() for one in known]
        plain = all(byte >= ord(" ") and byte not in b'"\\/' for text in self._texts for byte in text)
        self._escape = b"\\u" if plain else b"\\"

    def may_be_in(self, data: bytes) -> bool:
        """Whether JSON in these bytes may spell one of the ids: with escapes anything can be spelt."""
        return self._any or self._escape in data or any(text in data for text in self._texts)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
