"""Every section sign in the code leads to a heading of a page in docs/papers that the same file names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in sorted((ROOT / "docs" / "papers").glob("*.md")) if path.stem != "README"}
CITING = [
    path
    for place in ("src/lexiseg", "tests", "tools", "studies")
    for path in sorted((ROOT / place).rglob("*.py"))
    if path != Path(__file__)
    and path.name != "png.py"  # which cites the PNG standard
    and "§" in path.read_text(encoding="utf-8")
]
PAGE = re.compile(rf"\b({'|'.join(PAGES)})\.md")
SECTION = re.compile(rf"(?:({'|'.join(PAGES)})\.md )?§(\d+(?:\.\d+)*)(?:-(\d+\.\d+))?")


def headings(page: Path) -> set[str]:
    return set(re.findall(r"^## (\d+(?:\.\d+)*) ", page.read_text(encoding="utf-8"), re.MULTILINE))


def unresolved(text: str) -> list[str]:
    """Sections of a file that are not headings of the page beside them, or else of a page that the file names."""
    own = set().union(*(headings(PAGES[page]) for page in set(PAGE.findall(text))))
    wrong = []
    for page, section, last in SECTION.findall(text):
        known = headings(PAGES[page]) if page else own
        wrong += [f"{page} §{number}" for number in (section, last) if number and number not in known]
    return wrong


def test_the_pages_have_the_sections_of_their_systems() -> None:
    assert {page: min(headings(path)) for page, path in PAGES.items()} == {
        "clip": "1.1",
        "groupvit": "5.1",
        "maskclip": "2.1",
        "maskclip_plus": "3.1",
        "s_seg": "4.1",
        "segclip": "3.1",
        "simseg": "2.1",
        "zsseg": "4.1",
        "zsseg_fcn": "7.1",
    }


def test_a_section_without_a_page_or_a_heading_is_found() -> None:
    assert unresolved("maskclip.md §2.3, and §2.7") == []
    assert unresolved("maskclip_plus.md §3.4-3.6") == []
    assert unresolved("§2.3") == [" §2.3"]
    assert unresolved("clip.md §2.3") == ["clip §2.3"]
    assert unresolved("maskclip_plus.md §3.4-3.9") == ["maskclip_plus §3.9"]


@pytest.mark.parametrize("path", CITING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_section_that_a_file_cites_exists(path: Path) -> None:
    assert unresolved(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_section_that_a_page_cites_exists(page: str) -> None:
    text = PAGES[page].read_text(encoding="utf-8")
    assert unresolved(f"{page}.md {text}") == []


def test_no_file_names_documents_that_are_not_in_the_repository() -> None:
    private = re.compile(
        r"\bspecs?/|\bspec (?:§|\d|maskclip|simseg)|maskclip_zsseg|simseg_segclip|\b(?:DESIGN|STYLE)\.md"
    )
    places = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for folder in ("src", "tests", "tools", "studies", "benchmarks"):
        places += [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.md")]
    found = [path for path in places if path != Path(__file__) and private.search(path.read_text(encoding="utf-8"))]
    assert found == []
