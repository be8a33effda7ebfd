"""What the documents for maintainers name is there."""

import re
from pathlib import Path

import pytest

DOCUMENTS = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *(f"docs/adr/{path.name}" for path in Path(__file__).parents[2].glob("docs/adr/*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_file_that_a_document_names_is_there(project: Path, document: str) -> None:
    text = (project / document).read_text("utf-8")
    named = re.findall(r"`((?:[\w.-]+/)+|(?:[\w.-]+/)*\w+\.py)`", text)
    homes = (project, project / "airflow_chat_provider")
    missing = [name for name in named if not any((home / name).exists() for home in homes)]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_link_of_a_document_leads_somewhere(project: Path, document: str) -> None:
    text = (project / document).read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not ((project / document).parent / link).exists()] == []


def test_each_make_target_is_in_contributing(project: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*## ", (project / "Makefile").read_text("utf-8"), re.MULTILINE)
    told = (project / "CONTRIBUTING.md").read_text("utf-8")
    assert [target for target in targets if f"`make {target}`" not in told] == []
