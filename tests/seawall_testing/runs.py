"""Real runs of the command line in processes of their own, and what they leave on the bus."""

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from seawall.connectors.bus import open_bus, read_all
from seawall.ops.cli import main

CLI = [sys.executable, "-c", "from seawall.ops.cli import main; main()"]
Contents = dict[tuple[str, int], list[tuple[int, str, tuple[tuple[str, str], ...], bytes]]]


def seawall(
    *arguments: Any, cwd: Path | None = None, timeout: float = 120, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command of the command line to its end."""
    command = [*CLI, *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **(env or {})},
    )


class Done(NamedTuple):
    """What a command did in this process."""

    returncode: int
    raw: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        return self.raw.decode()


def command(*arguments: Any) -> Done:
    """Run a command of the command line to its end, in this process: for tests that run many."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch.object(sys, "argv", ["seawall"]):
        sys.argv += map(str, arguments)
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
    out.flush()
    return Done(code, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


def contents(folder: Path, topics: Iterable[str] | None = None, url: str = "sqlite:seawall.db") -> Contents:
    """Return every record of a run: offset, key, headers and value by topic and partition."""
    bus = open_bus(url, folder)
    try:
        return {
            (topic, partition): [
                (r.offset, r.key, tuple(r.headers.items()), r.value) for r in read_all(bus, topic, partition)
            ]
            for topic in (bus.topics() if topics is None else topics)
            for partition in bus.partitions(topic)
        }
    finally:
        bus.close()


def differences(found: Contents, wanted: Contents) -> list[str]:
    """Return where two runs differ, in a few words for a failing test."""
    out = []
    for place in sorted(set(found) | set(wanted)):
        one, two = found.get(place, []), wanted.get(place, [])
        if one != two:
            at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
            out.append(f"{place}: {len(one)} and {len(two)} records, first difference at {at}")
    return out


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds; it fails a test that waits for what never comes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
