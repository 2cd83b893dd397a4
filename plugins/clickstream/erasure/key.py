"""The key of the erasure list, which is in a file of its own and in no database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream.erasure.mapping import Tokens
from clickstream.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clickstream.erasure.mapping import Listed
    from clickstream.settings import Settings

LEAST_CHARACTERS = 16
HOW = (
    " Write a long random text to a file (mode 0600, of Airflow's user), name it in CLICKSTREAM_ERASURE_KEY_FILE, and"
    " keep a copy apart from the database: without it the list can't be applied any more, and it must never change."
)


def tokens(settings: Settings, listed: Mapping[bytes, Listed]) -> Tokens:
    """The erasure list, ready to be applied.

    Args:
        settings: The settings in force.
        listed: The rows of the list.

    Raises:
        SettingsError: If there is no key, or it is not the list's.
    """
    path = settings.erasure_key_file
    if path is None:
        raise SettingsError(
            f"CLICKSTREAM_ERASURE_KEY_FILE is not set, but users can only be erased, and kept out, with a key.{HOW}"
            if not listed
            else "CLICKSTREAM_ERASURE_KEY_FILE is not set, but users were erased (ledger.erasures), who would come back"
            " unrecognized. Restore the file with the key that they were erased with, and name it there."
        )
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"CLICKSTREAM_ERASURE_KEY_FILE is {path}, which can't be read ({type(error).__name__}).{HOW}"
        ) from error
    if len(key) < LEAST_CHARACTERS:
        raise SettingsError(
            f"The key in {path} has {len(key)} characters; it must have {LEAST_CHARACTERS} or more.{HOW}"
        )
    return Tokens(key.encode(), listed)
