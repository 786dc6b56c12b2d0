"""What is written is found: every page from the README, behind every link a file, in every runbook all its parts."""

import re
from pathlib import Path

import pytest

from seawall_testing.pages import ROOT, blocks

README = ROOT / "README.md"
RUNBOOKS = ROOT / "ops" / "runbooks"
PAGES = [README, *sorted(path for path in (ROOT / "ops").rglob("*.md") if "decisions" not in path.parts)]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#([\w-]+))?\)")
NAMED = re.compile(r"`((?:ops|tests|schemas|connectors|operators|dataflows)/[\w./-]*\w/?)`")
PARTS = ("You are here when", "You see", "Do", "After it you see", "If not", "Tell")


def named(page: Path) -> set[Path]:
    """Return the files that a page links to, or names by their path."""
    text = page.read_text()
    links = {page.parent / path for path, _ in LINK.findall(text) if "://" not in path}
    return {path.resolve() for path in links | {ROOT / path for path in NAMED.findall(text)}}


def test_every_page_is_reached_from_the_readme_directly_or_by_one_index() -> None:
    direct = named(README)
    indexes = {page for page in direct if page.name == "README.md"}
    reached = direct.union(*(named(page) for page in indexes))
    lost = [str(page.relative_to(ROOT)) for page in PAGES[1:] if page.name != "CHANGELOG.md" and page not in reached]
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    gone = []
    for path, anchor in LINK.findall(page.read_text()):
        if "://" in path:
            continue
        target = page.parent / path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            gone.append(path + ("#" + anchor if anchor else ""))
    assert gone == []


def anchors(page: Path) -> set[str]:
    """Return what may stand behind a page's name: its headings as they are linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("[a-z]*.md")), ids=lambda page: page.stem)
def test_a_runbook_has_all_its_parts_in_order_and_a_test_that_follows_it(page: Path) -> None:
    if page.stem == "alerts":  # a section per alert, each held against the rules by test_monitoring
        return
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert tuple(heading for heading in headings if heading != "To rehearse it") == PARTS
    assert any(block.language == "sh" for block in blocks(page))
    assert f'"{page.stem}"' in (ROOT / "tests" / "test_runbooks.py").read_text()
