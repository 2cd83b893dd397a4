"""Files beside Spark: specs, reports, listings and Parquet footers, through fsspec for any storage URL."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

import fsspec
import pyarrow.parquet as pq
from pyarrow import ArrowException

_CONCURRENT_FOOTERS = 8


class InputFileError(RuntimeError):
    """A file that the spec names is missing, corrupt, or not the one that was recorded."""


class Recorded(Protocol):
    """A Parquet file with the number of rows recorded for it."""

    @property
    def path(self) -> str:
        """URL of the file."""

    @property
    def records(self) -> int:
        """Rows that it must hold."""


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself: rows, and size in bytes."""

    path: str
    records: int
    bytes: int


def spark_path(url: str) -> str:
    """Return a URL as Hadoop spells it: s3 is s3a there."""
    return "s3a://" + url.removeprefix("s3://") if url.startswith("s3://") else url


def read_bytes(url: str) -> bytes:
    """Return a file's content.

    Raises:
        InputFileError: there is no such file.
    """
    filesystem, path = _locate(url)
    try:
        return bytes(filesystem.cat_file(path))
    except FileNotFoundError as error:
        raise InputFileError(f"{url}: no such file.") from error


def write_text_atomically(url: str, text: str) -> None:
    """Write a file that exists either completely or not at all; on S3 every object does."""
    filesystem, path = _locate(url)
    if "file" not in filesystem.protocol:
        filesystem.pipe_file(path, text.encode())
        return
    filesystem.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
    partial = f"{path}.partial"
    filesystem.pipe_file(partial, text.encode())
    filesystem.mv(partial, path)


def check_inputs(files: Iterable[Recorded]) -> list[Footer]:
    """Compare the footers of listed input files with what is recorded of them, before any work is spent.

    Raises:
        InputFileError: a file is missing, has no readable Parquet footer, or holds another number of rows.
    """
    with ThreadPoolExecutor(_CONCURRENT_FOOTERS) as pool:
        return list(pool.map(_check_input, files))


def list_parquet(folder: str) -> list[Footer]:
    """Return the Parquet files below a folder which this app has just written, by path."""
    filesystem, root = _locate(folder)
    paths = sorted(path for path in filesystem.find(root) if path.endswith(".parquet"))
    urls = [filesystem.unstrip_protocol(path) for path in paths]
    with ThreadPoolExecutor(_CONCURRENT_FOOTERS) as pool:
        return list(pool.map(_read_footer, urls))


def _check_input(file: Recorded) -> Footer:
    remedy = "Restore the file, or give up the batch so that its records are drained or rebuilt anew."
    try:
        footer = _read_footer(file.path)
    except FileNotFoundError as error:
        raise InputFileError(f"{file.path}: the spec names this file but it does not exist. {remedy}") from error
    except (ArrowException, OSError) as error:
        raise InputFileError(f"{file.path}: not a readable Parquet file ({error}). {remedy}") from error
    if footer.records != file.records:
        raise InputFileError(f"{file.path}: holds {footer.records} rows where {file.records} are recorded. {remedy}")
    return footer


def _read_footer(url: str) -> Footer:
    filesystem, path = _locate(url)
    with filesystem.open(path, "rb") as stream:
        records = pq.read_metadata(stream).num_rows
        return Footer(path=url, records=records, bytes=stream.seek(0, 2))


def _locate(url: str) -> tuple[Any, str]:
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, str(path)
