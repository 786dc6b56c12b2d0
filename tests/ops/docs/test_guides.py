"""Every guide is followed step by step, in an empty folder."""

import shutil
from pathlib import Path

import pytest

from seawall_testing.doc_blocks import follow_pages, read_blocks
from seawall_testing.live_runs import free_port
from seawall_testing.paths import DOCS, SHARED

GUIDES = DOCS / "guides"
LIGHT = ("own-data", "river-models")
HEAVY = ("compose", "deploy-and-run", "govern", "other-language", "subscribe")  # each runs a desk or the demo, and more
EXPORT = SHARED / "data" / "hyperliquid_accounts_2023"


@pytest.mark.parametrize("name", [*LIGHT, *(pytest.param(name, marks=pytest.mark.soak) for name in HEAVY)])
def test_a_guide_is_followed_to_its_end(name: str, tmp_path: Path) -> None:
    follow_pages([GUIDES / f"{name}.md"], tmp_path / "here", {"ADDRESS": f"127.0.0.1:{free_port()}"})


def test_every_guide_has_a_test() -> None:
    assert {path.stem for path in GUIDES.glob("[a-z]*.md")} == {*LIGHT, *HEAVY}


def test_the_whole_path_by_hand_is_short() -> None:
    (by_hand,) = (block for block in read_blocks(GUIDES / "compose.md") if block.text.startswith("# desk_flow.py"))
    assert len(by_hand.text.splitlines()) <= 30


@pytest.mark.skipif(not EXPORT.exists(), reason="the export is not here")
def test_the_converter_prints_what_the_page_says_of_the_whole_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = GUIDES / "own-data.md"
    (block,) = (block for block in read_blocks(page) if "convert(" in block.text and block.language == "python")
    for path in EXPORT.glob("*.csv.gz"):
        shutil.copyfile(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.place(), "exec"), {"__name__": "guide"})
    assert f"`{capsys.readouterr().out.strip()}`" in page.read_text()
