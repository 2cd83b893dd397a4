"""The simulated shop: its pages, products, markets and ways in, and how likely each is."""

from bisect import bisect
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from random import Random
from typing import Generic, NamedTuple, TypeVar

SITE = "https://shop.example"
PRODUCT_COUNT = 240

_T = TypeVar("_T")


class Choice(Generic[_T]):
    """Options with weights, one of which is drawn by one call of `Random.random`.

    No other method is ever called: Python promises the same sequence for a seed of `random()` alone.
    """

    def __init__(self, weighted: Iterable[tuple[_T, float]]) -> None:
        """Take pairs of option and weight; the weights need not add up to 1."""
        pairs = list(weighted)
        self._options = [option for option, _ in pairs]
        self._bounds = list(accumulate(weight for _, weight in pairs))

    def draw(self, random: Random) -> _T:
        """Draw one option."""
        place = bisect(self._bounds, random.random() * self._bounds[-1])
        return self._options[min(place, len(self._options) - 1)]


@lru_cache(maxsize=4)
def zipf(count: int, exponent: float) -> Choice[int]:
    """Numbers from 0 to count-1, number k with a weight of 1 / (k+1)^exponent."""
    return Choice((number, (number + 1) ** -exponent) for number in range(count))


class Market(NamedTuple):
    """Where a visitor lives and pays; `price_level` is relative to the euro, `decimals` the currency's."""

    region: str
    currency: str
    decimals: int
    price_level: float

    def amount(self, euro_cents: int) -> str:
        """Express a price in this market's currency, `49.90`."""
        return f"{euro_cents * self.price_level / 100:.{self.decimals}f}"


class Page(NamedTuple):
    """A page of the shop; a product's page names the product."""

    path: str
    product: int | None = None


MARKETS = Choice(
    [
        (Market("eu-central", "EUR", 2, 1.0), 26),
        (Market("eu-west", "EUR", 2, 1.0), 18),
        (Market("uk", "GBP", 2, 0.86), 12),
        (Market("us-east", "USD", 2, 1.1), 18),
        (Market("us-west", "USD", 2, 1.1), 11),
        (Market("japan", "JPY", 0, 165.0), 8),
        (Market("brazil", "BRL", 2, 6.1), 7),
    ]
)
DEVICES = Choice([("mobile", 55), ("desktop", 36), ("tablet", 9)])
REFERRERS = Choice[str | None](
    [
        (None, 34),
        ("https://www.google.com/", 30),
        ("https://duckduckgo.com/", 5),
        ("https://www.instagram.com/", 9),
        ("https://www.facebook.com/", 7),
        ("https://news.ycombinator.com/item?id=4100", 3),
        ("https://mail.example.net/newsletter", 8),
        ("https://price-compare.example/offers?q=shop", 4),
    ]
)
_CATEGORIES = ("garden", "kitchen", "lighting", "office", "outdoor", "toys")
_QUERIES = ("lamp", "kettle", "desk chair", "tent", "gift")


_LANDINGS = Choice([("home", 38), ("category", 17), ("product", 37), ("campaign", 8)])
_NEXT = Choice([("product", 52), ("category", 24), ("search", 13), ("home", 7), ("help", 4)])


def landing(random: Random) -> Page:
    """Draw the page on which a session begins."""
    return _page(_LANDINGS.draw(random), random)


def next_page(random: Random) -> Page:
    """Draw the page a visitor goes on to."""
    return _page(_NEXT.draw(random), random)


def product_page(product: int) -> Page:
    """Name the page of a product."""
    return Page(f"/products/{product_id(product)}", product)


def product_id(product: int) -> str:
    """Name a product in events."""
    return f"sku-{product + 1:04d}"


@lru_cache(maxsize=PRODUCT_COUNT)
def price_cents(product: int) -> int:
    """Look up a product's price, 4.90 to 203.90 euro, in cents."""
    return 490 + int.from_bytes(sha256(product_id(product).encode()).digest()[:4]) % 200 * 100


def _page(kind: str, random: Random) -> Page:
    if kind == "product":
        return product_page(zipf(PRODUCT_COUNT, 1.05).draw(random))
    if kind == "category":
        return Page(f"/categories/{_CATEGORIES[zipf(len(_CATEGORIES), 0.7).draw(random)]}")
    if kind == "search":
        query = _QUERIES[zipf(len(_QUERIES), 0.7).draw(random)]
        return Page(f"/search?q={query.replace(' ', '+')}")
    return {"home": Page("/"), "campaign": Page("/?utm_campaign=season"), "help": Page("/help#delivery")}[kind]
