"""What a run needs before its dataflows start: a bus with its topics, keys that may sign, stores of that bus."""

import logging
import time
from collections.abc import Collection
from pathlib import Path

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.keys import PUBLIC, SEALERS, key_path, new_key
from seawall.connectors.limit_documents import read_key_sets
from seawall.connectors.recovery import set_aside
from seawall.connectors.replica import Replica
from seawall.connectors.signers import check_signer, open_signer
from seawall.connectors.topics import topic_partitions
from seawall.connectors.whole_files import write_whole
from seawall.dataflows.joins import check_journal
from seawall.ops.migration_mark import check_mark
from seawall.schemas.configuration import RUN_FILE, Configuration
from seawall.schemas.dsse import Signer
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence.keyset import Role

log = logging.getLogger("seawall")
RECOVERY = "recovery"
MARKET_RECOVERY = "recovery-market"
SEAL_RECOVERY = "recovery-seal"
DAY_US = 86_400_000_000
WARN_DAYS = 14
STARTED_S = 5.0  # until a broker knows its topics again


def prepare(configuration: Configuration, dataflows: Collection[str] = ("risk", "seal")) -> Bus:
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
    check_mark(configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    bus.provide(topic_partitions(configuration), make=configuration.environment == "dev")
    check_journal(bus, configuration)
    if configuration.environment == "prod" and configuration.key_set is None:
        raise UsageError("keys of prod are vouched for: set [keys] set and set_sha256; see seawall keys propose --help")
    signers: list[tuple[Signer | None, Role]] = [
        (_prepare_key(configuration, configuration.signer, PUBLIC, bool(bus.topics()), "risk" in dataflows), "issuer"),
        (
            _prepare_key(
                configuration, configuration.sealer, SEALERS, bool(bus.partitions("checkpoints")), "seal" in dataflows
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


def store_of(configuration: Configuration, replica: Replica | None, name: str = RECOVERY) -> Path:
    """Return a recovery store, that of ``risk`` or of a given name; each replica has its own."""
    return configuration.directory / (name if replica is None else f"{name}-{replica.name}")


def set_stores_aside(configuration: Configuration, bus: Bus, replica: Replica | None) -> None:
    """Set recovery stores aside where the bus is new: they are of another one."""
    for recovery in (store_of(configuration, replica), configuration.directory / MARKET_RECOVERY):
        if recovery.exists() and _is_new(bus):
            log.warning("the bus is new: the recovery store of another one is kept as %s", set_aside(recovery).name)


def _is_new(bus: Bus) -> bool:
    """Tell whether a bus holds nothing; a broker that has just been started again may say so for a moment."""
    deadline = time.monotonic() + (STARTED_S if bus.fences else 0.0)
    while not bus.topics():
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.2)
    return False


def save_configuration(configuration: Configuration) -> None:
    """Keep the configuration as ``run.toml``, whole or not at all, once the journal goes with it."""
    saved = configuration.directory / RUN_FILE
    if configuration.path != saved:
        write_whole([(saved, configuration.path.read_bytes())])
