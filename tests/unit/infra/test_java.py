from pathlib import Path

import pytest

from infra.local.errors import StackError
from infra.local.java import find_java


def other_java(folder: Path, *, version: str, modules: str) -> Path:
    """A program that answers as another Java would."""
    binary = folder / "bin" / "java"
    binary.parent.mkdir()
    specification = version.partition(".")[0]
    binary.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--list-modules*) echo "{modules}";; *)\n'
        f'printf "    java.home = {folder}\\n    java.specification.version = {specification}\\n'
        f'    java.version = {version}\\n" >&2;; esac\n'
    )
    binary.chmod(0o755)
    return folder


def test_the_installed_java_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java = find_java()
    assert java.binary.is_file()
    assert int(java.version.partition(".")[0]) >= 17


def test_a_missing_java_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StackError, match=f"JAVA_HOME is {tmp_path}, but") as caught:
        find_java()
    assert "apt install openjdk-17" in caught.value.remedy


def test_no_java_on_the_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StackError, match="no java is on PATH"):
        find_java()


@pytest.mark.parametrize(
    ("version", "modules", "problem"),
    [
        ("11.0.2", "jdk.incubator.vector@11", "Java 11.0.2 at .* is too old"),
        ("1.8.0_392", "", "Java 1.8.0_392 at .* is too old"),
        ("21.0.1", "java.base@21", "has no module jdk.incubator.vector"),
    ],
)
def test_an_unfit_java_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, modules: str, problem: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(other_java(tmp_path, version=version, modules=modules)))
    with pytest.raises(StackError, match=problem):
        find_java()
