"""``seawall doctor``: what a run needs, checked before it is needed."""

import os
import platform
import shutil
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from seawall.schemas.errors import SeawallError

PACKAGES = ("bytewax", "confluent-kafka", "river", "numpy", "orjson", "msgspec", "cryptography")
DISK_MIN = 1 << 30


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    good: bool
    detail: str


def examine(where: Path | None) -> list[Check]:
    """Check the machine and, with ``where``, a configuration; nothing is changed."""
    fitting = (3, 11) <= sys.version_info[:2] <= (3, 12)
    checks = [Check("python", fitting, f"{platform.python_version()} (3.11 or 3.12 needed)")]
    checks += [_package(name) for name in PACKAGES]
    checks.append(Check("sqlite", sqlite3.sqlite_version_info >= (3, 35), sqlite3.sqlite_version))
    folder = where if where is not None and where.is_dir() else Path.cwd()
    free = shutil.disk_usage(folder).free
    checks.append(Check("disk", free >= DISK_MIN, f"{free / (1 << 30):.1f} GiB free in {folder}"))
    return checks + ([] if where is None else _configured(where))


def _package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "not installed; install bytewax-seawall again")


def _configured(where: Path) -> list[Check]:
    from seawall.connectors.bus import open_bus
    from seawall.connectors.keys import FileSigner, key_path
    from seawall.connectors.recovery import is_sound
    from seawall.schemas.configuration import where as find

    try:
        configuration = find(where)
    except SeawallError as error:
        return [Check("configuration", False, str(error))]
    checks = [Check("configuration", True, str(configuration.path))]
    for name in configuration.events:
        path = configuration.directory / name
        checks.append(Check(f"input {name}", path.is_file() and os.access(path, os.R_OK), "a readable file is needed"))
    key = key_path(configuration.signer, configuration.directory)
    try:
        if key is not None and (key.exists() or configuration.environment != "dev"):
            checks.append(Check("key", True, FileSigner(key).keyid))
        else:
            checks.append(Check("key", True, "made at the first run (dev)"))
    except SeawallError as error:
        checks.append(Check("key", False, str(error)))
    if (configuration.directory / configuration.bus.partition(":")[2]).exists():
        try:
            topics = open_bus(configuration.bus, configuration.directory).topics()
            checks.append(Check("bus", True, f"{configuration.bus} with {len(topics)} topics"))
        except SeawallError as error:
            checks.append(Check("bus", False, str(error)))
    for name, again in (("recovery", "the journal replayed"), ("recovery-market", "the inputs are read again")):
        store = configuration.directory / name
        if store.exists():
            detail = "sound" if is_sound(store) else f"unsound: it is set aside and {again} at the next run"
            checks.append(Check(name, True, detail))
    return checks
