"""Each procedure among the runbooks has its parts, a place in the index, and a drill."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
PROCEDURES = sorted(page.stem for page in (RUNBOOKS / "procedures").glob("*.md"))
INDEX = (RUNBOOKS / "README.md").read_text(encoding="utf-8")


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PROCEDURES)
def test_a_procedure_leads_from_the_symptom_to_how_to_see_that_it_worked(name: str) -> None:
    text = (RUNBOOKS / "procedures" / f"{name}.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert parts[1::2] == ["Symptom", "First query", "Steps", "How to see that it worked"]
    assert "```sql\n" in parts[4]
    assert re.search(r"^1\. |\*\*", parts[6], re.MULTILINE)
    assert "```sql\n" in parts[8]


def test_the_index_names_each_procedure_and_its_drill() -> None:
    rows = re.findall(r"^\| \[([\w-]+)\]\(procedures/\1\.md\) \| .+ \| `(tests/\S+)` \|$", INDEX, re.MULTILINE)
    assert sorted(name for name, _ in rows) == PROCEDURES
    assert [drill for _, drill in rows if not (REPOSITORY / drill).is_file()] == []


@pytest.mark.parametrize("page", [*RUNBOOKS.rglob("*.md")], ids=lambda page: page.stem)
def test_links_between_runbooks_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).is_file()] == []
