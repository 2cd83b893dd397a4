"""Files of the zones, in a local folder or on S3."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow.parquet as pq
from airflow.sdk import ObjectStoragePath
from pyarrow import ArrowException

from clickstream.errors import OutputMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import IO


LOCAL = "file://"


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file as its writer reported it; sizes in bytes."""

    path: str
    records: int
    bytes: int


def at(root: str, *parts: str) -> ObjectStoragePath:
    """The path below the storage URL."""
    path = ObjectStoragePath(root)
    for part in parts:
        path /= part
    return path


def make_parent(path: ObjectStoragePath) -> None:
    """Make the folder of a local file; S3 has none, and asked for one it would make a bucket that is missing."""
    if path.protocol == "file":
        path.parent.mkdir(parents=True, exist_ok=True)


def files_below(root: str, *parts: str) -> list[str]:
    """URLs of all files below a folder, in order, without those whose name begins with a dot; it need not exist."""
    folder = at(root, *parts)
    folder.fs.invalidate_cache()
    found = (folder.fs.unstrip_protocol(name) for name in folder.fs.find(folder.path))
    return sorted(url for url in found if not url.rpartition("/")[2].startswith("."))


def replace(root: str, url: str, write: Callable[[IO[bytes]], object]) -> None:
    """Give a file below the root other content, durable and at once: readers see all of the old or all of the new.

    Who is killed meanwhile leaves the old content, and on S3 nothing beside it.

    Raises:
        FileNotFoundError: If there is no such file any more.
    """
    if root.startswith(LOCAL):
        _replace_local(root, _local(url), write)
        return
    path = ObjectStoragePath(url)
    with NamedTemporaryFile() as content:
        write(content)
        content.flush()
        path.fs.invalidate_cache(path.path)
        if not path.exists():
            raise FileNotFoundError(url)
        path.fs.put_file(content.name, path.path)


def _replace_local(root: str, path: Path, write: Callable[[IO[bytes]], object]) -> None:
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
    if not path.exists():
        beside.unlink(missing_ok=True)
        raise FileNotFoundError(path)
    beside.replace(path)
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)  # Hadoop's, of the old content
    sync(root, [f"{LOCAL}{path}"])


def write_json(path: ObjectStoragePath, content: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    make_parent(path)
    path.write_text(json.dumps(content, indent=1))


def read_json(path: ObjectStoragePath) -> dict[str, Any]:
    """Read a JSON file.

    Raises:
        OutputMismatch: If it doesn't exist.
    """
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise OutputMismatch(f"{path} does not exist: its writer did not finish. Run the attempt again.") from None


def _local(url: str) -> Path:
    """The path of a file URL, verbatim: neither Spark nor fsspec decodes percent signs."""
    return Path(url.removeprefix(LOCAL))


def sync(root: str, urls: Iterable[str]) -> None:
    """Make local files, and the folders from them up to the root, durable; what is on S3 is durable already."""
    if not root.startswith(LOCAL):
        return
    top = _local(root)
    files = {_local(url) for url in urls}
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(top)}
    for path in [*files, *sorted(folders, reverse=True)]:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise OutputMismatch(f"{path} is missing, though its writer reported it. Run again.") from None
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def verify(files: Iterable[WrittenFile]) -> None:
    """Check size and rows of each file against what its writer reported.

    Raises:
        OutputMismatch: With the first file that is missing or differs.
    """
    for file in files:
        path = ObjectStoragePath(file.path)
        if not path.exists():
            raise OutputMismatch(f"{file.path} is missing, though {file.records} rows were reported. Run again.")
        size = path.stat().st_size
        if size != file.bytes:
            raise OutputMismatch(
                f"{file.path} has {size} bytes, but {file.bytes} were reported. Something wrote to it later; run again."
            )
        try:
            with path.open("rb") as stream:
                rows = pq.ParquetFile(stream).metadata.num_rows
        except ArrowException as error:
            raise OutputMismatch(f"{file.path} is no readable Parquet file ({error}). Run again.") from error
        if rows != file.records:
            raise OutputMismatch(f"{file.path} has {rows} rows, but {file.records} were reported. Run again.")


def listed(folder: ObjectStoragePath) -> list[ObjectStoragePath]:
    """What a folder holds; nothing where there is none."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def size_of(url: str) -> int:
    """Bytes of a file, or of all files below a folder, whose URL ends with a slash; 0 where there is none."""
    path = ObjectStoragePath(url.rstrip("/"))
    try:
        return int(path.fs.du(path.path))
    except FileNotFoundError:
        return 0


def remove(url: str) -> int:
    """Remove a file, or a folder with all below it, whose URL ends with a slash; fine where it is gone already.

    A local folder of an attempt goes with the last file in it.

    Returns:
        The bytes that were removed.

    Raises:
        OSError: If the storage refuses to remove the file, or one of the folder.
    """
    size = size_of(url)
    path = ObjectStoragePath(url.rstrip("/"))
    try:
        if url.endswith("/"):
            _remove_folder(path)
        else:
            path.fs.rm_file(path.path)
    except FileNotFoundError:
        return 0
    if url.startswith(LOCAL):
        local = _local(url)
        local.with_name(f".{local.name}.crc").unlink(missing_ok=True)  # Hadoop's checksum of a local file
        _remove_empty(local, _is_of_attempt)
    return size


def _remove_folder(path: ObjectStoragePath) -> None:
    path.fs.rm(path.path, recursive=True)
    path.fs.invalidate_cache()
    if left := path.fs.find(path.path):  # S3 refuses file by file, which s3fs says nothing of
        raise PermissionError(f"{len(left):,} of its files are still there, such as {left[0]}")


def remove_if_empty(folder: ObjectStoragePath) -> None:
    """Remove a local folder that holds nothing; S3 has no such folders."""
    if folder.protocol == "file":
        with suppress(OSError):
            Path(folder.path).rmdir()


def remove_empty_above(url: str, top: str) -> None:
    """Remove the local folders between a path and a top folder that hold nothing; S3 has no such folders."""
    if url.startswith(LOCAL):
        _remove_empty(_local(url), lambda folder: _local(top) in folder.parents)


def _is_of_attempt(folder: Path) -> bool:
    """Whether it is an attempt's own folder, or below it: no other attempt writes there."""
    return any(_is_id(part.name) for part in (folder, *folder.parents))


def _remove_empty(path: Path, may_go: Callable[[Path], bool]) -> None:
    """Remove the folders above a path that are empty, up to the first that must stay."""
    for folder in path.parents:
        if not may_go(folder):
            return
        try:
            folder.rmdir()
        except OSError:
            return


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
