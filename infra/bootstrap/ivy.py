"""Jars by name and version, through Ivy, which pyspark carries: neither Maven nor an installer is needed."""

import subprocess
import tempfile
from pathlib import Path

import pyspark

TIMEOUT_SECONDS = 600
SHOWN_LINES = 15
TRIES = 3  # what a repository served meanwhile stays in the cache


class IvyError(RuntimeError):
    """The jars could not be brought; carries the last lines of what Ivy said."""


def retrieve(module: str, folder: Path, *, java: Path | str = "java") -> None:
    """Bring the jars of an Ivy module with the configuration `jars` into a folder.

    Args:
        module: The module's description, XML.
        folder: An existing folder; the jars lie in it as `<name>-<version>.jar`.
        java: The program to run Ivy with.

    Raises:
        IvyError: Ivy fails three times, or takes longer than ten minutes.
    """
    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        described = Path(scratch) / "ivy.xml"
        described.write_text(module, encoding="utf-8")
        command = [
            *(str(java), "-jar", str(ivy), "-ivy", str(described), "-cache", f"{scratch}/cache"),
            *("-confs", "jars", "-types", "jar", "bundle"),
            *("-retrieve", f"{folder}/[artifact]-[revision].[ext]"),
        ]
        for left in reversed(range(TRIES)):
            try:
                result = subprocess.run(  # noqa: S603 - Ivy, on a description of ours
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    timeout=TIMEOUT_SECONDS,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise IvyError(str(error)) from error
            if result.returncode == 0:
                return
            if not left:
                raise IvyError("\n".join(result.stdout.strip().splitlines()[-SHOWN_LINES:]))
