"""``seawall doctor``: what a run needs, checked before it is needed."""

import os
import platform
import shutil
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from seawall.schemas.configuration import Configuration
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
    folder = Path.cwd() if where is None else where if where.is_dir() else where.absolute().parent
    folder = folder if folder.is_dir() else Path.cwd()  # of a WHERE that does not exist, which is told below
    free = shutil.disk_usage(folder).free
    checks.append(Check("disk", free >= DISK_MIN, f"{free / (1 << 30):.1f} GiB free in {folder}"))
    return checks + ([] if where is None else _configured(where))


def _package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "not installed; install bytewax-seawall again")


def _key(name: str, configuration: Configuration, reference: str) -> Check:
    """Check a private key; a sealer's is elsewhere where another host seals."""
    from seawall.connectors.keys import FileSigner, key_path

    key = key_path(reference, configuration.directory)
    try:
        if key is None:
            return Check(name, True, reference)
        if not key.exists() and configuration.environment == "dev":
            return Check(name, True, "made at the first run (dev)")
        if not key.exists() and name == "sealer":
            return Check(name, True, f"{key} is not here: the host that seals needs it")
        return Check(name, True, FileSigner(key).keyid)
    except (SeawallError, OSError) as error:
        return Check(name, False, str(error))


def _configured(where: Path) -> list[Check]:
    from seawall.connectors.bus import open_bus
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
    keys = (("key", configuration.signer), ("sealer", configuration.sealer))
    checks += [_key(name, configuration, reference) for name, reference in keys]
    if (configuration.directory / configuration.bus.partition(":")[2]).exists():
        try:
            topics = open_bus(configuration.bus, configuration.directory).topics()
            checks.append(Check("bus", True, f"{configuration.bus} with {len(topics)} topics"))
        except SeawallError as error:
            checks.append(Check("bus", False, str(error)))
    for name, again in (("recovery", "the journal replayed"), ("recovery-market", "the inputs are read again")):
        store = configuration.directory / name
        if store.exists():
            try:
                detail = "sound" if is_sound(store) else f"unsound: it is set aside and {again} at the next run"
                checks.append(Check(name, True, detail))
            except (SeawallError, OSError) as error:
                checks.append(Check(name, False, str(error)))
    return checks
