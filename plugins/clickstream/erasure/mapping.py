"""What the erasure list makes of a record: a function of the record, the key and the list, and of nothing else.

So a copy that arrives later, from Kafka or the archive, becomes byte for byte what the first one has become, and counts
as its duplicate.
"""

from __future__ import annotations

import hmac
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from clickstream.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

USER, SESSION = "user", "session"
LONGEST_ID = 256  # characters, as the data contract has it
PREFIX = "erased-"
TOKEN_DIGITS = 32
IS_TOKEN = re.compile(f"{PREFIX}[0-9a-f]{{{TOKEN_DIGITS}}}")  # with what _spell puts behind, if anything
REMEMBERED = 1 << 16  # ids, whose hashes are not made again

STRING = rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'  # or its beginning, where the value ends within it


def _spelt(name: str) -> bytes:
    """A pattern for a name, any of whose letters may be escaped."""
    return "".join(rf"(?:{letter}|\\u00(?i:{ord(letter):02x}))" for letter in name).encode()


# Looked for anywhere, not string by string: in a value with a quote too many, strings begin where others end. The
# string behind is looked at only, as its closing quote may be the opening one of the next name.
MEMBER = re.compile(
    rb'"(?:(?P<user>%b)|%b)"[ \t\n\r]*:[ \t\n\r]*(?=(?P<text>%b))' % (_spelt("userId"), _spelt("sessionId"), STRING),
    re.DOTALL,
)
ESCAPES = re.compile(r'(?:\\u[0-9A-Fa-f]{4})+|\\["\\/bfnrt]')
SOUND = re.compile(r'(?:[^\x00-\x1f\\]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*+')
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Listed(NamedTuple):
    """What the list has for an id: its token, and the how-manieth erasure put it there."""

    token: str
    order: int


class Tokens:
    """The list: keyed hashes of ids, and what stands for each."""

    def __init__(self, key: bytes, listed: Mapping[bytes, Listed]) -> None:
        """Take the key and the rows of the list.

        Raises:
            SettingsError: If the rows were made with another key: every id would go unrecognized.
        """
        self._key = key
        self._listed = dict(listed)
        self._cached = lru_cache(REMEMBERED)(self._find)
        if self._listed and self.mark not in self._listed:
            raise SettingsError(
                "The key in CLICKSTREAM_ERASURE_KEY_FILE is not the one that the erasure list (ledger.erasures) was"
                " made with, so nobody on it would be recognized. Restore that key; a new one can't replace it."
            )

    @property
    def mark(self) -> bytes:
        """A hash that every list has, of no id: it tells whether the key is the right one."""
        return self.hash(SESSION, "")

    def hash(self, kind: str, identifier: str) -> bytes:
        """The 32 bytes under which an id is listed."""
        return self._digest(f"{kind}:{identifier}")

    def of_user(self, user_id: str) -> str | None:
        """The token of a listed user."""
        listed = self._cached(USER, user_id)
        return None if listed is None else listed.token

    def of_session(self, session_id: str, users: Iterable[str] = ()) -> str | None:
        """The token of a session: of a listed one, and of any that stands beside listed users.

        The earliest erasure of which it is one decides, so that it makes no difference whether a record went through
        the erasures one by one or through all of them at once.

        Args:
            session_id: The sessionId.
            users: The userIds beside it.
        """
        if not session_id or IS_TOKEN.match(session_id):
            return None
        listed = self._cached(SESSION, session_id)
        first = min((one for user in users if (one := self._cached(USER, user))), key=_order, default=None)
        if first is not None and (listed is None or first.order < listed.order):
            return self.derive(first.token, session_id)
        return None if listed is None else listed.token

    def for_user(self, user_id: str) -> str:
        """What is to stand for a user: random for all who don't have the key.

        With the key it is the same whenever she is erased: also in a database that was restored, whose list forgot her,
        while the archive has her token already.
        """
        return self._token(f"token-of-user:{user_id}")

    def derive(self, user: str, session_id: str) -> str:
        """What stands for a session of an erased user, whether it is listed or not: the same at every time and place.

        Only who has both the key and the user's token can tell that it is this session.
        """
        return self._token(f"token:{user}:{session_id}")

    def value(self, value: bytes | None) -> bytes | None:
        """A record's value with the listed ids replaced; every other byte stays, whether it is JSON or not."""
        return self.record(None, value)[1]

    def record(self, key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None]:
        """A record's key and value with the listed ids replaced.

        A key is replaced too where it stands beside a listed user, whatever it is: most are the sessionId.
        """
        found = _members(value)
        users = {identifier for kind, _, identifier in found if kind == USER}
        if key:
            text = key.decode("utf-8", "surrogateescape")
            token = self.of_user(text) or self.of_session(text, users)
            key = key if token is None else token.encode()
        parts, end = [], 0
        for kind, match, identifier in found:
            token = self.of_user(identifier) if kind == USER else self.of_session(identifier, users)
            if token is not None and value is not None:
                parts += [value[end : match.start("text")], _spell(token, match["text"], identifier)]
                end = match.end("text")
        return key, b"".join([*parts, value[end:]]) if parts and value is not None else value

    def _find(self, kind: str, identifier: str) -> Listed | None:
        return None if not identifier or IS_TOKEN.match(identifier) else self._listed.get(self.hash(kind, identifier))

    def _token(self, text: str) -> str:
        return PREFIX + self._digest(text).hex()[:TOKEN_DIGITS]

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")


def _order(listed: Listed) -> int:
    return listed.order


def users_in(value: bytes) -> set[str]:
    """Every userId in a value."""
    return _identifiers(value, USER)


def sessions_in(value: bytes) -> set[str]:
    """Every sessionId in a value that isn't a token."""
    return {one for one in _identifiers(value, SESSION) if not IS_TOKEN.match(one)}


def _identifiers(value: bytes, kind: str) -> set[str]:
    return {identifier for of, _, identifier in _members(value) if of == kind and identifier}


def _members(value: bytes | None) -> list[tuple[str, re.Match[bytes], str]]:
    """Every userId and sessionId of a value: its kind, where it stands, and what it says."""
    if value is None or (b"Id" not in value and b"\\u" not in value):
        return []
    return [
        (USER if match["user"] else SESSION, match, decode(_content(match["text"]))) for match in MEMBER.finditer(value)
    ]


def decode(content: bytes) -> str:
    """The text of a string's content, as far as it is UTF-8 and JSON; what is not stands as it is."""
    text = content.decode("utf-8", "surrogateescape")
    return ESCAPES.sub(lambda run: str(json.loads(f'"{run[0]}"')), text) if "\\" in text else text


def _content(literal: bytes) -> bytes:
    return literal[1:-1] if _is_closed(literal) else literal[1:]


def _is_closed(literal: bytes) -> bool:
    if len(literal) == 1 or not literal.endswith(b'"'):
        return False
    inner = literal[1:-1]
    return (len(inner) - len(inner.rstrip(b"\\"))) % 2 == 0


def _spell(token: str, literal: bytes, identifier: str) -> bytes:
    """A token in place of a literal, with its faults: a record that was rejected for them stays so when it comes again.

    Longer than an id may be, no UTF-8, no JSON, with a NUL: each of these shows in the token too.
    """
    content = _content(literal)
    filled = token.ljust(LONGEST_ID + 1, "-") if len(identifier) > LONGEST_ID else token
    fault = b""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        fault = content[error.start : error.end]
    else:
        sound = SOUND.match(text)
        rest = text[sound.end() if sound else 0 :]
        if rest:
            fault = b"\\q" if rest[0] == "\\" else rest[0].encode()
        elif LONE_SURROGATE.search(identifier):
            fault = b"\\ud800"
        elif "\0" in identifier:
            fault = b"\\u0000"
    return b'"' + filled.encode() + fault + (b'"' if _is_closed(literal) else b"")
