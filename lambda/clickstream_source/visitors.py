"""Visitors of the simulated shop, each session drawn whole from the seed of its own.

Nothing is kept between minutes. Sessions last less than 30 minutes, so the events of a minute come from the
sessions that started in it and in the 29 minutes before; all of those are drawn again and cut to the minute.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import NamedTuple

from clickstream_source import catalog

MINUTE_MS = 60_000
SESSION_MINUTES = 30
_LONGEST_SESSION_MS = (SESSION_MINUTES - 1) * MINUTE_MS
_SHORTEST_DWELL_MS = 1_500
_MEAN_EXTRA_DWELL_MS = 26_000
_LOGIN_RATE = 0.35
_LOGOUT_RATE = 0.4
_BOUNCE_RATE = 0.3
_GO_ON_RATE = 0.84
_OTHER_DEVICE_RATE = 0.15
_USER_EXPONENT = 0.6
_CALIBRATION_SESSIONS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How visitors behave: the seed of everything drawn, how many people there are, and their funnel."""

    seed: int
    users: int
    view_to_cart_rate: float
    cart_to_purchase_rate: float


class Visitor(NamedTuple):
    """A person who comes back: the region stays, the device mostly."""

    user_id: str
    market: catalog.Market
    device: str


class Step(NamedTuple):
    """One thing done in a session, without its time."""

    event_type: str
    page: str
    product: int | None = None
    quantity: int = 0


class Action(NamedTuple):
    """A step at its time (milliseconds since the epoch), with the session it belongs to."""

    time_ms: int
    session_id: str
    number: int
    visitor: Visitor
    step: Step
    referrer: str | None


def actions_of_session(shape: Shape, producer_id: str, start_ms: int, number: int) -> list[Action]:
    """Draw a session's whole timeline.

    Args:
        shape: how visitors behave.
        producer_id: the producer that owns the session.
        start_ms: the first action's time in milliseconds since the epoch.
        number: the session's number among those that start in the same minute.

    Returns:
        Actions in order of time, all within 29 minutes of the start.
    """
    identity = (shape.seed, producer_id, start_ms // MINUTE_MS, number)
    random = seeded("session", *identity)
    session_id = f"s-{sha256(repr(identity).encode()).hexdigest()[:24]}"
    visitor = _visitor(shape, random)
    referrer = catalog.REFERRERS.draw(random)
    time_ms = start_ms
    actions: list[Action] = []
    for step in _steps(shape, random):
        actions.append(Action(time_ms, session_id, len(actions), visitor, step, referrer))
        referrer = catalog.SITE + step.page
        time_ms += _SHORTEST_DWELL_MS + int(-math.log(1 - random.random()) * _MEAN_EXTRA_DWELL_MS)
        if time_ms - start_ms >= _LONGEST_SESSION_MS:
            break
    return actions


@lru_cache(maxsize=4)
def mean_actions(shape: Shape) -> float:
    """Measure how many actions a session has on average, from a fixed sample of sessions of this shape."""
    sample = (len(actions_of_session(shape, "calibration", 0, n)) for n in range(_CALIBRATION_SESSIONS))
    return sum(sample) / _CALIBRATION_SESSIONS


def seeded(*parts: str | int) -> Random:
    """Make a random source that depends on the parts only."""
    digest = sha256("\0".join(map(str, parts)).encode()).digest()
    return Random(int.from_bytes(digest[:16]))  # noqa: S311 - simulated visitors keep no secrets


def _visitor(shape: Shape, random: Random) -> Visitor:
    number = catalog.zipf(shape.users, _USER_EXPONENT).draw(random)
    person = seeded("user", shape.seed, number)
    market = catalog.MARKETS.draw(person)
    device = catalog.DEVICES.draw(person)
    if random.random() < _OTHER_DEVICE_RATE:
        device = catalog.DEVICES.draw(random)
    return Visitor(f"u-{number + 1:06d}", market, device)


def _steps(shape: Shape, random: Random) -> Iterator[Step]:
    """Walk through the shop: perhaps log in, look around, fill the cart, perhaps buy, perhaps log out."""
    page = catalog.landing(random)
    if random.random() < _BOUNCE_RATE:
        yield Step("PAGE_VIEW", page.path)
        return
    logged_in = random.random() < _LOGIN_RATE
    if logged_in:
        yield Step("LOGIN", "/account/login")
    cart: dict[int, int] = {}
    while True:
        yield Step("PAGE_VIEW", page.path)
        if page.product is not None and random.random() < shape.view_to_cart_rate:
            cart[page.product] = cart.get(page.product, 0) + 1
            yield Step("ADD_TO_CART", page.path, page.product, 1)
        if random.random() >= _GO_ON_RATE:
            break
        page = catalog.next_page(random)
    if cart and random.random() < shape.cart_to_purchase_rate:
        yield Step("PAGE_VIEW", "/cart")
        yield Step("PAGE_VIEW", "/checkout")
        for product, quantity in cart.items():
            yield Step("PURCHASE", "/checkout/confirmation", product, quantity)
    if logged_in and random.random() < _LOGOUT_RATE:
        yield Step("LOGOUT", "/account/logout")
