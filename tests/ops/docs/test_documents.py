"""What is written is found: every page from the README, behind every link and citation a page and a heading that exist.

In every runbook all its parts, in the glossary few words of our own, in the contract every key of a configuration.
"""

import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import seawall.operators
from seawall.schemas.configuration import load_configuration
from seawall_testing.doc_blocks import read_blocks
from seawall_testing.paths import DOCS, ROOT

README = ROOT / "README.md"
RUNBOOKS = DOCS / "runbooks"
DECISIONS = DOCS / "decisions"
WORDS_MAX = 15
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([\w-]+))?\)")
NAMED = re.compile(r"`((?:ops|tests|schemas|connectors|operators|dataflows)/[\w./-]*\w/?)`")
PARTS = ("You are here when", "You see", "Do", "After it you see", "If not", "Tell")
# Ways to cite: a page by its path or its name, with a heading or without; a decision by its number; a section of old.
PAGE = re.compile(r"(?<![\w/.*{}-])((?:[\w.-]+/)*[\w-]+\.md)\b(?:, \"([^\"]+)\")?")
DECISION = re.compile(r"\bdecisions? (\d{4})\b")
GONE = re.compile(
    r"\b(?:DESIGN|CONTRACT)\b[^\n]{0,12}(?:§|section)|\breference/\w+\.md\b|§ ?\d+ of the (?:design|contract)"
)
OTHERS = {"protocol.md", "PAGE.md"}  # of the DSSE specification; an argument of a program
# Ways to name code: a dotted name, a path, a file's name, a class in code with or without an attribute, an operator.
ROOMS = "schemas|operators|connectors|dataflows|ops|tests"
DOTTED = re.compile(r"(?<!vnd\.)\bseawall(?:\.\w+)+")
PATH = re.compile(rf"(?<![\w./-])((?:{ROOMS})/(?:[\w./-]*\w/?)?)")
FILE = re.compile(r"`(\w+\.py)`")
CLASS = re.compile(r"`([A-Z][a-z]+[A-Z]\w*|[A-Z][a-z]\w*(?=\.))(?:\.(\w+))?(?:\(.*?\))?`")
OPERATOR = re.compile(r"\bsw\.(\w+)")
NO_NAMES = {"seawall.db"}  # the file of the embedded bus
# Of browsers, Kubernetes, River and Bytewax; classes and alerts of other kinds than Python's.
NO_CLASSES = {
    "GaussianScorer",
    "StandardAbsoluteDeviation",
    "TestingSource",
    "HttpOnly",
    "ReadWriteOncePod",
    "SeawallBehind",
    "SeawallDown",
    "SeawallSlow",
}
READ = {".py", ".md", ".toml", ".sh", ".yml", ".yaml", ".xml", ".html", ".js", ""}


@cache
def tracked() -> list[Path]:
    """Return the files of the project that may name a page; not the pages of stores that earlier programs wrote."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout with files")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    left_out = (
        ROOT / "tests" / "fuzz_corpus",
        ROOT / "tests" / "conformance",
        DOCS / "LICENSE",
    )  # bytes, not text of ours
    return [
        path
        for path in paths
        if path.suffix in READ and path.is_file() and not any(path.is_relative_to(place) for place in left_out)
    ]


def pages() -> list[Path]:
    """Return every page: the README, those of ops/docs, and what explains a folder that is handed on as it is."""
    return [README, *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "tests").rglob("*.md"))]


def named(page: Path) -> set[Path]:
    """Return the files that a page links to, or names by their path."""
    text = page.read_text()
    links = {page.parent / path for path, _ in LINK.findall(text) if path and "://" not in path}
    return {path.resolve() for path in links | {ROOT / path for path in NAMED.findall(text)}}


def anchors(page: Path) -> set[str]:
    """Return what may stand behind a page's name: its headings as they are linked to."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


def headings(page: Path) -> list[str]:
    """Return the headings of a page."""
    return re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)


def cited(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each page that a file cites, and the heading or nothing; line ends inside a citation count as a space."""
    text = re.sub(r"\s*\n\s*(?:#+ )?", " ", path.read_text()) if path.suffix == ".py" else path.read_text()
    yield from PAGE.findall(text)


def candidates(path: Path, name: str) -> list[Path]:
    """Return the pages that a citation may mean: beside the file, from the root, or by its name in ops/docs."""
    places = [path.parent / name, ROOT / name, DOCS / name]
    found = {place.resolve() for place in places if place.is_file()}
    if "/" not in name and path.suffix != ".md":
        found |= {page for page in pages() if page.name == name}
    return sorted(found)


@cache
def classes() -> dict[str, str]:
    """Return the classes of the house, each with the text of its module."""
    texts = (path.read_text() for path in tracked() if path.suffix == ".py")
    return {name: text for text in texts for name in re.findall(r"^class (\w+)", text, re.MULTILINE)}


def has_attribute(name: str, attribute: str) -> bool:
    """Whether a class has a method or field of this name; in its module another class may stand for it."""
    return re.search(rf"^    (?:(?:async )?def {attribute}\(|{attribute}:)", classes()[name], re.MULTILINE) is not None


def is_found(dotted: str) -> bool:
    """Whether a dotted name is a module, which need not be imported for that, or something in one."""
    *above, last = dotted.split(".")
    place = ROOT.joinpath(*above[1:], last)
    if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
        return True
    try:
        return hasattr(importlib.import_module(".".join(above)), last)
    except ImportError:
        return False


def test_every_page_is_in_one_place() -> None:
    elsewhere = [page for page in (ROOT / "ops").rglob("*.md") if not page.is_relative_to(DOCS)]
    assert elsewhere == []


def test_every_page_is_reached_from_the_readme_directly_or_by_one_index() -> None:
    direct = named(README)
    indexes = {page for page in direct if page.name == "README.md"}
    reached = direct.union(*(named(page) for page in indexes))
    lost = [str(page.relative_to(ROOT)) for page in sorted(DOCS.rglob("*.md")) if page not in reached]
    assert lost == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    gone = []
    for path, anchor in LINK.findall(page.read_text()):
        if "://" in path or not (path or anchor):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            gone.append(path + ("#" + anchor if anchor else ""))
    assert gone == []


def test_every_page_and_heading_that_is_cited_exists() -> None:
    wrong, seen = [], 0
    for path in tracked():
        for name, heading in cited(path):
            if name in OTHERS or (path.suffix == ".md" and "/" not in name and not heading):
                continue  # a link's target, which is held above, or a bare name in a sentence
            seen += 1
            found = candidates(path, name)
            if not found or (heading and not any(heading in headings(page) for page in found)):
                wrong.append(f"{path.relative_to(ROOT)}: {name} {heading}".rstrip())
    assert wrong == []
    assert seen > 100


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_path_and_name_in_code_that_a_page_names_exists(page: Path) -> None:
    text, files = page.read_text(), {path.name for path in [*tracked(), *page.parent.iterdir()]}
    wrong = {name for name in DOTTED.findall(text) if name not in NO_NAMES and not is_found(name)}
    wrong |= {path for path in PATH.findall(text) if not (ROOT / path).exists()}
    wrong |= {name for name in FILE.findall(text) if name not in files}
    wrong |= {name for name in OPERATOR.findall(text) if not hasattr(seawall.operators, name)}
    for name, attribute in CLASS.findall(text):
        if name not in NO_CLASSES and (name not in classes() or (attribute and not has_attribute(name, attribute))):
            wrong.add(f"{name}.{attribute}".rstrip("."))
    assert wrong == set()


def test_nothing_cites_a_document_that_is_not_in_the_repository() -> None:
    here = Path(__file__).resolve()
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path.resolve() != here
        for match in GONE.finditer(path.read_text())
    ]
    assert wrong == []


def test_decisions_are_one_series_and_every_number_that_is_cited_is_in_it() -> None:
    numbered = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
    assert [path.name[:4] for path in numbered] == [f"{number:04}" for number in range(1, len(numbered) + 1)]
    assert [path.name for path in numbered if headings(path)[0][:5] != f"{path.name[:4]} "] == []
    known = {path.name[:4] for path in numbered}
    wrong = [
        f"{path.relative_to(ROOT)}: {number}"
        for path in tracked()
        for number in DECISION.findall(path.read_text())
        if number not in known
    ]
    assert wrong == []


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("[a-z]*.md")), ids=lambda page: page.stem)
def test_a_runbook_has_all_its_parts_in_order_and_a_test_that_follows_it(page: Path) -> None:
    if page.stem == "alerts":  # a section per alert, each held against the rules by test_monitoring
        return
    found = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert tuple(heading for heading in found if heading != "To rehearse it") == PARTS
    assert any(block.language == "sh" for block in read_blocks(page))
    assert f'"{page.stem}"' in (ROOT / "tests" / "ops" / "docs" / "test_runbooks.py").read_text()


def test_words_of_our_own_are_few_and_each_has_a_reason() -> None:
    section = (DOCS / "glossary.md").read_text().partition("## Words of our own")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)[2:]
    assert 5 < len(rows) <= WORDS_MAX
    assert all(meaning and reason for _, meaning, reason in rows)


def test_files_and_tests_that_the_guarantees_name_exist() -> None:
    named_tests = re.findall(
        r"`((?:tests|ops|schemas|operators|connectors|dataflows)/[\w./-]*)(?:::(\w+))?`",
        (DOCS / "guarantees.md").read_text(),
    )
    assert len(named_tests) > 15
    for path, test in named_tests:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_the_configuration_table_names_every_key_and_its_default(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text("")
    defaults = load_configuration(tmp_path / "desk.toml")
    section = (DOCS / "contract.md").read_text().partition("\n## Configuration\n")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", section, re.MULTILINE))
    assert rows.pop("version") == "1"
    assert rows.keys() == {
        "bus", "environment", "issuer", "shards", "slice_ms", "reporting_currency", "exposure_change_min",
        "mark_max_age_s", "confirm_s", "confirm_tolerance", "peg_tolerance", "peg_return_s", "pnl_explain",
        "price_max_age_s", "unvalued_factor", "unvalued_tolerance", "unvalued_floor", "unvalued_max_share",
        "peg_haircut",
        "fill_memory", "crypto_regime", "potential_exposure_change_min", "holidays", "epoch", "snapshot_s",
    }  # fmt: skip
    for name, text in rows.items():
        assert getattr(defaults, name) == tomllib.loads(f"value = {text}")["value"]


def test_the_line_that_the_second_walk_begins_with_is_in_the_code() -> None:
    page = (DOCS / "architecture.md").read_text().partition("## Walk 2")[2]
    found = re.search(r"`(\w+\.\w+)` in `([\w/]+\.py)` ends with\n\n```\n(.+)\n```", page)
    assert found and f"\n{found[3]}\n" in (ROOT / found[2]).read_text()
