"""The shift of a log's times, chosen at its first shifted replay and remembered for all later ones.

Were it chosen anew each time, a second replay would make other event times, that is other events, and these
would be counted beside the first.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from clickstream_source.access_log import LogError


def choose_shift(last_time: int, now: datetime) -> int:
    """Choose the whole seconds that bring a log's last request (in epoch seconds) to now, not beyond."""
    return int(now.timestamp()) - last_time


def recorded_shift(folder: Path, log_sha256: str) -> int | None:
    """Look up the shift of a log, in seconds; None if it was never replayed with shifted times.

    Raises:
        LogError: the file that holds it is damaged.
    """
    path = _path(folder, log_sha256)
    try:
        shift = json.loads(path.read_text(encoding="utf-8"))["shift_seconds"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LogError(_damaged(path)) from error
    if type(shift) is not int:
        raise LogError(_damaged(path))
    return shift


def record_shift(folder: Path, log_sha256: str, shift_seconds: int) -> int:
    """Remember the shift of a log, durably, unless another replay was first; return the one that holds."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(folder, log_sha256)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    content = {"log_sha256": log_sha256, "shift_seconds": shift_seconds, "chosen_at": _now_text()}
    try:
        with temporary.open("x", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError:
        pass  # the other replay's shift is read below
    finally:
        temporary.unlink(missing_ok=True)
    held = recorded_shift(folder, log_sha256)
    if held is None:
        raise LogError(f"{path} was removed while the replay started; start it again.")
    return held


def _path(folder: Path, log_sha256: str) -> Path:
    return folder / f"{log_sha256}.json"


def _damaged(path: Path) -> str:
    return (
        f"{path} does not hold the shift of this log. Restore it, or remove it to have the log shifted anew; "
        "its events then are new ones and count beside those replayed before."
    )


def _now_text() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
