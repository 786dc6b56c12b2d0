"""Signed limit documents and the key set of the people who sign them, for tests."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from seawall.connectors.keys import SEALERS, new_key
from seawall.schemas.dsse import Signer
from seawall.schemas.evidence.keyset import KeySet, parse_keyset
from seawall.schemas.limit_documents import PAYLOAD_TYPE, encode_document, envelope_of, parse_document
from seawall_testing.desk import SECOND, T0, Json
from seawall_testing.signing import (
    CHECKER,
    CHECKER_OF_MAKER,
    MAKER,
    ROOTS,
    SIGNED,
    Holder,
    encode,
    keyset_document,
    signatures,
)
from seawall_testing.signing import envelope as enveloped

FOREVER = (1 << 53) - 1
CLERK = Holder("clerk", "cleo")
COVER: Json = {"id": "cover", "scope": "account:*", "measure": "gross_notional", "soft": 100.5, "hard": 500.0}


def key_set_value(environment: str = "prod", **changes: Any) -> bytes:
    """Return a key set with a maker, a checker, the maker's second key, one without a role here, and three roots."""
    window = {"nbf_us": 0, "exp_us": FOREVER, "types": (PAYLOAD_TYPE,)}
    people = [MAKER.entry("maker", **window), CHECKER.entry("checker", **window)]
    people += [CHECKER_OF_MAKER.entry("checker", **window), CLERK.entry("witness", **window)]
    roots = [root.entry("root", **{**window, "types": ()}) for root in ROOTS]
    fields = {"keys": people + roots, "environment": environment, "exp_us": FOREVER, "iat_us": 0}
    return encode(keyset_document(**{**fields, **changes}))


def key_set(**changes: Any) -> KeySet:
    return parse_keyset(key_set_value(**changes))


def entry_of(signer: Signer, role: str, types: tuple[str, ...] = ()) -> Json:
    """Return a key set's entry for a signer."""
    window = {"nbf_us": 0, "exp_us": FOREVER, "status": "active"}
    return {**signer.public_jwk(), "owner": role, "roles": [role], "types": list(types), **window}


def write_key_set(path: Path, environment: str = "prod", more: tuple[Json, ...] = ()) -> str:
    """Write a key set file, with further entries; return the hash to pin."""
    people = parse_keyset(key_set_value(environment)).document.keys
    listed = [to_builtins(key) for key in people]
    listed = [{name: value for name, value in entry.items() if value is not None} for entry in listed]
    value = key_set_value(environment, keys=[*listed, *more])
    path.write_bytes(enveloped(value, ROOTS[:2]) + b"\n")
    return parse_keyset(value).sha256


def vouch(desk: Path) -> None:
    """Make the keys of a prod desk, which its key set then names as issuer and sealer."""
    folder = desk.parent
    issuer, sealer = new_key(folder / "keys" / "prod.pem"), new_key(folder / "keys" / "sealer.pem", SEALERS)
    pinned = write_key_set(
        folder / "keyset.jsonl", more=(entry_of(issuer, "issuer", SIGNED), entry_of(sealer, "sealer"))
    )
    desk.write_text(re.sub(r'set_sha256 = "\w+"', f'set_sha256 = "{pinned}"', desk.read_text()))


def paper(version: int = 1, prev: str | None = None, **changes: Any) -> bytes:
    """Return the bytes of a document that sets one limit on every account."""
    document = {
        "v": 1, "iss": "risk/prod", "env": "prod", "version": version, "prev_sha256": prev, "iat_us": T0,
        "valid_from_us": 0, "valid_to_us": T0 + 10_000 * SECOND, "reason": "calibration", "comment": "first limits",
        "set": [COVER], "remove": [], "override": [],
    }  # fmt: skip
    return encode_document({**document, **changes})


def sealed(value: bytes, *signers: Holder) -> Json:
    """Return the envelope of a document signed by these people."""
    return envelope_of(value, signatures(PAYLOAD_TYPE, value, list(signers)))


def sha256(value: bytes) -> str:
    return parse_document(value).sha256


def limit_event(at_us: int, envelope: Json) -> Json:
    return {"type": "limit", "event_time_us": at_us, "document": envelope}


def tampered(envelope: Json, **changes: Any) -> Json:
    """Return an envelope whose payload says something else under the same signatures."""
    payload = json.loads(base64.b64decode(envelope["payload"]))
    return {**envelope, "payload": base64.b64encode(json.dumps({**payload, **changes}).encode()).decode()}
