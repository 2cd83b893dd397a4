"""RFC 8259, strictly, on top of the standard library's C scanner.

`json` alone accepts NaN, passes lone surrogates and raises RecursionError on deep nesting; Spark's
`from_json` and `parse_json` are laxer still. What is added here costs nothing on ordinary values: each
extra check runs only where the text can need it.
"""

import json
import re
import sys
from dataclasses import dataclass
from typing import NoReturn

from clickstream_transform.event_schema import MAX_NESTING_LEVELS

_UNGUARDED_BRACKETS = 64
_FRAMES_PER_LEVEL = 4
_MAX_INT_LITERAL = len(str(-(2**63)))
_BYTE_ORDER_MARK = "\ufeff"
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    r"|u(?P<lone>[dD][89a-fA-F])"  # half a pair
    r"|.)"
)
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|(?P<open>[\[{])|(?P<close>[\]}])', re.DOTALL)


@dataclass(frozen=True)
class OutsizedInteger:
    """An integer literal with more digits than any 64-bit one; kept as text, int() being quadratic."""

    literal: str

    def __str__(self) -> str:
        """Return the literal as it stood in the text."""
        return self.literal


def parse_json(text: str) -> object:
    """Parse one JSON text; of duplicate keys the last wins, integers beyond 64 bits become OutsizedInteger.

    Raises:
        ValueError: the text is not RFC 8259 JSON, holds a lone surrogate, or nests deeper than 1,024 levels.
    """
    if text.startswith(_BYTE_ORDER_MARK):
        raise ValueError("byte order mark")
    brackets = text.count("[") + text.count("{")
    document = _decode(text) if brackets <= _UNGUARDED_BRACKETS else _decode_deep(text, brackets)
    if _SURROGATE_ESCAPE.search(text) and any(escape["lone"] for escape in _ESCAPE.finditer(text)):
        raise ValueError("lone surrogate")
    return document


def _decode(text: str) -> object:
    return json.loads(text, parse_int=_integer, parse_constant=_refuse_constant)


def _decode_deep(text: str, brackets: int) -> object:
    """Decode a text whose nesting might exceed Python's usual recursion limit."""
    if brackets > MAX_NESTING_LEVELS:
        _check_depth(text)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _FRAMES_PER_LEVEL * MAX_NESTING_LEVELS))
    try:
        return _decode(text)
    finally:
        sys.setrecursionlimit(limit)


def _check_depth(text: str) -> None:
    """Refuse nesting beyond the limit; exact up to the first syntax error, where parsing stops."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token["open"]:
            depth += 1
            if depth > MAX_NESTING_LEVELS:
                raise ValueError(f"nesting beyond {MAX_NESTING_LEVELS} levels")
        elif token["close"]:
            depth -= 1


def _integer(literal: str) -> int | OutsizedInteger:
    return int(literal) if len(literal) <= _MAX_INT_LITERAL else OutsizedInteger(literal)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
