"""README.md tells the truth: its blocks run in the order of the page, its output is the demo's, what it names exists.

The install and test commands are run by continuous integration, not here (they would run this).
"""

import contextlib
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from seawall.schemas.configuration import load_configuration

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "hyperliquid_accounts_2023"
COMMANDS = ("./ops/try", "./ops/test")
BLOCKS_MIN = {"python": 2, "sh": 5, "text": 1, "toml": 3, "js": 1}
LEFT_OUT = "…"
KEY_ID = re.compile(r"\b[A-Za-z0-9_-]{43}\b")
SEAWALL = "from seawall.ops.cli import main; main()"

TRADES = """time,user,coin,side,px,sz,crossed
2023-02-27T15:02:26Z,0xaa,ETH,Ask,1655.5,0.0452,true
2023-02-27T15:04:12Z,0xbb,ARB,Bid,1.25,300,false
"""
LEDGER = """time,user,delta_usd
2023-02-26T16:44:05Z,0xaa,4
2023-02-27T15:04:12Z,0xbb,1.1
"""


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line of the README that it starts on."""

    language: str
    text: str
    line: int


def blocks() -> list[Block]:
    readme = (ROOT / "README.md").read_text()
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return [Block(match[1], match[2], readme.count("\n", 0, match.start()) + 1) for match in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks run, with the two files that the page takes as given."""
    folder = tmp_path_factory.mktemp("readme")
    for name, text in (("non_mm_trades.csv.gz", TRADES), ("non_mm_ledger_updates.csv.gz", LEDGER)):
        (folder / name).write_bytes(gzip.compress(text.encode()))
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[int, str]:
    """Run all blocks in order; return what each printed, by its line."""
    found = {}
    for block in blocks():
        run = {"python": run_python, "sh": run_shell, "toml": write_toml, "js": run_node, "text": run_demo}[
            block.language
        ]
        found[block.line] = run(block, folder)
    return found


def run_python(block: Block, folder: Path) -> str:
    out, before = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(block.text, f"README.md:{block.line}", "exec"), {"__name__": "readme"})
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


def write_toml(block: Block, folder: Path) -> str:
    path = folder / block.text.split("\n", 1)[0].removeprefix("# ")
    path.write_text(block.text)
    return ""


def run_node(block: Block, folder: Path) -> str:
    if shutil.which("node") is None:
        return LEFT_OUT
    (folder / "verify.cjs").write_text(block.text)
    return ended(["node", "verify.cjs"], folder)


def run_demo(block: Block, folder: Path) -> str:
    return ended([sys.executable, "-c", SEAWALL, "demo", "--dir", "demo"], folder)


def ended(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_block_of_the_page_runs(printed: dict[int, str]) -> None:
    assert len(printed) == len(blocks())
    counts = Counter(block.language for block in blocks())
    assert all(counts[language] >= least for language, least in BLOCKS_MIN.items()), counts
    assert set(counts) == set(BLOCKS_MIN)


def test_the_two_commands_stand_alone_in_their_blocks() -> None:
    alone = [block.text for block in blocks() if block.text.strip().startswith("./ops")]
    assert alone == [f"{command}\n" for command in COMMANDS]


def test_what_the_page_says_the_demo_prints_is_what_it_prints(printed: dict[int, str]) -> None:
    (block,) = (block for block in blocks() if block.language == "text")
    actual = iter([KEY_ID.sub("KEY", line.rstrip()) for line in printed[block.line].splitlines()])
    for line in block.text.splitlines():
        if line != LEFT_OUT:  # `in` consumes the iterator up to the line: order counts
            assert KEY_ID.sub("KEY", line.rstrip()) in actual, f"the demo does not print, or not here: {line}"


def test_lines_of_the_demo_are_left_out_only_where_the_page_says_so(printed: dict[int, str]) -> None:
    (block,) = (block for block in blocks() if block.language == "text")
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


def test_the_path_in_python_is_short_and_the_command_line_agrees_with_every_byte_of_it(
    printed: dict[int, str], folder: Path
) -> None:
    by_hand, *_ = (block for block in blocks() if block.language == "python")
    assert len(by_hand.text.splitlines()) <= 25
    after = next(block for block in blocks() if "seawall replay crisis" in block.text)
    assert "verified:" in printed[after.line]
    assert "replayed:" in printed[after.line]


@pytest.mark.skipif(not DATA.exists(), reason="the export is not here")
def test_the_converter_prints_what_the_page_says(tmp_path: Path) -> None:
    (block,) = (block for block in blocks() if "convert(" in block.text)
    for path in DATA.glob("*.csv.gz"):
        shutil.copyfile(path, tmp_path / path.name)
    assert run_python(block, tmp_path).strip() == block.text.strip().splitlines()[-1].removeprefix("# ")


def test_the_foreign_verifier_reads_every_command(printed: dict[int, str], folder: Path) -> None:
    (block,) = (block for block in blocks() if block.language == "js")
    if printed[block.line] == LEFT_OUT:
        pytest.skip("there is no node here")
    assert len(printed[block.line].splitlines()) == len((folder / "commands.jsonl").read_text().splitlines()) > 0


def test_files_and_tests_that_the_page_names_exist() -> None:
    named = re.findall(
        r"`((?:tests|ops|schemas|operators|connectors|dataflows)/[\w./-]*)(?:::(\w+))?`",
        (ROOT / "README.md").read_text(),
    )
    assert len(named) > 20
    for path, test in named:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_the_configuration_table_names_every_key_and_its_default(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text("")
    defaults = load_configuration(tmp_path / "desk.toml")
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert rows.keys() == {
        "bus", "environment", "issuer", "shards", "slice_ms", "reporting_currency", "exposure_change_min",
        "mark_max_age_s", "fill_memory", "crypto_regime", "epoch", "snapshot_s",
    }  # fmt: skip
    for name, text in rows.items():
        assert getattr(defaults, name) == (text.strip('"') if text.startswith('"') else float(text.replace("_", "")))
