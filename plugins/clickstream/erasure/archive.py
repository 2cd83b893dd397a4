"""The generator's archive: a file of lines for each minute, many and small, so that several are read at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import IO, TYPE_CHECKING

from airflow.sdk import ObjectStoragePath

from clickstream import storage
from clickstream.erasure.records import sessions_beside

if TYPE_CHECKING:
    from clickstream.erasure.mapping import Tokens
    from clickstream.erasure.needles import Needles
    from clickstream.settings import Settings

AT_ONCE = 16


def files(settings: Settings) -> list[str]:
    """URLs of the minutes' files."""
    return storage.files_below(settings.storage_url, "archive", "clickstream")


def sessions(paths: list[str], user_id: str, needles: Needles) -> set[str]:
    """The sessionIds that stand beside the user in a line."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return set().union(*pool.map(partial(_sessions, user_id=user_id, needles=needles), paths))


def concerned(paths: list[str], tokens: Tokens, needles: Needles) -> int:
    """How many lines the list changes."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(partial(_rewrite, None, tokens, needles), paths))


def rewrite(settings: Settings, paths: list[str], tokens: Tokens, needles: Needles) -> int:
    """Write every file of which the list changes a line anew, in its place; returns how many lines were changed."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(partial(_rewrite, settings, tokens, needles), paths))


def _sessions(path: str, *, user_id: str, needles: Needles) -> set[str]:
    content = _read(path)
    if not needles.may_be_in(content):
        return set()
    return set().union(*(sessions_beside(user_id, line, needles) for line in content.split(b"\n")))


def _rewrite(settings: Settings | None, tokens: Tokens, needles: Needles, path: str) -> int:
    content = _read(path)
    if not needles.may_be_in(content):
        return 0
    lines = content.split(b"\n")
    mapped = [tokens.value(line) or b"" for line in lines]
    changed = sum(old != new for old, new in zip(lines, mapped, strict=True))

    def write(stream: IO[bytes]) -> None:
        stream.write(b"\n".join(mapped))

    if changed and settings is not None:
        try:
            storage.replace(settings.storage_url, path, write)
        except FileNotFoundError:  # retention has taken it since it was read
            return 0
    return changed


def _read(path: str) -> bytes:
    """The file's content; none where retention has taken it since it was listed."""
    try:
        return bytes(ObjectStoragePath(path).read_bytes())
    except FileNotFoundError:
        return b""
