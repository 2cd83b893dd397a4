"""Run a program to its end, with an explicit environment and an error that shows its output."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local.errors import StackError

SHOWN_LINES = 15


def run(
    arguments: Sequence[str | Path],
    *,
    purpose: str,
    remedy: str,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout: float = 120,
) -> str:
    """Run a program and return what it wrote to standard output and standard error.

    Args:
        arguments: The program and its arguments; never a secret, as anyone can read them.
        purpose: What the program does, for the error: "cannot <purpose>".
        remedy: What to do when it fails.
        environment: All of its environment; the caller's own when None.
        directory: Where it runs.
        timeout: Seconds until it is killed.

    Raises:
        StackError: It cannot be started, fails, or takes too long; carries its last lines.
    """
    words = [str(argument) for argument in arguments]
    try:
        result = subprocess.run(  # noqa: S603 - the callers' programs and paths, no shell
            words,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"Cannot {purpose}: {error}", remedy=remedy) from error
    if result.returncode != 0:
        lines = result.stdout.strip().splitlines()[-SHOWN_LINES:]
        shown = "\n".join(f"  | {line}" for line in lines)
        raise StackError(
            f"Cannot {purpose}: {Path(words[0]).name} ended with code {result.returncode}.\n{shown}",
            remedy=remedy,
        )
    return result.stdout
