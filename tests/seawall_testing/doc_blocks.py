"""Follows a page as its reader would: its blocks, in order, in one shell, in a folder of their own.

A block `sh` is run; it must end with 0, or say in the block what else it may end with. A block `text` after it is what
must be seen: its lines stand in the output in that order, `…` is anything, alone on a line any lines. Every other block
is a file, whose first line names it in a comment. What a page leaves running is ended with it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

SECONDS_MAX = 500.0
ANYTHING = "…"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"(?:#|//) (\S+)\n")
END = "END_OF_THE_FILE"
TOOLS = ("curl", "jq", "node", "openssl", "pgrep", "xxd")  # what pages use beyond a shell, and not every machine has


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, and where it stands."""

    page: Path
    line: int
    language: str
    text: str

    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    text = page.read_text()
    return [Block(page, text.count("\n", 0, at.start()) + 1, at[1], at[2]) for at in FENCE.finditer(text)]


def follow_pages(pages: Iterable[Path], folder: Path, env: Mapping[str, str]) -> None:
    """Follow pages one after the other in one shell; fail where a block fails or shows something else."""
    steps = [block for page in pages for block in read_blocks(page)]
    for tool in TOOLS:
        if shutil.which(tool) is None and any(re.search(rf"\b{tool}\b", step.text) for step in steps):
            pytest.skip(f"the pages use {tool}, which is not here")
    shown = folder / "shown"
    shown.mkdir(parents=True)
    (folder / "steps.sh").write_text(_script(steps, shown))
    environment = {**os.environ, **env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = subprocess.Popen(
        ["bash", "steps.sh"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        code = shell.wait(SECONDS_MAX)
    finally:
        end_group(shell.pid)
        shell.wait()
    _check(steps, shown, code)


def end_group(group: int) -> None:
    """End every process of a group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _script(steps: list[Block], shown: Path) -> str:
    lines = ["set -euo pipefail"]
    for number, step in enumerate(steps):
        if step.language == "sh":
            lines.append(f"{{\n{step.text}}} > {shown}/{number} 2>&1\ntouch {shown}/{number}.done")
        elif step.language != "text":
            named = NAME.match(step.text)
            assert named, f"{step.place()}: the first line of a file names it in a comment"
            lines.append(f"cat > {named[1]} << '{END}'\n{step.text}{END}")
    return "\n".join(lines) + "\n"


def _check(steps: list[Block], shown: Path, code: int) -> None:
    """Hold what was shown against what the pages say; name the first block that did something else."""
    output = ""
    for number, step in enumerate(steps):
        if step.language == "sh":
            path = shown / str(number)
            output = path.read_text() if path.exists() else ""
            assert path.with_suffix(".done").exists(), f"{step.place()} ended with {code}:\n{step.text}\n{output}"
        elif step.language == "text":
            rest = iter(output.splitlines())
            for line in step.text.splitlines():
                pattern = re.compile(".*".join(map(re.escape, line.split(ANYTHING))))
                seen = line == ANYTHING or any(pattern.fullmatch(found.rstrip()) for found in rest)
                assert seen, f"{step.place()} says {line!r}, which is not shown, or not there:\n{output}"
    assert code == 0, f"the shell ended with {code}"
