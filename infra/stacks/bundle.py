"""The Lambda's bundle: its code with its dependencies, for Lambda's Python and platform, made once per content."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.stacks import REPOSITORY

PYTHON = "3.11"
PLATFORM = "x86_64-manylinux2014"
_CODE = REPOSITORY / "lambda"
_REQUIREMENTS = _CODE / "requirements.txt"
_CACHE = REPOSITORY / ".clickstream" / "bundles"


class BundleError(RuntimeError):
    """The dependencies could not be installed; the message says why and what to do."""


@dataclass(frozen=True)
class Bundle:
    """A folder to be zipped.

    Attributes:
        folder: holds `clickstream_generator.py` and all that it imports, but boto3, which Lambda brings.
        digest: SHA-256 of everything that decides its content.
    """

    folder: Path
    digest: str


def lambda_bundle(cache: Path = _CACHE) -> Bundle:
    """Make the bundle, or return the one made before from the same code and requirements.

    Args:
        cache: folder of the bundles, one by digest.

    Raises:
        BundleError: the dependencies could not be installed.
    """
    code = [_CODE / "clickstream_generator.py", *sorted((_CODE / "clickstream_source").glob("*.py"))]
    digest = hashlib.sha256()
    for file in [Path(__file__), _REQUIREMENTS, *code]:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    bundle = Bundle(cache / digest.hexdigest(), digest.hexdigest())
    if not bundle.folder.is_dir():
        _make(bundle.folder, code)
    return bundle


def _make(folder: Path, code: list[Path]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "bundle"
        _install(made)
        (made / ".lock").unlink(missing_ok=True)
        shutil.rmtree(made / "bin", ignore_errors=True)
        for file in code:
            target = made / file.relative_to(_CODE)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another synthesis was faster, with the same content
                raise


def _install(target: Path) -> None:
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--target", str(target)]
    command += ["--python-version", PYTHON, "--python-platform", PLATFORM, "--only-binary", ":all:", "--no-deps"]
    command += ["--no-compile-bytecode", "--requirement", str(_REQUIREMENTS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - nothing of it is given
    if done.returncode:
        raise BundleError(
            f"The Lambda's dependencies ({_REQUIREMENTS}) could not be installed for Python {PYTHON} on {PLATFORM}:\n"
            f"{done.stderr.strip()}\nEach must be pinned and have a wheel; mend the file, then synthesize again."
        )
