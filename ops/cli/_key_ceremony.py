"""Key ceremony: make a key set, collect its signatures, and replace the one before.

Order of a rotation (Tink's): announce the new issuer ``verify-only`` and publish; when every subscriber has taken that
version, make it ``active`` and the old one ``verify-only`` and publish; then switch ``[keys] signer``. After a theft:
revoke the key at the sealed sizes of its logs, raise the issuer's ``epoch_floor`` and the run's ``epoch``.

A proposal is one file, ``proposal.json``: the exact bytes of the next key set and the signatures so far. It becomes
``000N.json`` when TUF's rule holds: signed by the root threshold of the present set and of its own (`rotation`).
"""

import base64
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from seawall.connectors.files import write_atomically
from seawall.connectors.keys import key_set_files
from seawall.schemas import evidence
from seawall.schemas.errors import UsageError, VerificationError
from seawall.schemas.evidence import (
    COMMAND,
    DOCUMENTS,
    KEY_SET_TYPE,
    KeySet,
    Malformed,
    Signature,
    owners_signing,
    parse_envelope,
)

PROPOSAL = "proposal.json"
DAY_US = 86_400_000_000
DAYS = 365
PEOPLE = ("maker", "checker", "root")
DECIDED = (COMMAND, evidence.LIMIT_DOCUMENT_TYPE)  # what people sign: commands that loosen, limit documents
ROLES = ("issuer", "sealer", "witness", *PEOPLE)


@dataclass
class Draft:
    """The next key set while it is being written.

    Parameters
    ----------
    document
        The document as plain values; of a first one, with no keys.
    from_us, to_us
        The validity of the keys that are added.
    """

    document: dict[str, Any]
    from_us: int
    to_us: int

    def add(self, jwk: dict[str, str], owner: str, roles: list[str]) -> None:
        """Take a key in; an issuer that joins others only verifies until it is activated."""
        for role in roles:
            if role not in ROLES:
                raise UsageError(f"there is no role {role!r}; choose from {', '.join(ROLES)}")
        announced = "issuer" in roles and any("issuer" in key["roles"] for key in self.document["keys"])
        members: dict[str, Any] = {name: jwk[name] for name in ("kty", "crv", "x", "y", "alg", "kid") if name in jwk}
        types = [*(DOCUMENTS if "issuer" in roles else ()), *(DECIDED if set(roles) & {"maker", "checker"} else ())]
        window = {"nbf_us": self.from_us, "exp_us": self.to_us}
        status = "verify-only" if announced else "active"
        entry: dict[str, Any] = {
            **members,
            "use": "sig",
            "owner": owner,
            "roles": roles,
            "types": types,
            "status": status,
            **window,
        }
        self.document["keys"].append(entry)

    def set_status(self, kid: str, status: str) -> None:
        """Change what may be done with a key; of issuers that become active, the others only verify from then on."""
        entry = self._entry(kid)
        entry["status"] = status
        for other in self.document["keys"] if status == "active" and "issuer" in entry["roles"] else ():
            if other is not entry and "issuer" in other["roles"] and other["status"] == "active":
                other["status"] = "verify-only"

    def revoke(self, kid: str, sizes: dict[str, int]) -> None:
        """Revoke a key at positions of logs; what it signed elsewhere, or later, counts no more."""
        after = [{"origin": origin, "size": size} for origin, size in sorted(sizes.items())]
        self._entry(kid).update({"status": "revoked", "revoked_after": after})

    def remove(self, kid: str) -> None:
        """Drop a key: nothing that it ever signed verifies any more."""
        self.document["keys"].remove(self._entry(kid))

    def encode(self) -> bytes:
        """Return the bytes to sign; `UsageError` where they are no key set."""
        value = orjson.dumps(self.document, option=orjson.OPT_INDENT_2)
        try:
            KeySet.parse(value)
        except Malformed as error:
            raise UsageError(f"this would be no key set: {error}") from error
        return value

    def _entry(self, prefix: str) -> dict[str, Any]:
        found = [key for key in self.document["keys"] if key["kid"].startswith(prefix)]
        if len(found) != 1:
            raise UsageError(
                f"{len(found)} keys begin with {prefix!r}; give the whole id, as seawall keys show prints it"
            )
        entry: dict[str, Any] = found[0]
        return entry


def latest(folder: Path) -> KeySet | None:
    """Return the newest key set of a folder, None before the first; its own chain of signatures is verified."""
    current: KeySet | None = None
    for file in key_set_files(folder):
        envelope = file.read_bytes()
        current = (
            KeySet.open_pinned(envelope, _payload(envelope).sha256) if current is None else current.rotate(envelope)
        )
    return current


def begin(folder: Path, environment: str, now_us: int, days: int = DAYS) -> Draft:
    """Return a draft of the version after the newest one; of a folder without any, of the first.

    Raises
    ------
    UsageError
        The folder holds no key set, or does not exist, and no environment is given to begin one for.
    """
    current = latest(folder)
    if current is None:
        if not environment:
            raise UsageError(_nothing(folder, "key set"))
        document: dict[str, Any] = {"v": 1, "version": 1, "prev_sha256": None, "environment": environment, "keys": []}
        document |= {"thresholds": {"root": 2, "permissive": 2}, "epoch_floor": {}, "reset_seq": {}}
    else:
        document = json.loads(current_value(folder))
        document |= {"version": current.version + 1, "prev_sha256": current.sha256}
    to_us = now_us + days * DAY_US
    return Draft({**document, "iat_us": now_us, "exp_us": to_us}, now_us, to_us)


def propose(folder: Path, draft: Draft) -> bytes:
    """Write a draft as the proposal, unsigned, in place of any other; return its bytes."""
    value = draft.encode()
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / PROPOSAL, value, [])
    return value


def sign(folder: Path, signer: evidence.Signer) -> str:
    """Add a signature to the proposal; return what is still missing, empty when nothing is."""
    value, signatures = read_proposal(folder)
    if any(one.keyid == signer.keyid for one in signatures):
        raise UsageError(f"the key {signer.keyid} has signed this proposal already")
    roots = {
        key.kid for one in (latest(folder), KeySet.parse(value)) if one is not None for key in one.keys_with("root")
    }
    if signer.keyid not in roots:
        raise UsageError(f"{signer.keyid} is no root key of the present key set or of the proposed one")
    signatures.append(Signature(signer.keyid, signer.sign(evidence.pae(KEY_SET_TYPE, value))))
    _write(folder / PROPOSAL, value, signatures)
    return missing(folder)


def missing(folder: Path) -> str:
    """Return whose signatures the proposal still needs, in words; empty when it may be published."""
    value, signatures = read_proposal(folder)
    message, wanted = evidence.pae(KEY_SET_TYPE, value), []
    for whose, one in (("the present key set", latest(folder)), ("the proposed one", KeySet.parse(value))):
        if one is None:
            continue
        roots = [key for key in one.keys_with("root") if key.status == "active"]
        signed = owners_signing(roots, signatures, message)
        if len(signed) < one.threshold("root"):
            left = ", ".join(sorted({key.owner for key in roots} - signed))
            wanted.append(f"{one.threshold('root') - len(signed)} more of {whose} ({left})")
    return "; ".join(wanted)


def publish(folder: Path, dry_run: bool = False) -> tuple[Path, KeySet]:
    """Make the proposal the next version; raise `VerificationError` where signatures are missing.

    Publishing takes effect at once for whoever reads the folder; subscribers take the file with their ``rotate``.
    """
    lacking = missing(folder)
    if lacking:
        raise VerificationError(f"the proposal is not signed by enough owners: {lacking}")
    envelope, current = (folder / PROPOSAL).read_bytes(), latest(folder)
    found = KeySet.open_pinned(envelope, _payload(envelope).sha256) if current is None else current.rotate(envelope)
    target = folder / f"{found.version:04d}.json"
    if not dry_run:
        os.link(folder / PROPOSAL, target)  # never over another one
        (folder / PROPOSAL).unlink()
    return target, found


def read_proposal(folder: Path) -> tuple[bytes, list[Signature]]:
    """Return the bytes of the proposal and its signatures."""
    try:
        content = json.loads((folder / PROPOSAL).read_bytes())
        value = base64.b64decode(content["payload"], validate=True)
        signatures = [Signature(one["keyid"], base64.b64decode(one["sig"])) for one in content["signatures"]]
        KeySet.parse(value)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(_nothing(folder, "proposal")) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / PROPOSAL} is no proposal ({error}); make it anew") from error
    return value, signatures


def current_value(folder: Path) -> bytes:
    """Return the bytes of the newest key set."""
    return parse_envelope(key_set_files(folder)[-1].read_bytes())[1]


def describe(key_set: KeySet) -> Iterable[str]:
    """Yield a key set in lines for people."""
    document, thresholds = key_set.document, {name: key_set.threshold(name) for name in ("root", "permissive")}
    yield f"key set version {key_set.version} for {document.environment}, sha256 {key_set.sha256}"
    yield f"  valid to {_day(document.exp_us)}; thresholds: {json.dumps(thresholds)}"
    for issuer, floor in document.epoch_floor.items():
        yield f"  commands of {issuer} count from epoch {floor} on"
    for key in document.keys:
        after = ", ".join(f"{place.origin}={place.size}" for place in key.revoked_after or ())
        to = f"to {_day(key.exp_us)}" + (f", counts up to {after}" if after else "")
        yield f"  {key.kid}  {key.alg:7}  {key.status:11}  {'/'.join(key.roles):14}  {key.owner}, {to}"


def changes(before: KeySet | None, after: KeySet) -> Iterable[str]:
    """Yield what a proposal changes, in lines for people."""
    old = {key.kid: key for key in before.document.keys} if before is not None else {}
    for kid, key in after.by_kid.items():
        if kid not in old:
            yield f"+ {kid}  {key.status} {'/'.join(key.roles)} of {key.owner}"
        elif old[kid] != key:
            yield f"~ {kid}  {old[kid].status} -> {key.status} {'/'.join(key.roles)} of {key.owner}"
    yield from (
        f"- {kid}  {key.status} {'/'.join(key.roles)} of {key.owner}"
        for kid, key in old.items()
        if kid not in after.by_kid
    )
    fields: list[tuple[str, Callable[[KeySet], object]]] = [
        ("thresholds", lambda one: dict(one.document.thresholds)),
        ("epoch_floor", lambda one: one.document.epoch_floor),
        ("reset_seq", lambda one: one.document.reset_seq),
    ]
    for name, get in fields:
        if before is None or get(before) != get(after):
            yield f"= {name} {json.dumps(get(after))}"


def _nothing(folder: Path, what: str) -> str:
    """Return what is wrong where something is not there, and what to do: with the folder, or with what it holds."""
    if not folder.exists():
        return f"the folder {folder} does not exist; name the one of the key sets, such as keys/sets"
    if not folder.is_dir():
        return f"{folder} is no folder; name the one of the key sets, such as keys/sets"
    return f"{folder} holds no {what}; make one with: seawall keys propose {folder}"


def _payload(envelope: bytes) -> KeySet:
    return KeySet.parse(parse_envelope(envelope)[1])


def _write(target: Path, value: bytes, signatures: list[Signature]) -> None:
    listed = [{"keyid": one.keyid, "sig": base64.b64encode(one.sig).decode()} for one in signatures]
    content = {"payload": base64.b64encode(value).decode(), "payloadType": KEY_SET_TYPE, "signatures": listed}
    write_atomically([(target, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")])


def _day(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).date().isoformat()
