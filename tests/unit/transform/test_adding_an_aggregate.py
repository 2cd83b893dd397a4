"""What docs/adding-an-aggregate.md shows is done here, to a copy of the code."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from clickstream_transform import pipeline
from clickstream_transform.event import Event, classify_value
from tests.kit.lake import Lake, live, rows, value
from tests.kit.submission import SPARK_APPS, submit_spec

PAGE = SPARK_APPS.parent / "docs" / "adding-an-aggregate.md"


@pytest.fixture(scope="module")
def diff() -> str:
    (found,) = re.findall(r"^```diff\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert isinstance(found, str)
    return found


@pytest.fixture
def patched(diff: str, tmp_path: Path) -> Path:
    """A copy of spark_apps with the page's diff applied."""
    copy = tmp_path / "patched" / SPARK_APPS.name
    shutil.copytree(SPARK_APPS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        ["git", "apply", "-"],
        cwd=copy.parent,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)},
        input=diff,
        text=True,
        check=True,
    )
    return copy


def test_a_dimension_takes_few_places(diff: str) -> None:
    places = re.findall(r"^@@ .* @@", diff, re.MULTILINE)
    assert len(places) <= 3
    assert len(re.findall(r"^\+\+\+ ", diff, re.MULTILINE)) <= 3
    assert len(re.findall(r"^[+-](?![+-]{2} )", diff, re.MULTILINE)) <= 3


@pytest.mark.needs("git")
def test_the_dimension_is_counted_and_old_fingerprints_stay(spark: SparkSession, lake: Lake, patched: Path) -> None:
    before = [value(eventId=f"old-{number}") for number in range(2)]
    first = pipeline.run(spark, lake.spec(lake.segment(before)))
    campaigns = ["spring", "spring", "Spring", None, "\u00e9t\u00e9 ?#"]
    new = [value(eventId=f"new-{number}", utmCampaign=campaign) for number, campaign in enumerate(campaigns)]
    wrong = value(eventId="wrong", utmCampaign=5)
    batch = lake.segment([*before, *new, wrong], first_offset=2)

    report, printed = submit_spec(lake.root, lake.spec(batch, event_files=live(first)), spark_apps=patched)

    assert (report.accepted, report.duplicate, report.reasons) == (5, 2, {"wrong_type": 1})
    assert "landed 8 = accepted 5 + duplicate 2 + late 0 + rejected 1" in printed
    counted = {
        row["value"]: (row["events"], row["users"])
        for row in rows(report.tables["audience_by_window"])
        if (row["dimension"], row["window_minutes"]) == ("utm_campaign", 60)
    }
    assert counted == {"spring": (2, 1), "Spring": (1, 1), "\u00e9t\u00e9 ?#": (1, 1), "(none)": (3, 1)}
    accepted = {row["event_id"]: row for row in rows(report.event_files)}
    assert [row["utm_campaign"] for _, row in sorted(accepted.items())] == campaigns
    for number, raw in enumerate(new):
        unpatched = classify_value(raw)
        assert isinstance(unpatched, Event)
        same = accepted[f"new-{number}"]["fingerprint"] == unpatched.fingerprint
        assert same is (campaigns[number] is None)
