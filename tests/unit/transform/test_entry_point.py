"""By hand; that a right spec is transformed is shown by what docs/adding-an-aggregate.md does."""

from pathlib import Path

from tests.kit.submission import submit


def test_a_failed_batch_fails_the_process(tmp_path: Path) -> None:
    done = submit(tmp_path, "--spec", "nowhere.json")
    assert done.returncode != 0
    assert "nowhere.json: no such file" in done.stdout
