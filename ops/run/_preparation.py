"""Preparation of a run: makes or checks its topics, keys and recovery stores; ``doctor`` checks the host too."""

import logging
import os
import platform
import shutil
import sqlite3
import sys
import time
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from seawall.connectors.bus import Bus, Replica, cluster_of, open_bus, topic_partitions
from seawall.connectors.files import write_atomically
from seawall.connectors.keys import (
    PUBLIC_KEYS_FILE,
    SEALER_KEYS_FILE,
    FileSigner,
    check_signer,
    key_path,
    new_key,
    open_signer,
    read_key_sets,
)
from seawall.dataflows import check_journal
from seawall.ops.replicate import check_migration_mark
from seawall.ops.run._recovery import is_recovery_sound, set_recovery_aside
from seawall.schemas.configuration import RUN_FILE, Configuration
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import SeawallError, UsageError
from seawall.schemas.evidence import Role, Signer

# What a run needs before its dataflows start: a bus with its topics, keys that may sign, stores of that bus.

log = logging.getLogger("seawall")
RECOVERY = "recovery"
MARKET_RECOVERY = "recovery-market"
SEAL_RECOVERY = "recovery-seal"
LOCAL_RECOVERY = "recovery-local"  # of ``risk`` without an engine
DAY_US = 86_400_000_000
WARN_DAYS = 14
STARTED_S = 5.0  # until a broker knows its topics again


def prepare_run(configuration: Configuration, dataflows: Collection[str] = ("risk", "seal")) -> Bus:
    """Make what a first run needs: in ``dev`` the topics of a cluster and the key; return the bus.

    Parameters
    ----------
    configuration
        Of the run.
    dataflows
        What this process runs: a key is wanted where it signs, the signer's by ``risk``, the sealer's by ``seal``.

    Raises
    ------
    UsageError
        There is no key, and none may be made here: not ``dev``, or the topics have records already. Or a cluster has
        no such topics, or with other partitions. Or the journal was begun with another configuration.
    """
    check_migration_mark(configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    cluster_of(bus).provide(topic_partitions(configuration), make=configuration.environment == "dev")
    check_journal(bus, configuration)
    if configuration.environment == "prod" and configuration.key_set is None:
        raise UsageError("keys of prod are vouched for: set [keys] set and set_sha256; see seawall keys propose --help")
    signers: list[tuple[Signer | None, Role]] = [
        (
            _prepare_key(
                configuration, configuration.signer, PUBLIC_KEYS_FILE, bool(bus.topics()), "risk" in dataflows
            ),
            "issuer",
        ),
        (
            _prepare_key(
                configuration,
                configuration.sealer,
                SEALER_KEYS_FILE,
                bool(bus.partitions("checkpoints")),
                "seal" in dataflows,
            ),
            "sealer",
        ),
    ]
    if configuration.key_set is not None:
        key_set, now_us = read_key_sets(configuration)[-1], time.time_ns() // 1000
        for signer, role in signers:
            if signer is not None:
                check_signer(signer, key_set, configuration.environment, now_us, role)
        days = (key_set.document.exp_us - now_us) // DAY_US
        if days < WARN_DAYS:
            log.warning("key set version %d expires in %d days; publish the next one", key_set.version, days)
    return bus


def _prepare_key(configuration: Configuration, signer: str, public: str, used: bool, signs: bool) -> Signer | None:
    """Open a signer once, to refuse early; make the key of a first development run.

    None where this process does not sign with it and need not make it.
    """
    key = key_path(signer, configuration.directory)
    if not signs and (configuration.environment != "dev" or used or key is None):
        return None
    if key is not None and not key.exists() and not key.is_symlink():
        if configuration.environment != "dev":
            raise UsageError(f"the key {key} does not exist; keys of {configuration.environment} are never made here")
        if used:
            raise UsageError(f"the key {key} does not exist, but its run has records; bring the key back")
        new_key(key, public)
    return open_signer(signer, configuration.directory, public)


def recovery_store(configuration: Configuration, replica: Replica | None, name: str = RECOVERY) -> Path:
    """Return a recovery store, that of ``risk`` or of a given name; each replica has its own."""
    return configuration.directory / (name if replica is None else f"{name}-{replica.name}")


def local_store(configuration: Configuration) -> Path:
    """Return the folder in which ``risk`` keeps its states without an engine."""
    return configuration.directory / LOCAL_RECOVERY


def set_stores_aside(configuration: Configuration, bus: Bus, replica: Replica | None) -> None:
    """Set recovery stores aside where the bus is new: they are of another one."""
    market = configuration.directory / MARKET_RECOVERY
    for recovery in (recovery_store(configuration, replica), market, local_store(configuration)):
        if recovery.exists() and _is_new(bus):
            log.warning(
                "the bus is new: the recovery store of another one is kept as %s", set_recovery_aside(recovery).name
            )


def _is_new(bus: Bus) -> bool:
    """Tell whether a bus holds nothing; a broker that has just been started again may say so for a moment."""
    deadline = time.monotonic() + (STARTED_S if cluster_of(bus).fences else 0.0)
    while not bus.topics():
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.2)
    return False


def save_configuration(configuration: Configuration) -> None:
    """Keep the configuration as ``run.toml``, whole or not at all, once the journal goes with it."""
    saved = configuration.directory / RUN_FILE
    if configuration.path != saved:
        write_atomically([(saved, configuration.path.read_bytes())])


# ``seawall doctor``: what a run needs, checked before it is needed.

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
                detail = (
                    "sound" if is_recovery_sound(store) else f"unsound: it is set aside and {again} at the next run"
                )
                checks.append(Check(name, True, detail))
            except (SeawallError, OSError) as error:
                checks.append(Check(name, False, str(error)))
    return checks
