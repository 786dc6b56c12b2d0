"""README.md tells the truth: its blocks run in order, its output is the demo's, its figures are measured.

The two commands are run by continuous integration, not here (they would run this). What the guides say is followed by
`tests/ops/docs/test_guides.py`, what all pages link to by `tests/ops/docs/test_documents.py`.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from seawall_testing.doc_blocks import Block, read_blocks
from seawall_testing.paths import ROOT
from seawall_testing.shared_runs import DemoRun

README = ROOT / "README.md"
COMMANDS = ("./ops/try", "./ops/test")
LINES_MAX = 150
BLOCKS = {"python": 1, "sh": 3, "text": 1}
LEFT_OUT = "…"
KEY_ID = re.compile(r"\b[A-Za-z0-9_-]{43}\b")
SEAWALL = "from seawall.ops.cli._app import main; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def printed(folder: Path, demo_run: DemoRun) -> dict[int, str]:
    """Run all blocks in order; return what each printed, by its line."""

    def run_demo(_: Block, folder: Path) -> str:
        """Put here what `seawall demo --dir demo` made and printed: `./ops/try` runs it when all is installed."""
        shutil.copytree(demo_run.folder, folder / "demo")
        return demo_run.printed

    run = {"python": run_python, "sh": run_shell, "text": run_demo}
    return {block.line: run[block.language](block, folder) for block in read_blocks(README)}


def run_python(block: Block, folder: Path) -> str:
    out, before = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(block.text, block.place(), "exec"), {"__name__": "readme"})
    finally:
        os.chdir(before)
    return out.getvalue()


def run_shell(block: Block, folder: Path) -> str:
    if block.text.strip() in COMMANDS:
        assert os.access(ROOT / block.text.strip(), os.X_OK)
        return ""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "seawall").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{SEAWALL}" "$@"\n')
    (tools / "seawall").chmod(0o755)
    return ended(["sh", "-e", "-c", block.text], folder, {"PATH": f"{tools}:{os.environ['PATH']}"})


def ended(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_is_short_and_holds_these_blocks() -> None:
    assert len(README.read_text().splitlines()) <= LINES_MAX
    assert Counter(block.language for block in read_blocks(README)) == BLOCKS


def test_every_block_of_the_page_runs(printed: dict[int, str]) -> None:
    assert len(printed) == len(read_blocks(README))


def test_the_two_commands_stand_alone_in_their_blocks() -> None:
    shown = [block.text for block in read_blocks(README) if block.language == "sh"]
    assert shown[: len(COMMANDS)] == [f"{command}\n" for command in COMMANDS]
    assert not any("./ops/" in block.text for block in read_blocks(README)[3:])


def test_continuous_integration_runs_the_commands_that_the_page_shows() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    lines = [line for line in script.splitlines() if line.startswith("part ")]
    for command in COMMANDS:
        assert sum(f"{command} " in line for line in lines) == 1, command


def test_what_the_page_says_the_demo_prints_is_what_it_prints(printed: dict[int, str]) -> None:
    (block,) = (block for block in read_blocks(README) if block.language == "text")
    actual = iter([KEY_ID.sub("KEY", line.rstrip()) for line in printed[block.line].splitlines()])
    for line in block.text.splitlines():
        if line != LEFT_OUT:  # `in` consumes the iterator up to the line: order counts
            assert KEY_ID.sub("KEY", line.rstrip()) in actual, f"the demo does not print, or not here: {line}"


def test_lines_of_the_demo_are_left_out_only_where_the_page_says_so(printed: dict[int, str]) -> None:
    (block,) = (block for block in read_blocks(README) if block.language == "text")
    actual = [line.rstrip() for line in printed[block.line].splitlines()]
    at = 1 if not actual[0] else 0
    skipping = False
    for line in block.text.splitlines():
        if line == LEFT_OUT:
            skipping = True
            continue
        at = actual.index(line, at) if skipping else at
        assert actual[at] == line
        at, skipping = at + 1, False


def test_the_path_in_python_is_short_and_adds_nothing_to_what_the_demo_wrote(printed: dict[int, str]) -> None:
    (by_hand,) = (block for block in read_blocks(README) if block.language == "python")
    assert len(by_hand.text.splitlines()) <= 16
    (demo,) = (block for block in read_blocks(README) if block.language == "text")
    (after,) = (block for block in read_blocks(README) if "seawall replay demo" in block.text)
    assert re.search(r" 34 commands", printed[after.line])
    assert "verified:" in printed[after.line]
    assert "replayed:" in printed[after.line]
    assert "34 of 34 signatures" in printed[demo.line]


def test_the_figures_of_the_page_are_those_of_the_results_it_links_to() -> None:
    (section,) = re.findall(r"^## How fast\n\n(.*?)\n\n## ", README.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("- ")]
    assert 0 < len(lines) <= 3
    for line in lines:
        (target,) = re.findall(r"\]\(([^)]+)\)", line)
        result = (ROOT / target).read_text()
        figures = re.findall(r"\d[\d,.]*\d", line.partition("](")[2])
        assert figures
        assert [figure for figure in figures if figure not in result] == []


def test_the_guarantees_of_the_page_are_five() -> None:
    (section,) = re.findall(r"^## What it guarantees\n\n(.*?)\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    assert section.count("\n- ") == 4
