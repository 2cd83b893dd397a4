"""Where a secret must never be, and whether one is there: as it is, in base64, or as a URL spells it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil

from infra.local import postgres
from infra.local.stack import Stack

REPOSITORY = Path(__file__).parents[2]
LEAST_LENGTH = 12  # shorter ones, such as the moto server's keys, are words of their own


def secrets_of(folder: Path) -> dict[str, str]:
    """Every secret in a folder of secrets, by file and place in it."""
    found: dict[str, str] = {}
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8").strip()
        if file.suffix == ".json":
            found |= dict(_passwords(file.name, json.loads(text)))
        elif file.name == "pgpass":
            found |= {f"{file.name}:{n}": line.rsplit(":", 1)[1] for n, line in enumerate(text.splitlines())}
        elif "://" in text:
            found[file.name] = urlsplit(text).password or ""
        else:
            found[file.name] = text
    return {name: value for name, value in found.items() if len(value) >= LEAST_LENGTH}


def _passwords(name: str, content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for inner, value in content.items():
            yield from _passwords(f"{name}:{inner}", value, inner)
    elif isinstance(content, str) and key in {"password", "admin"}:
        yield name, content


def leaks(secrets: Mapping[str, str], places: Iterable[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """The places in which a secret is, each with the secret's name."""
    forms = {
        form: name
        for name, value in secrets.items()
        for form in (value.encode(), quote(value, safe="").encode(), *_base64(value.encode()))
    }
    return [(place, name) for place, content in places for form, name in forms.items() if form in content]


def _base64(value: bytes) -> Iterator[bytes]:
    """What base64 makes of it wherever it begins in what is encoded, without the letters that its neighbours change."""
    for before in range(3):
        coded = base64.b64encode(bytes(before) + value)
        yield coded[-(-before * 8 // 6) : len(coded) - (4 if (before + len(value)) % 3 else 0)]


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below the folders."""
    for folder in folders:
        for parent, _, names in os.walk(folder):  # which passes over folders that go meanwhile
            for path in (Path(parent, name) for name in names):
                with suppress(FileNotFoundError):
                    if path.is_file():
                        yield str(path), path.read_bytes()


def repository() -> Iterator[tuple[str, bytes]]:
    """Every file that is committed."""
    git = shutil.which("git") or "git"
    listed = subprocess.run([git, "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True).stdout
    for name in listed.decode().split("\0"):
        if name and (REPOSITORY / name).is_file():
            yield name, (REPOSITORY / name).read_bytes()


def databases(stack: Stack, *names: str) -> Iterator[tuple[str, bytes]]:
    """Whole databases, as their dump: XCom, rendered templates, answers, logs, the ledger."""
    password = (stack.folder / "postgres" / "superuser-password").read_text(encoding="utf-8")
    for name in names:
        dump = subprocess.run(
            [postgres.binaries() / "pg_dump", "--inserts", "-h", "127.0.0.1", "-p", str(stack.ports.postgres),
             "-U", "postgres", name],
            env={"PGPASSWORD": password},
            check=True,
            capture_output=True,
        ).stdout  # fmt: skip
        yield f"database {name}", dump


def command_lines() -> Iterator[tuple[str, bytes]]:
    """Arguments of every process."""
    for process in psutil.process_iter(["cmdline"]):
        yield f"pid {process.pid}", " ".join(process.info["cmdline"] or ()).encode()
