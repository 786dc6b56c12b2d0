"""Backup and restore, ``seawall backup`` and ``seawall restore``: everything that a journal needs to go on elsewhere.

1. A backup may be made while dataflows run. Topics are prefixes: first what was derived, each partition at one moment
   of its audit; then journal and rejects at one moment, which are then at least as new; then what the journal takes in.
2. Each backup adds what came since the one before; the first takes all.
3. The configuration and the files in its folder that it names come along, public keys too; secrets never do.
4. A restore writes into an empty folder and an empty bus, compares every record, and leaves the journal to be replayed:
   recovery stores and tiles come of it.
"""

import hashlib
import itertools
import os
import re
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from seawall.connectors.bus import DERIVED, BackupBus, BackupStore, Bus, lock_backup, open_bus
from seawall.connectors.keys import limit_documents_folder
from seawall.ops.replicate._copy import CopyTerms, Progress, TopicPartition, copy
from seawall.ops.replicate._migration import prepare_target
from seawall.schemas.configuration import RUN_FILE, Configuration, load_configuration
from seawall.schemas.errors import BackupError, BusError, Divergence, UsageError

PEM, JWK, JWK_PRIVATE = b"PRIVATE KEY", b'"kty"', re.compile(rb'"d"\s*:')
NAMED_SECRET = re.compile(r"\bfile:([^?;&]+)")  # passwords, PINs and private keys
EXPIRED = "back up to a new folder, and more often than records expire"
STEADY_TRIES = 200


class BackupResult(NamedTuple):
    """What a backup added: its number, records by topic, files, and the files that it left out and why."""

    number: int
    records: dict[str, int]
    files: int
    left_out: list[str]


def back_up(configuration: Configuration, folder: Path, seen: Progress = lambda count: None) -> BackupResult:
    """Add to a backup what came since it was last made.

    Parameters
    ----------
    configuration
        Of the run, which may be at work.
    folder
        Where the objects go; made where it does not exist.
    seen
        Is told of every segment, in records.

    Raises
    ------
    BackupError
        The folder's backup is broken, or of another journal.
    Gap
        Retention took records before they were backed up.
    """
    lock = lock_backup(folder)
    bus = open_bus(configuration.bus, configuration.directory)
    try:
        backup = BackupBus(folder, adding=True)
        files, left_out = files_of(configuration)
        ends = backup_ends(bus, configuration)
        terms = CopyTerms(1, f"{folder} is of another journal; choose an empty folder", EXPIRED)
        try:
            copied = copy(bus, backup, ends, terms, seen)
        except Divergence as error:
            raise BackupError(str(error)) from error
        store = backup.store
        named = {name: store.put(f"files/{hashlib.sha256(data).hexdigest()}", data) for name, data in files.items()}
        manifest = store.add(
            {
                "made_us": time.time_ns() // 1000,
                "configuration": configuration.path.name,
                "ends": [[*place, end] for place, end in ends.items()],
                "segments": [list(segment) for segment in backup.added],
                "files": named,
            }
        )
    finally:
        bus.close()
        os.close(lock)
    return BackupResult(manifest["number"], dict(copied), len(files), left_out)


def backup_ends(bus: Bus, configuration: Configuration) -> dict[TopicPartition, int]:
    """Return up to where a backup made now takes each partition, in the order of the module's text."""
    ends: dict[TopicPartition, int] = {}
    known = {topic: bus.partitions(topic) for topic in (*DERIVED, "checkpoints")}
    shards = configuration.shards
    for partition in sorted(set(itertools.chain(*known.values()))):
        topics = [topic for topic in known if partition in known[topic] and (topic, partition) != ("rejects", shards)]
        ends |= _steady(bus, [(topic, partition) for topic in topics], [("audit", partition)])
    cut = [("journal", shard) for shard in bus.partitions("journal")]
    ends |= _steady(bus, [*cut, ("rejects", shards)], [*cut, ("rejects", shards)])
    for topic in ("signals", "acknowledgements", "redrive", *configuration.topics):
        ends |= {(topic, partition): bus.end(topic, partition) for partition in bus.partitions(topic)}
    return ends


def _steady(bus: Bus, places: list[TopicPartition], watched: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the ends of partitions at one moment: between two transactions, as the ends of ``watched`` tell."""
    for _ in range(STEADY_TRIES):
        before = [bus.end(*place) for place in watched]
        ends = {place: bus.end(*place) for place in places}
        if [bus.end(*place) for place in watched] == before:
            return ends
    raise BusError(
        f"{watched[0][0]}/{watched[0][1]} is written too fast to be backed up; try again in a quieter moment"
    )


# --- files ------------------------------------------------------------------------------------------------------------


def files_of(configuration: Configuration) -> tuple[dict[str, bytes], list[str]]:
    """Return the files of a configuration by their name in its folder, and what was left out."""
    folder, found, left_out = configuration.directory.resolve(), dict[str, bytes](), list[str]()
    texts = _texts(tomllib.loads(configuration.path.read_text()))
    secrets = {(folder / name).resolve() for text in texts for name in NAMED_SECRET.findall(text)}
    for path in sorted(set(_named(configuration))):
        if not path.resolve().is_relative_to(folder):
            left_out.append(f"{path}: outside of {folder}")
            continue
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file():
                continue
            data = file.read_bytes()
            if file.resolve() in secrets or PEM in data or (JWK in data and JWK_PRIVATE.search(data)):
                left_out.append(f"{file}: a secret")
            else:
                found[file.resolve().relative_to(folder).as_posix()] = data
    return found, left_out


def _named(configuration: Configuration) -> Iterator[Path]:
    """Yield the configuration itself, files and folders that any of its values names, and public keys."""
    base = configuration.directory
    yield configuration.path
    if (base / RUN_FILE).exists():
        yield base / RUN_FILE
    for text in _texts(tomllib.loads(configuration.path.read_text())):
        if text and "\0" not in text and len(text) < 1000 and text not in (".", "./") and (base / text).exists():
            yield base / text
    if (documents := limit_documents_folder(configuration)).is_dir():
        yield documents
    yield from (base / "keys").glob("*.json")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


# --- restore ----------------------------------------------------------------------------------------------------------


def restore(folder: Path, target: Path, bus_url: str = "", seen: Progress = lambda count: None) -> Configuration:
    """Bring a backup back into an empty folder and an empty bus; return the configuration there.

    Parameters
    ----------
    folder
        What `seawall backup` has written.
    target
        The folder of the new run: empty, or not there.
    bus_url
        Another bus than the configuration names.
    seen
        Is told of every batch that was written or compared, in records.

    Raises
    ------
    UsageError
        The folder is not empty.
    BackupError
        An object is missing or changed.
    Divergence
        The bus holds other records.
    """
    if target.exists() and any(target.iterdir()):
        text = f"{target} is not empty; a backup is restored into a folder of its own"
        raise UsageError(f"{text}: choose another, or remove what an interrupted restore left there")
    backup = BackupBus(folder)
    store = backup.store
    last = store.manifests[-1]
    _write_files(store, last["files"], target)
    path = target / last["configuration"]
    if bus_url:
        _set_bus(path, bus_url)
        if (target / RUN_FILE).exists():
            _set_bus(target / RUN_FILE, bus_url)
    configuration = load_configuration(path)
    ends = {place: end for place, end in store.ends.items() if end}
    ends = dict(sorted(ends.items(), key=lambda one: (one[0][0] == "journal", one[0])))
    with closing(open_bus(configuration.bus, configuration.directory)) as there:
        prepare_target(there, ends, configuration)
        copy(backup, there, ends, CopyTerms(), seen, read_back=True)
    return configuration


def _write_files(store: BackupStore, files: dict[str, str], target: Path) -> None:
    for name, sha256 in files.items():
        data = store.get(f"files/{sha256}", sha256)
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BackupError(f"the manifest names the file {name!r}, outside of the folder; it was changed")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)


def _set_bus(path: Path, url: str) -> None:
    """Name another bus in a configuration, above its first table."""
    lines = path.read_text().splitlines()
    tables = next((at for at, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    top = [line for line in lines[:tables] if line.partition("=")[0].strip() != "bus"]
    path.write_text("\n".join([f'bus = "{url}"', *top, *lines[tables:]]) + "\n")
