#!/usr/bin/python3
"""Brings the deployment's environment and source onto the host; the source only where it is another one."""

import tempfile
import zipfile
from pathlib import Path

import boto3

ENVIRONMENT = Path("/etc/clickstream/host.env")
SOURCE = Path("/opt/clickstream")
ORIGIN = ".origin"


def main() -> None:
    """Write the environment, and replace the source where the deployment names another one."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    ENVIRONMENT.write_text(parameter("/clickstream/host-environment"), encoding="utf-8")
    wanted = parameter("/clickstream/source")
    origin = SOURCE / ORIGIN
    if not origin.is_file() or origin.read_text(encoding="utf-8") != wanted:
        replace_source(wanted)


def parameter(name: str) -> str:
    """Read a parameter of the deployment."""
    value: str = boto3.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    return value


def replace_source(origin: str) -> None:
    """Put the archive at `origin`, `s3://bucket/key`, in the place of the source, whole or not at all."""
    bucket, _, key = origin.removeprefix("s3://").partition("/")
    with tempfile.TemporaryDirectory(dir=SOURCE.parent) as folder:
        archive, unpacked = Path(folder) / "source.zip", Path(folder) / "source"
        boto3.client("s3").download_file(bucket, key, str(archive))
        with zipfile.ZipFile(archive) as files:
            for file in files.infolist():
                Path(files.extract(file, unpacked)).chmod(file.external_attr >> 16 & 0o777 or 0o755)
        (unpacked / ORIGIN).write_text(origin, encoding="utf-8")
        if SOURCE.exists():
            SOURCE.rename(Path(folder) / "replaced")
        unpacked.rename(SOURCE)


if __name__ == "__main__":
    main()
