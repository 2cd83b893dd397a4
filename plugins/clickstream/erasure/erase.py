"""Erase a user: find the sessions, write files anew, let the ledger name those, then do what no ledger names.

Killed at any point, it is run again with the same userId: what is on the list keeps its tokens, and what was
done already holds nothing more to be done.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath

from clickstream import storage
from clickstream.erasure import archive, days, events, key, records
from clickstream.erasure.mapping import IS_TOKEN, LONGEST_ID, SESSION, USER, Listed, Tokens
from clickstream.erasure.needles import Needles
from clickstream.errors import RemedyRefused
from clickstream.ledger import erasures, publishing, removals
from clickstream.ledger.removals import Removal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from psycopg import Connection

    from clickstream.ledger.erasures import File, Rewritten
    from clickstream.settings import Settings

log = logging.getLogger(__name__)

ROUNDS = 10
ZONES = ("raw", "events", "rejected", "archive", "published_days")
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
MARK = "erased-key"


@dataclass
class Erasure:
    """An erasure in the making.

    Attributes:
        user_id: The userId.
        token: What stands for the user.
        again: Whether the user is on the list already; then it is applied as it is, with every session it has.
        sessions: The user's sessions, as far as they were found; some have a token already, by another erasure.
        counts: What was changed, or would be, by zone and table.
    """

    settings: Settings
    listed: dict[bytes, Listed]
    user_id: str
    token: str
    again: bool
    sessions: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(ZONES, 0)))

    @property
    def tokens(self) -> Tokens:
        """The list with the user and the sessions."""
        fresh = {id_hash: Listed(token, len(self.listed)) for id_hash, _, token in self.rows()}
        return key.tokens(self.settings, {**fresh, **self.listed})

    @property
    def needles(self) -> Needles:
        """What to look for; the sessions on the list are known by their hashes alone."""
        return Needles(None if self.again else {self.user_id, *self.fresh_sessions})

    @property
    def fresh_sessions(self) -> list[str]:
        """The sessions that get a token now, in order."""
        return sorted(one for one in self.sessions if not IS_TOKEN.match(one))

    def rows(self) -> list[tuple[bytes, str, str]]:
        """The rows of the list that stand for the user: (hash, kind, token)."""
        plain = key.tokens(self.settings, {})
        of_sessions = [
            (plain.hash(SESSION, one), SESSION, plain.derive(self.token, one)) for one in self.fresh_sessions
        ]
        return [(plain.mark, SESSION, MARK), (plain.hash(USER, self.user_id), USER, self.token), *of_sessions]


def confirmed(user_id: str, confirm: str, *, dry_run: bool) -> str:
    """The userId of a form, which must be typed twice where it is to be erased.

    Raises:
        RemedyRefused: If the two differ. The message names neither.
    """
    if not dry_run and confirm != user_id:
        raise RemedyRefused(
            f"user_id and confirm differ ({len(user_id)} and {len(confirm)} characters). Nothing was erased: type the"
            " same userId into both."
        )
    return user_id


def erase(conn: Connection[Any], settings: Settings, user_id: str, dag_run_id: str, *, dry_run: bool) -> dict[str, int]:
    """Replace a userId and its sessionIds by tokens, everywhere, or only count where they are.

    Args:
        conn: Connection of the writer, outside of a transaction.
        settings: The settings in force.
        user_id: The userId, as events spell it.
        dag_run_id: The run that erases.
        dry_run: Whether to look and count only.

    Returns:
        Records, events and rows that have one of the ids, by zone and table.

    Raises:
        RemedyRefused: If the userId can't be one, another erasure runs, or files came faster than they were read.
        SettingsError: If there is no key, or it is not that of the list.
        OutputMismatch: If an event's columns don't give its fingerprint. Nothing was erased.
        StaleAttempt: If a file was taken away meanwhile. Nothing was erased.
    """
    if not 1 <= len(user_id) <= LONGEST_ID or not _is_storable(user_id):
        raise RemedyRefused(
            f"A userId has 1 to {LONGEST_ID} characters, none of them NUL or half of a surrogate pair; this one has"
            f" {len(user_id)}. No event with such an id was ever accepted."
        )
    if IS_TOKEN.match(user_id):
        raise RemedyRefused(f"{user_id} is the token of somebody who was erased.")
    with _alone(conn):
        listed, _ = erasures.read(conn)
        tokens = key.tokens(settings, listed)
        known = tokens.of_user(user_id)
        token = known or tokens.for_user(user_id)
        erasure = Erasure(settings, listed, user_id, token, again=known is not None)
        if dry_run:
            return _look(conn, erasure)
        request_id = erasures.request(conn, token, dag_run_id)
        log.info("request %s: the user gets the token %s", request_id, token)
        _replace_named_files(conn, erasure, erasures.register_rewrite(conn, request_id, dag_run_id))
        log.info("request %s: committed, %s", request_id, dict(erasure.counts))
        _replace_other_files(conn, erasure)
        erasures.take_statistics(conn)
        erasures.finish(conn, request_id, token, erasure.counts)
        return dict(erasure.counts)


@contextmanager
def _alone(conn: Connection[Any]) -> Iterator[None]:
    erasures.enter(conn)
    try:
        yield
    finally:
        if not conn.closed:
            erasures.leave(conn)


def _look(conn: Connection[Any], erasure: Erasure) -> dict[str, int]:
    files = erasures.files(conn)
    _find_sessions(conn, erasure, files)
    _find_sessions_elsewhere(erasure)
    tokens, needles = erasure.tokens, erasure.needles
    for file in files:
        erasure.counts[file.zone] += _concerned(file, tokens, needles)
    for path in _rejected(erasure.settings):
        with suppress(FileNotFoundError):
            erasure.counts["rejected"] += records.concerned(path, tokens, needles)
    erasure.counts["archive"] = archive.concerned(archive.files(erasure.settings), tokens, needles)
    erasure.counts["published_days"] = days.concerned(erasure.settings, tokens)
    erasure.counts.update(erasures.count(conn, erasure.user_id, _storable(erasure)))
    return dict(erasure.counts)


def _find_sessions(conn: Connection[Any], erasure: Erasure, files: list[File]) -> None:
    """Find the user's sessions, by what the results and these files say; those of a listed user are on the list."""
    if erasure.again:
        return
    user_id, needles = erasure.user_id, Needles([erasure.user_id])
    erasure.sessions |= erasures.sessions_of(conn, user_id)
    for file in files:
        if file.zone == "raw":
            erasure.sessions |= records.sessions(file.path, user_id, needles)
        else:
            erasure.sessions |= events.sessions(file.path, user_id)


def _find_sessions_elsewhere(erasure: Erasure) -> None:
    """Find those that only files say which no ledger names: the rejected zone, the archive and published days."""
    if erasure.again:
        return
    user_id, needles = erasure.user_id, Needles([erasure.user_id])
    for path in _rejected(erasure.settings):
        with suppress(FileNotFoundError):
            erasure.sessions |= records.sessions(path, user_id, needles)
    erasure.sessions |= archive.sessions(archive.files(erasure.settings), user_id, needles)
    erasure.sessions |= days.sessions(erasure.settings, user_id)


def _rejected(settings: Settings) -> list[str]:
    """The files of the rejected zone, any of which retention may take meanwhile."""
    return [path for path in storage.files_below(settings.storage_url, "rejected") if path.endswith(".parquet")]


def _concerned(file: File, tokens: Tokens, needles: Needles) -> int:
    return records.concerned(file.path, tokens, needles) if file.zone == "raw" else events.concerned(file.path, tokens)


def _storable(erasure: Erasure) -> dict[str, str]:
    """The sessions that the database can hold, with their tokens: others it never got. A token stays as it is."""
    tokens = erasure.tokens
    return {one: tokens.of_session(one) or one for one in erasure.sessions if _is_storable(one)}


def _is_storable(text: str) -> bool:
    return not UNSTORABLE.search(text)


@dataclass
class Work:
    """What an attempt at the files and rows of the ledger has done so far.

    Attributes:
        attempt_id: Its id, which names its folders.
        looked: By path, what takes a file's place; None where the list changes nothing of it.
        counted: By path, how many of a file's records the list changes.
        written: By path, every file that was written, of use or not.
        excerpts: Those of rejected records that the list changes, as they are to be.
        excerpts_until: The newest batch of which excerpts were looked at.
    """

    attempt_id: UUID
    looked: dict[str, Rewritten | None] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    written: dict[str, Rewritten] = field(default_factory=dict)
    excerpts: dict[tuple[str, int, int], str] = field(default_factory=dict)
    excerpts_until: int = 0

    def start_again(self) -> None:
        """Look at everything again, with more sessions; what was written stays known, to be removed."""
        self.looked.clear()
        self.excerpts.clear()
        self.excerpts_until = 0


def _replace_named_files(conn: Connection[Any], erasure: Erasure, attempt_id: UUID) -> None:
    """Write the files that the ledger names anew, and swap them in one transaction with all else that it holds."""
    work = Work(attempt_id)
    _find_sessions_elsewhere(erasure)
    for _ in range(ROUNDS):
        files = erasures.files(conn)
        before = set(erasure.sessions)
        _find_sessions(conn, erasure, [file for file in files if file.path not in work.looked])
        if erasure.sessions != before:
            work.start_again()
        tokens, needles = erasure.tokens, erasure.needles
        for file in files:
            if file.path not in work.looked:
                work.counted[file.path] = _concerned(file, tokens, needles)
                work.looked[file.path] = _rewrite(erasure.settings, file, work, tokens)
        _map_excerpts(conn, work, tokens)
        fresh = [one for one in work.looked.values() if one]
        storage.sync(erasure.settings.storage_url, [one.path for one in fresh])
        storage.verify(storage.WrittenFile(one.path, one.file.records, one.bytes) for one in fresh)
        if _commit(conn, erasure, work):
            for file in files:
                erasure.counts[file.zone] += work.counted[file.path]
            return
    raise RemedyRefused(
        f"Files were added faster than they could be read, {ROUNDS} times in a row. Nothing was erased. Run erase_user"
        " again when the drain has caught up, or pause drain_clickstream, aggregate_clickstream and compact_events"
        " meanwhile."
    )


def _rewrite(settings: Settings, file: File, work: Work, tokens: Tokens) -> Rewritten | None:
    if not work.counted[file.path]:
        return None
    path = _place(settings, file, work.attempt_id)
    storage.make_parent(path)
    with path.open("wb") as stream:
        (records if file.zone == "raw" else events).rewrite(file.path, stream, tokens)
    work.written[str(path)] = written = erasures.Rewritten(file, str(path), path.stat().st_size)
    return written


def _place(settings: Settings, file: File, attempt_id: UUID) -> ObjectStoragePath:
    """Where the file that takes another's place is written.

    Names are unique within an attempt only, and those of raw files within one incarnation of a topic too: so the new
    one has a hash of the whole path.
    """
    folder, _, name = file.path.rpartition("/")
    digest = sha256(file.path.encode()).hexdigest()[:16]
    if file.zone == "raw":
        offsets = "-".join(name.removesuffix(".parquet").split("-")[:2])
        return ObjectStoragePath(folder).parent / str(attempt_id) / f"{offsets}-{digest}.parquet"
    hour = folder.rpartition("/")[2]
    return storage.at(settings.storage_url, "events", str(attempt_id), hour, f"{digest}.parquet")


def _map_excerpts(conn: Connection[Any], work: Work, tokens: Tokens) -> None:
    """Map the excerpts of batches that were published since they were looked at last; the others are as they were."""
    until = erasures.newest_rejections(conn)
    for at, text in erasures.excerpts(conn, after=work.excerpts_until):
        mapped = records.excerpt(tokens.value(text.encode()) or b"")
        if mapped != text:
            work.excerpts[at] = mapped
    work.excerpts_until = until


def _commit(conn: Connection[Any], erasure: Erasure, work: Work) -> bool:
    """The transaction; returns whether it was made, or files are there that weren't looked at."""
    tokens = erasure.tokens
    user = (erasure.user_id, erasure.token)
    with conn.transaction():
        erasures.lock(conn)
        publishing.lock_analytics(conn)
        erasures.lock_segments(conn)
        now = {file.path for file in erasures.files(conn)}
        if not now <= work.looked.keys():
            return False
        used = {one.path: one for path, one in work.looked.items() if one and path in now}
        unused = [one for path, one in work.written.items() if path not in used]
        erasures.settle_rewrite(conn, work.attempt_id)
        erasures.add(conn, erasure.rows())
        erasures.swap(conn, list(used.values()))
        of_no_use = [Removal(path=one.path, zone=one.file.zone, bytes=one.bytes) for one in unused]
        removals.decide(conn, of_no_use, reason="dead")
        erasures.remove_staged(conn, erasure.settings.storage_url)
        erasure.counts.update(erasures.rename(conn, user, _storable(erasure)))
        _map_excerpts(conn, work, tokens)
        erasures.replace_excerpts(conn, work.excerpts)
        erasures.mark_committed(conn, erasure.token)
    return True


def _replace_other_files(conn: Connection[Any], erasure: Erasure) -> None:
    """Write anew what no ledger names: rejected records, the archive, published days."""
    settings, tokens, needles = erasure.settings, erasure.tokens, erasure.needles
    for path in _rejected(settings):
        with suppress(FileNotFoundError):
            erasure.counts["rejected"] += _rewrite_rejected(conn, settings, path, tokens, needles)
    erasure.counts["archive"] += archive.rewrite(settings, archive.files(settings), tokens, needles)
    erasure.counts["published_days"] += days.rewrite(conn, settings, tokens)


def _rewrite_rejected(conn: Connection[Any], settings: Settings, path: str, tokens: Tokens, needles: Needles) -> int:
    changed = records.concerned(path, tokens, needles)
    if changed:
        # The excerpts first: once the file is written anew, it no longer tells which they are.
        erasures.replace_excerpts(conn, dict(records.excerpts(path, tokens, needles)))
        storage.replace(settings.storage_url, path, partial(records.rewrite, path, tokens=tokens))
    return changed
