#!/usr/bin/python3
"""Brings the deployment's environment and source onto the host; the source only where it is another one."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import boto3

ENVIRONMENT = Path("/etc/clickstream/host.env")
SOURCE = Path("/opt/clickstream")
ORIGIN = SOURCE / ".origin"


def parameter(name: str) -> str:
    """Read a parameter of the deployment."""
    value: str = boto3.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    return value


def unpack(origin: str) -> None:
    """Replace the source by the archive at `origin`, `s3://bucket/key`."""
    bucket, _, key = origin.removeprefix("s3://").partition("/")
    with tempfile.TemporaryDirectory(dir=SOURCE.parent) as folder:
        archive = Path(folder) / "source.zip"
        boto3.client("s3").download_file(bucket, key, str(archive))
        unpacked = Path(folder) / "source"
        subprocess.run(["/usr/bin/unzip", "-q", str(archive), "-d", str(unpacked)], check=True)  # noqa: S603 - paths of our own
        for script in (unpacked / "docker" / "host").iterdir():
            script.chmod(0o755)
        (unpacked / ORIGIN.name).write_text(origin, encoding="utf-8")
        shutil.rmtree(SOURCE, ignore_errors=True)
        unpacked.rename(SOURCE)


if __name__ == "__main__":
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    ENVIRONMENT.write_text(parameter("/clickstream/host-environment"), encoding="utf-8")
    wanted = parameter("/clickstream/source")
    if not ORIGIN.is_file() or ORIGIN.read_text(encoding="utf-8") != wanted:
        unpack(wanted)
