"""The documentation site, as far as it can be looked at without building it (`make docs` does that)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

PROJECT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(PROJECT / "docs").as_posix() for path in PROJECT.glob("docs/**/*.md"))


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / ".ci" / "mkdocs.yml").read_text("utf-8"))
    return loaded


def files_of(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from files_of(item)


def test_each_page_is_in_the_navigation_once(settings: dict[str, Any]) -> None:
    assert sorted(files_of(settings["nav"])) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_a_page_leads_to_a_page(page: str) -> None:
    path = PROJECT / "docs" / page
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).is_file()] == []


def test_each_link_of_the_readme_to_the_site_leads_to_a_page(settings: dict[str, Any]) -> None:
    home: str = settings["site_url"]
    links = re.findall(rf"{re.escape(home)}([\w/.-]*)", (PROJECT / "README.md").read_text("utf-8"))
    pictures = {link for link in links if link.endswith(".png")}
    assert len(links) > 5
    assert [link for link in pictures if not (PROJECT / "docs" / link).is_file()] == []
    assert [link for link in links if link not in pictures and f"{link.strip('/') or 'index'}.md" not in PAGES] == []


def test_no_font_or_count_of_stars_is_loaded_from_another_host(settings: dict[str, Any]) -> None:
    assert settings["theme"]["font"] is False
    assert "repo_url" not in settings


def test_a_warning_is_an_error_and_each_kind_of_bad_link_is_a_warning(settings: dict[str, Any]) -> None:
    assert settings["strict"] is True
    assert {level for kinds in settings["validation"].values() for level in kinds.values()} == {"warn"}
