"""Stores that earlier programs wrote (``tests/fixtures/stores``), and the program that made them."""

import importlib.util
import json
import tarfile
from pathlib import Path
from typing import Any

from seawall_testing.paths import FIXTURES

STORES = FIXTURES / "stores"

_spec = importlib.util.spec_from_file_location("make_store", STORES / "make.py")
assert _spec is not None and _spec.loader is not None
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


def unpacked(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the run folder of a store, and what the program that wrote it made of the whole."""
    with tarfile.open(STORES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "half", json.loads((folder / "whole.json").read_text())


def extend(run: Path, coins: bool = False) -> None:
    """Give a run the rest of its inputs."""
    (run / "events.jsonl").write_text("".join(make.events(coins)))
