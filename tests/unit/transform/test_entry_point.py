from tests.kit.lake import Lake, value
from tests.kit.submission import submit, submit_spec


def test_spark_submit_transforms_a_batch_by_its_spec(lake: Lake) -> None:
    report, printed = submit_spec(lake.root, lake.spec(lake.segment([value(), value(), b"x"])))
    assert (report.landed, report.accepted, report.duplicate, report.rejected) == (3, 1, 1, 1)
    assert "landed 3 = accepted 1 + duplicate 1 + late 0 + rejected 1" in printed


def test_a_failed_batch_fails_the_process(lake: Lake) -> None:
    done = submit(lake.root, "--spec", "nowhere.json")
    assert done.returncode != 0
    assert "nowhere.json: no such file" in done.stdout
