"""Jars that are downloaded once for all stacks of a clone."""

from pathlib import Path

from infra.bootstrap import ivy
from infra.local.errors import StackError
from infra.local.files import exclusive, made_whole
from infra.local.java import Java
from infra.local.stack import CACHE


def fetch(name: str, module: str, java: Java) -> Path:
    """Return the folder of an Ivy module's jars, brought from Maven Central the first time.

    Raises:
        StackError: The download fails.
    """
    folder = CACHE / name
    with exclusive(CACHE / f"{name}.lock", what=f"downloading {name}", wait=True):
        if not folder.exists():
            _download(folder, module, java)
    return folder


def _download(folder: Path, module: str, java: Java) -> None:
    with made_whole(folder) as partial:
        try:
            ivy.retrieve(module, partial, java=java.binary)
        except ivy.IvyError as error:
            raise StackError(
                f"Cannot download {folder.name} from Maven Central: {error}",
                remedy=(
                    "Check the network, then run it again. Behind a proxy, set JAVA_TOOL_OPTIONS="
                    f"'-Dhttps.proxyHost=<host> -Dhttps.proxyPort=<port>'; or copy {folder} from another clone."
                ),
            ) from error
