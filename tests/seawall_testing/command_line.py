"""Real runs of the command line in processes of their own, and what they leave on the bus."""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from seawall.connectors.bus import open_bus, read_all
from seawall.connectors.keys import _key_files
from seawall.ops.cli._app import main
from seawall.schemas.errors import UsageError

CLI = [sys.executable, "-c", "from seawall.ops.cli._app import main; main()"]
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


class CommandResult(NamedTuple):
    """What a command did in this process."""

    returncode: int
    raw: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        return self.raw.decode()


def run_command(*arguments: Any, cwd: Path | None = None) -> CommandResult:
    """Run a command of the command line to its end, in this process: for tests that run many."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    code = 0
    words = ["seawall", *map(str, arguments)]
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", words),
    ):
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
    out.flush()
    return CommandResult(code, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


def bus_contents(folder: Path, topics: Iterable[str] | None = None, url: str = "sqlite:seawall.db") -> Contents:
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


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition holds; it fails a test that waits for what never comes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


# What tests run in processes of their own: spawned interpreters import it by name.


def make_keys(path: str, count: int) -> None:
    """Try to make the same key ``count`` times."""
    for _ in range(count):
        try:
            _key_files.new_key(Path(path))
        except UsageError:
            continue


def run_and_kill(path: Path, options: list[str], after_s: float) -> bool:
    """Run and kill the whole process group after a while; return whether it was still alive."""
    command = [*CLI, "run", str(path), *options]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, err = process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        assert process.returncode == 0, err
        return False


PACE = float(os.environ.get("SEAWALL_KAFKA_PACE", "1"))  # of a busy machine, on which a start takes longer


ENDING_S = 60.0 * PACE


# In a campaign, which is alone on its machine, the broker has the processors first: while it is away, workers of
# several processes wait busily (`ops/docs/manual/kafka.md`).
NICE = ("nice", "-n", "10") if "SEAWALL_KAFKA_KILLS" in os.environ else ()


class RunProcess:
    """A run in a process group of its own, to be killed; ``program`` stands for the command line."""

    def __init__(self, path: Path, options: list[str], program: list[str] = CLI) -> None:
        self.options = options
        self.errors = path.with_suffix(".err").open("ab+")
        command = [*NICE, *program, "run", str(path), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors, process_group=0)

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit code, None where it is alive after a while."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill every process of the run with -9, where any is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_one(self, rng: random.Random) -> None:
        """Kill one process of the run with -9; the others are to end by themselves."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(self._alive() or [self._process.pid]), signal.SIGKILL)
        deadline = time.monotonic() + ENDING_S
        while self.wait(0.05) is None or self._alive():
            assert time.monotonic() < deadline, f"{self._alive()} live on\n{self.said()}"

    def stop(self) -> int:
        """Stop it cleanly, a moment after its start too; return the exit code."""
        deadline = time.monotonic() + ENDING_S
        while not self._listens() and self.wait(0.05) is None:
            assert time.monotonic() < deadline, f"it never listened to SIGTERM\n{self.said()}"
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(ENDING_S)

    def _listens(self) -> bool:
        """Tell whether a handler of its own catches SIGTERM; before, the signal ends it, and nothing has begun."""
        command = ["ps", "-o", "caught=", "-p", str(self._process.pid)]
        mask = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return bool(int(mask or "0", 16) >> (signal.SIGTERM - 1) & 1)

    def _alive(self) -> list[int]:
        """Return the processes of the run, those left out that have ended and nobody asked after."""
        found = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True)
        rows = [line.split() for line in found.stdout.splitlines()]
        return [int(pid) for pid, group, state in rows if int(group) == self._process.pid and state[0] != "Z"]

    def said(self) -> str:
        """Return what it wrote to standard error."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")
