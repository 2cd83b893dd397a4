"""The archive: one JSON Lines file for each minute and producer, in a local folder or in S3."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4


def archive_key(producer_id: str, minute: datetime) -> str:
    """Name a minute's file below the archive, `clickstream/YYYY/MM/DD/HH/MM-<producerId>.json`."""
    return f"clickstream/{minute:%Y/%m/%d/%H/%M}-{producer_id}.json"


def write_minute(archive_url: str, producer_id: str, minute: datetime, values: Sequence[bytes]) -> str:
    """Write a minute's file, durable and whole, replacing an earlier one of the same producer and minute.

    Args:
        archive_url: `file:///absolute/folder` or `s3://bucket/prefix`.
        producer_id: the producer whose minute it is.
        minute: the start of the minute, in UTC.
        values: one JSON object each, without line ends; the very bytes that go to Kafka.

    Returns:
        The URL of the file.

    Raises:
        OSError: the local file could not be written; a file that was there before is unchanged.
        botocore.exceptions.ClientError: S3 refused the object.
    """
    key = archive_key(producer_id, minute)
    body = b"".join(value + b"\n" for value in values)
    parts = urlsplit(archive_url)
    if parts.scheme == "s3":
        _put_object(parts.netloc, f"{parts.path.strip('/')}/{key}".lstrip("/"), body)
    else:
        _replace_file(Path(archive_url.removeprefix("file://")), key, body)
    return f"{archive_url}/{key}"


def _replace_file(root: Path, key: str, body: bytes) -> None:
    target = root / key
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = target.parent
    while folder.is_relative_to(root):
        _sync_folder(folder)
        folder = folder.parent


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_object(bucket: str, key: str, body: bytes) -> None:
    # Imported here because only an archive in S3 needs it, and it costs half a second.
    import boto3  # noqa: PLC0415

    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/x-ndjson")
