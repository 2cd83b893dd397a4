import os
import pwd
import tempfile
from pathlib import Path

import pytest

from infra.local import postgres
from infra.local.commands import run
from infra.local.errors import StackError
from infra.local.stack import Stack

CAPABILITY = 1 << 2  # CAP_DAC_READ_SEARCH, capabilities(7)


def _may_give(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    (bounding,) = (line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:"))
    return bool(int(bounding, 16) & capability)


@pytest.mark.needs("root")
def test_the_server_never_runs_as_root() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        user = postgres.account(Path(folder))
        assert user.uid == pwd.getpwnam(postgres.SYSTEM_USER).pw_uid
        shown = run(["setpriv", *user.privileges, "id", "-u"], purpose="show the user", remedy="")
        assert shown.strip() == str(user.uid)


@pytest.mark.needs("root")
def test_a_closed_folder_above_the_stack_is_passed_or_named() -> None:
    with tempfile.TemporaryDirectory() as closed:
        folder = Path(closed) / "stack"
        folder.mkdir()
        if _may_give(CAPABILITY):
            user = postgres.account(folder)
            assert run(["setpriv", *user.privileges, "ls", folder], purpose="list it", remedy="") == ""
        else:
            with pytest.raises(StackError, match=str(folder)) as caught:
                postgres.account(folder)
            assert "o+x" in caught.value.remedy


def test_a_pid_file_of_a_process_that_is_no_postgres_is_removed(tmp_path: Path) -> None:
    folder = tmp_path
    stack = Stack.create(folder)
    data = folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    postgres.prepare(stack)
    assert not (data / "postmaster.pid").exists()
