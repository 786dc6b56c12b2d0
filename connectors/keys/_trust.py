"""Trust: the key sets and limit documents of a run as files, and which public keys its verifiers accept.

A key set file holds one envelope per line, or a folder holds ``0001.json``, ``0002.json``, … The first set is pinned by
its hash in the configuration (``[keys] set`` and ``set_sha256``); each next one must follow from the one before by the
root owners' signatures. Without a key set, in ``dev`` and ``test``, the plain JWKS beside the signers' keys counts, for
which nobody vouches. A revoked key's signatures stay good up to the log positions that its revocation names.

A limit document is one DSSE envelope in a file of its own; a folder of them is read in order of version. A file that
ends in ``.proposal.json`` waits for a checker and is not read by runs. Files are read whole, checked, and written whole
or not at all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from seawall.connectors.files import write_atomically
from seawall.connectors.keys import _key_files
from seawall.schemas import evidence
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError, VerificationError
from seawall.schemas.evidence import DOCUMENTS, KeySet, LimitDocument, Malformed

# Key sets as files: a folder with ``0001.json``, ``0002.json``, …, or one file with an envelope per line.

KEY_SET_FILE_BYTES_MAX = 16 * 1024 * 1024  # of a file with all versions
KEY_SET_FILE_NAME = re.compile(r"[0-9]{4}\.json")


def key_set_files(folder: Path) -> list[Path]:
    """Return the files of the key sets in a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if KEY_SET_FILE_NAME.fullmatch(path.name))


def read_key_set_envelopes(path: Path) -> list[bytes]:
    """Return the envelopes of all key sets at a path, in order; `UsageError` where there are none."""
    try:
        found = [_bounded(file) for file in key_set_files(path)] if path.is_dir() else _of_file(_bounded(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a key set's file or folder") from error
    found = [envelope for envelope in found if envelope.strip()]
    if not found:
        raise UsageError(f"{path} holds no key set; make one with: seawall keys propose {path}")
    return found


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(KEY_SET_FILE_BYTES_MAX + 1)
    if len(content) > KEY_SET_FILE_BYTES_MAX:
        raise UsageError(
            f"{path} has more than {KEY_SET_FILE_BYTES_MAX} bytes, and no key set does; name a key set's file"
        )
    return content


def _of_file(content: bytes) -> list[bytes]:
    """Return the one envelope of a file, or those of its lines."""
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.splitlines()
    return [content]


# Limit documents and key sets as files: read whole, checked, written whole or not at all.

ENVELOPE_BYTES_MAX = 256 * 1024
PROPOSAL_SUFFIX = ".proposal.json"
LIMITS_FOLDER = "limits"


class StoredDocument(NamedTuple):
    """A document where it lies."""

    path: Path
    envelope: dict[str, Any]
    document: LimitDocument
    keys: list[str]

    @classmethod
    def read(cls, path: Path) -> Self:
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
            return cls(path, envelope, *LimitDocument.of_envelope(envelope))
        except (orjson.JSONDecodeError, Malformed) as error:
            raise UsageError(f"{path} is no limit document ({error}); make one with: seawall limits propose") from error

    @classmethod
    def read_all(cls, configuration: Configuration) -> list[Self]:
        """Return the documents that a configuration names, in order of version."""
        found: list[Path] = []
        for path in configuration.limit_documents:
            if path.suffix:
                found.append(path)
            elif path.is_dir():
                found += [file for file in sorted(path.glob("*.json")) if not file.name.endswith(PROPOSAL_SUFFIX)]
        return sorted((cls.read(path) for path in found), key=lambda stored: stored.document.version)

    @classmethod
    def read_proposals(cls, configuration: Configuration) -> list[Self]:
        """Return the documents that wait for a checker."""
        folder = limit_documents_folder(configuration)
        return [cls.read(path) for path in sorted(folder.glob(f"*{PROPOSAL_SUFFIX}"))] if folder.is_dir() else []


def limit_documents_folder(configuration: Configuration) -> Path:
    """Return where documents are proposed: the first folder among those configured, else ``limits`` beside it."""
    folders = [path for path in configuration.limit_documents if not path.suffix]
    return folders[0] if folders else configuration.directory / LIMITS_FOLDER


def write_limit_document(path: Path, envelope: dict[str, Any]) -> None:
    """Write an envelope, whole or not at all."""
    write_atomically([(path, orjson.dumps(envelope, option=orjson.OPT_INDENT_2) + b"\n")])


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
    listed = read_key_set_envelopes(configuration.key_set)
    try:
        found = [KeySet.open_pinned(listed[0], configuration.key_set_sha256)]
        for envelope in listed[1:]:
            found.append(found[-1].rotate(envelope))
    except VerificationError as error:
        raise VerificationError(f"{configuration.key_set}: {error}") from error
    last = found[-1].document
    if last.environment != configuration.environment:
        raise UsageError(
            f"{configuration.key_set} is for {last.environment}, {configuration.path.name} for "
            f"{configuration.environment}; environments never mix"
        )
    return found


# Trust: which public keys a run's verifiers accept, and for what.
#
# With ``[keys] set`` and ``set_sha256`` the answer is the newest key set there: the first must have the pinned hash,
# each further one must follow from the one before by the root owners' signatures. Without, in ``dev`` and ``test``, it
# is the plain JWKS beside the signers' keys, for which nobody vouches.


@dataclass(frozen=True)
class Trust:
    """Keys and revocations that a verifier trusts.

    Attributes
    ----------
    issuers
        Keys whose signatures on commands and state documents count, by id.
    sealers
        Public keys of the sealers, as JWKs; those of revoked ones too, for what they sealed before.
    revoked
        Per revoked key, how many records of each log its signatures still count for; none of a log that is not named.
    key_set
        The key set behind this; None where keys are plain files.
    """

    issuers: Mapping[str, evidence.PublicKey]
    sealers: list[dict[str, str]]
    revoked: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    key_set: KeySet | None = None

    def covers(self, kid: str, origin: str, leaf: int) -> bool:
        """Return whether what a key signed counts at a leaf of a log."""
        return kid not in self.revoked or leaf < self.revoked[kid].get(origin, 0)

    def knows(self, kid: str) -> bool:
        """Return whether a key is an issuer's, or stands in the key set for any other role."""
        return kid in self.issuers or (self.key_set is not None and kid in self.key_set.by_kid)

    def counts(self, envelope: str, origin: str, leaf: int) -> bool:
        """Return False where all issuers' keys that signed an envelope were revoked before this leaf of a log."""
        known = [kid for kid in evidence.envelope_key_ids(envelope) if kid in self.issuers]
        return not known or any(self.covers(kid, origin, leaf) for kid in known)

    @classmethod
    def load(cls, configuration: Configuration) -> "Trust":
        """Return the trust that a configuration names.

        Raises
        ------
        UsageError
            There are no public keys, or the key set is not the pinned one.
        VerificationError
            A key set does not follow from the one before it.
        """
        if configuration.key_set is not None:
            return trust_from_key_set(read_key_sets(configuration)[-1])
        base = configuration.directory
        issuers = _key_files.public_path(configuration.signer, base)
        sealers = _key_files.public_path(configuration.sealer, base, _key_files.SEALER_KEYS_FILE)
        own = _key_files.key_path(configuration.signer, base) or issuers
        listed = _key_files.public_jwks(sealers, _key_files.SEALER_KEYS_FILE)["keys"] if sealers.exists() else []
        return cls(evidence.public_keys(_key_files.public_jwks(own)), listed)


def trust_from_key_set(key_set: KeySet) -> Trust:
    """Return the trust that a key set gives."""
    listed = key_set.document.keys
    issuers = [key for key in listed if "issuer" in key.roles and set(key.types) & set(DOCUMENTS)]
    sealers = [key for key in listed if "sealer" in key.roles]
    revoked = {
        key.kid: {p.origin: p.size for p in key.revoked_after or ()} for key in listed if key.status == "revoked"
    }
    return Trust(
        evidence.public_keys({"keys": [key.jwk() for key in issuers]}),
        [key.jwk() for key in sealers],
        revoked,
        key_set,
    )
