import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.errors import StackError
from infra.local.files import exclusive, made_whole, write_private


def test_a_private_file_is_replaced_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_private(file, "old")
    write_private(file, "new")
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_fails_half_made_is_not_there(tmp_path: Path) -> None:
    target = tmp_path / "data"
    with pytest.raises(FileNotFoundError), made_whole(target) as partial:
        (partial / "half" / "missing").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_attempt_left_is_not_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "data"
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "half").touch()
    with made_whole(target) as partial:
        (partial / "whole").touch()
    assert [file.name for file in target.iterdir()] == ["whole"]


HOLD_THE_LOCK = """
import pathlib, sys
from infra.local.files import exclusive
with exclusive(pathlib.Path(sys.argv[1]), what="starting"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_command_is_told_who_holds_the_lock_until_that_one_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(lock)]
    repository = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StackError, match=rf"\(pid {holder.pid}\) is stopping"),
            exclusive(lock, what="stopping"),
        ):
            pass
        holder.kill()
    with exclusive(lock, what="stopping"):
        assert lock.exists()
