"""Sessions of visitors: requests that follow each other without 30 minutes of silence."""

from bisect import bisect_right
from hashlib import sha256

SILENCE_SECONDS = 30 * 60


def visitor_id(address: str, agent: str) -> str:
    """Name a visitor by a hash of address and agent."""
    return f"v-{_digest(address, agent)}"


def session_id(visitor: str, start: int) -> str:
    """Name a session by its visitor and its start, in seconds since the epoch."""
    return f"s-{_digest(visitor, str(start))}"


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


class SessionIndex:
    """The sessions of every visitor, from requests in any order.

    Two requests of a visitor share a session if no two neighbours between them, in order of time, are more
    than 30 minutes apart. Only the start and end of each session are held, so memory grows with the number of
    sessions, not of requests.
    """

    def __init__(self) -> None:
        """Begin without requests."""
        self._bounds: dict[str, tuple[list[int], list[int]]] = {}

    def add(self, visitor: str, time: int) -> None:
        """Take in a request; it may begin a session, extend one, or join two."""
        starts, ends = self._bounds.setdefault(visitor, ([], []))
        first = place = bisect_right(starts, time)
        start = end = time
        if first and time - ends[first - 1] <= SILENCE_SECONDS:
            first -= 1
            start, end = starts[first], max(time, ends[first])
        if place < len(starts) and starts[place] - end <= SILENCE_SECONDS:
            end = ends[place]
            place += 1
        starts[first:place] = [start]
        ends[first:place] = [end]

    def start_of(self, visitor: str, time: int) -> int | None:
        """Find the start of the session that a request belongs to; None if that request was never added."""
        starts, ends = self._bounds.get(visitor, ([], []))
        place = bisect_right(starts, time) - 1
        return starts[place] if place >= 0 and time <= ends[place] else None
