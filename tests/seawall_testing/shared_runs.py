"""Costly runs that every worker of a session of tests shares: the first that asks makes one, the others wait for it."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from seawall_testing.command_line import seawall


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], str]) -> tuple[Path, str]:
    """Make something in a folder, once for all workers of this session; it is read only from then on.

    Parameters
    ----------
    factory
        Of this worker: its folder lies in that of the session.
    name
        Of the folder; two different makings have two names.
    make
        Writes into the new folder that it is given, and returns a text to be kept with it.

    Returns
    -------
    tuple
        The folder, and the text.
    """
    own = factory.getbasetemp()
    root = (own.parent if own.name.startswith("popen-") else own) / "shared"  # so xdist names the folder of a worker
    root.mkdir(exist_ok=True)
    folder, kept = root / name, root / f"{name}.txt"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a worker that is killed lets go of it
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)  # half of it, where making it failed
            folder.mkdir()
            text = make(folder)
            written = kept.with_suffix(".part")
            written.write_text(text)
            written.rename(kept)  # whole, or not there: a worker may be killed
    return folder, kept.read_text()


class DemoRun(NamedTuple):
    """A finished demo: its folder, and what it printed on standard output."""

    folder: Path
    printed: str


def finish_demo(folder: Path) -> str:
    """Run `seawall demo --dir demo` in a folder; return what it printed."""
    done = seawall("demo", "--dir", "demo", cwd=folder, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
