"""Limit documents and key sets as files: read whole, checked, written whole or not at all.

A document is one DSSE envelope in a file of its own; a folder of them is read in order of version. A file that ends in
``.proposal.json`` waits for a checker and is not read by runs. A key set file holds one envelope per line, the first
one pinned by the SHA-256 of its payload in the configuration, each next one signed by the holders of the one before.
"""

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from seawall.connectors.key_sets import envelopes
from seawall.connectors.whole_files import write_whole
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError, VerificationError
from seawall.schemas.evidence.keyset import KeySet
from seawall.schemas.evidence.rotation import open_pinned, rotate
from seawall.schemas.evidence.strict import Malformed
from seawall.schemas.limit_documents import LimitDocument, document_of

ENVELOPE_BYTES_MAX = 256 * 1024
PROPOSAL = ".proposal.json"
FOLDER = "limits"


class Stored(NamedTuple):
    """A document where it lies."""

    path: Path
    envelope: dict[str, Any]
    document: LimitDocument
    keys: list[str]


def read_document(path: Path) -> Stored:
    """Return the document in a file; raise UsageError naming the file and what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a limit document") from error
    try:
        if len(content) > ENVELOPE_BYTES_MAX:
            raise Malformed(f"it has {len(content)} bytes, at most {ENVELOPE_BYTES_MAX}")
        envelope = orjson.loads(content)
        if not isinstance(envelope, dict):
            raise Malformed("it is no JSON object")
        return Stored(path, envelope, *document_of(envelope))
    except (orjson.JSONDecodeError, Malformed) as error:
        raise UsageError(f"{path} is no limit document ({error}); make one with: seawall limits propose") from error


def documents_folder(configuration: Configuration) -> Path:
    """Return where documents are proposed: the first folder among those configured, else ``limits`` beside it."""
    folders = [path for path in configuration.limit_documents if not path.suffix]
    return folders[0] if folders else configuration.directory / FOLDER


def read_documents(configuration: Configuration) -> list[Stored]:
    """Return the documents that a configuration names, in order of version."""
    found: list[Path] = []
    for path in configuration.limit_documents:
        if path.suffix:
            found.append(path)
        elif path.is_dir():
            found += [file for file in sorted(path.glob("*.json")) if not file.name.endswith(PROPOSAL)]
    return sorted((read_document(path) for path in found), key=lambda stored: stored.document.version)


def read_proposals(configuration: Configuration) -> list[Stored]:
    """Return the documents that wait for a checker."""
    folder = documents_folder(configuration)
    return [read_document(path) for path in sorted(folder.glob(f"*{PROPOSAL}"))] if folder.is_dir() else []


def write_document(path: Path, envelope: dict[str, Any]) -> None:
    """Write an envelope, whole or not at all."""
    write_whole([(path, orjson.dumps(envelope, option=orjson.OPT_INDENT_2) + b"\n")])


def read_key_sets(configuration: Configuration) -> list[KeySet]:
    """Return the key sets of a configuration, from the pinned one to the last; none where none is configured.

    Raises
    ------
    UsageError
        The file cannot be read.
    VerificationError
        A key set does not follow from the one before it.
    """
    if configuration.key_set is None:
        return []
    listed = envelopes(configuration.key_set)
    try:
        found = [open_pinned(listed[0], configuration.key_set_sha256)]
        for envelope in listed[1:]:
            found.append(rotate(found[-1], envelope))
    except VerificationError as error:
        raise VerificationError(f"{configuration.key_set}: {error}") from error
    last = found[-1].document
    if last.environment != configuration.environment:
        raise UsageError(
            f"{configuration.key_set} is for {last.environment}, {configuration.path.name} for "
            f"{configuration.environment}; environments never mix"
        )
    return found
