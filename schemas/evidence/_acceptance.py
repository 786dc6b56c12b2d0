"""Acceptance of a received document: it is genuine, meant for this subscriber, and in time.

Steps 1 to 8 of a subscriber; step 9, the order of commands, is its own (``connectors/subscriber``). Whoever decides
uses the same checks to learn that people released a target (REINSTATE).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from seawall.schemas.errors import Reason, Rejected, VerificationError
from seawall.schemas.evidence._documents import (
    COMMAND,
    DOCUMENTS,
    HEARTBEAT,
    KINDS,
    STATE,
    Command,
    Document,
    State,
    restricts,
)
from seawall.schemas.evidence._envelopes import (
    COMMAND_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    DuplicateName,
    Header,
    Malformed,
    pae,
    parse_envelope,
    parse_header,
    parse_strict,
)
from seawall.schemas.evidence._key_sets import Key, KeySet, Role, matches_pattern

# Acceptance: whether a received document is genuine, meant for us, and in time. Steps 1 to 8 of a subscriber.
#
# 1. sizes; 2. exactly one ``dsse`` header; 3. payload type known; 4. keys known, in force, in their role; 5. signatures
# over the received bytes, distinct owners counted; 6. strict parse of the same bytes; 7. audience, environment, target;
# 8. time. Steps 9 to 11, order, effect and acknowledgement, are the subscriber's.
#
# A refusal is named, and never an effect: anybody can send bytes, so a bad signature must not be able to halt trading.
# What restricts tolerates clock skew and an expired key set; what loosens tolerates neither and needs several people.

HEADER = "dsse"
VALUE_BYTES_MAX = {COMMAND: COMMAND_BYTES_MAX, STATE: 262_144, HEARTBEAT: 4_096}

_IDENTIFIER = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


class Refusal(StrEnum):
    """Reason for which a document was refused. The order is that of the steps."""

    VALUE_TOO_LARGE = "VALUE_TOO_LARGE"
    HEADER_TOO_LARGE = "HEADER_TOO_LARGE"
    HEADER_MISSING = "HEADER_MISSING"
    HEADER_NOT_UNIQUE = "HEADER_NOT_UNIQUE"
    HEADER_MALFORMED = "HEADER_MALFORMED"
    TYPE_NOT_ALLOWED = "TYPE_NOT_ALLOWED"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    KEY_REVOKED = "KEY_REVOKED"
    KEY_OUT_OF_WINDOW = "KEY_OUT_OF_WINDOW"
    ROLE_DOES_NOT_COVER = "ROLE_DOES_NOT_COVER"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    DUPLICATE_NAME = "DUPLICATE_NAME"
    PAYLOAD_MALFORMED = "PAYLOAD_MALFORMED"
    WRONG_ENVIRONMENT = "WRONG_ENVIRONMENT"
    WRONG_AUDIENCE = "WRONG_AUDIENCE"
    WRONG_TARGET = "WRONG_TARGET"
    THRESHOLD_NOT_MET = "THRESHOLD_NOT_MET"
    KEY_SET_EXPIRED = "KEY_SET_EXPIRED"
    ISSUED_IN_THE_FUTURE = "ISSUED_IN_THE_FUTURE"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"
    STALE_EPOCH = "STALE_EPOCH"
    STALE_SEQ = "STALE_SEQ"
    JUMP_TOO_FAR = "JUMP_TOO_FAR"
    EQUIVOCATION = "EQUIVOCATION"
    STATE_MISSING = "STATE_MISSING"


class Refused(VerificationError):
    """The document must have no effect; ``document`` is set when its signature was good."""

    def __init__(self, reason: Refusal, detail: str, document: Document | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.document = reason, detail, document


@dataclass(frozen=True, slots=True)
class AcceptancePolicy:
    """Identity of a subscriber, and the documents that it accepts.

    ``targets`` are patterns; ``skew_us`` is granted to what restricts only. ``jump_max`` bounds how far
    one document may count ahead: nobody can use all numbers up.
    """

    audience: str
    environment: str
    issuers: tuple[str, ...]
    targets: tuple[str, ...] = ("*",)
    skew_us: int = 5_000_000
    jump_max: int = 1_000_000

    def accept(self, value: bytes, headers: Iterable[tuple[str, bytes]], keys: KeySet, now_us: int) -> Document:
        """Return the document when it is genuine, for us and in time; raise `Refused` with the first rule broken.

        A state lists everybody's targets; those are left in it that are ours and that its signers speak for.

        Parameters
        ----------
        value
            The record's exact bytes. The bytes verified are the bytes parsed.
        headers
            All headers of the record, as a list: one named ``dsse`` is needed, and a second one is an attack.
        """
        header = _read_header(value, headers)
        signers = _signers(header, value, keys, now_us, self.skew_us)
        document = _parse(header.payload_type, value)
        try:
            _check_scope(document, self)
            _check_authority(document, header.payload_type, signers, keys, now_us)
            _check_time(document, self, now_us)
        except Refused as refusal:
            raise Refused(refusal.reason, refusal.detail, document) from None
        return _within_reach(document, signers, self) if isinstance(document, State) else document


def _read_header(value: bytes, headers: Iterable[tuple[str, bytes]]) -> Header:
    """Steps 1 to 3."""
    if len(value) > max(VALUE_BYTES_MAX.values()):
        raise Refused(Refusal.VALUE_TOO_LARGE, f"{len(value)} bytes")
    found = [content for name, content in headers if name == HEADER]
    if not found:
        raise Refused(Refusal.HEADER_MISSING, f"no {HEADER} header: unsigned")
    if len(found) > 1:
        raise Refused(Refusal.HEADER_NOT_UNIQUE, f"{len(found)} {HEADER} headers")
    if len(found[0]) > ENVELOPE_BYTES_MAX:
        raise Refused(Refusal.HEADER_TOO_LARGE, f"{len(found[0])} bytes")
    try:
        header = parse_header(found[0])
    except Malformed as error:
        raise Refused(Refusal.HEADER_MALFORMED, str(error)) from error
    if header.payload_type not in DOCUMENTS:
        raise Refused(Refusal.TYPE_NOT_ALLOWED, header.payload_type[:80])
    if len(value) > VALUE_BYTES_MAX[header.payload_type]:
        raise Refused(Refusal.VALUE_TOO_LARGE, f"{len(value)} bytes of {header.payload_type}")
    return header


def _signers(header: Header, value: bytes, keys: KeySet, now_us: int, skew_us: int) -> list[Key]:
    """Steps 4 and 5: the keys in force whose signature is good; when there is none, the refusal that came nearest."""
    message, signers = pae(header.payload_type, value), []
    refusal, detail = Refusal.KEY_UNKNOWN, "no signature by a key of the key set"
    for keyid, signature in header.signatures:
        key = keys.by_kid.get(keyid)
        if key is None:
            continue
        if key.status == "revoked":
            refusal, detail = Refusal.KEY_REVOKED, key.kid
        elif not key.valid_at(now_us, skew_us):
            refusal, detail = Refusal.KEY_OUT_OF_WINDOW, key.kid
        elif header.payload_type not in key.types:
            refusal, detail = Refusal.ROLE_DOES_NOT_COVER, f"{key.kid} does not sign {header.payload_type}"
        elif not key.verifies(message, signature):
            refusal, detail = Refusal.BAD_SIGNATURE, key.kid
        else:
            signers.append(key)
    if not signers:
        raise Refused(refusal, detail)
    return signers


def _parse(payload_type: str, value: bytes) -> Document:
    """Step 6, over the bytes that were verified."""
    try:
        document = msgspec.convert(parse_strict(value), DOCUMENTS[payload_type], strict=True)
    except DuplicateName as error:
        raise Refused(Refusal.DUPLICATE_NAME, str(error)) from error
    except (Malformed, msgspec.ValidationError) as error:
        raise Refused(Refusal.PAYLOAD_MALFORMED, str(error)) from error
    if isinstance(document, Command) and document.type not in KINDS:
        raise Refused(Refusal.PAYLOAD_MALFORMED, f"no command of type {document.type[:40]!r}")
    for name in _names(document):
        if name != "*" and not _IDENTIFIER.fullmatch(name):
            raise Refused(Refusal.PAYLOAD_MALFORMED, f"an identifier has other characters: {name[:60]!a}")
    return document


def _names(document: Document) -> Iterator[str]:
    """Yield what must be an identifier."""
    yield from (document.iss, *document.aud)
    if isinstance(document, Command):
        yield from (document.id, document.target.scope, document.target.id)
        yield from (document.prev_id or "-", document.supersedes or "-")
    elif isinstance(document, State):
        for entry in document.targets:
            yield from (entry.id, entry.target.scope, entry.target.id, *(item.id for item in entry.in_force))


def _check_scope(document: Document, policy: AcceptancePolicy) -> None:
    """Step 7."""
    if document.env != policy.environment:
        raise Refused(Refusal.WRONG_ENVIRONMENT, f"for {document.env}, we are {policy.environment}")
    if policy.audience not in document.aud and "*" not in document.aud:
        raise Refused(Refusal.WRONG_AUDIENCE, f"for {', '.join(document.aud)[:120]}")
    if document.iss not in policy.issuers:
        raise Refused(Refusal.WRONG_AUDIENCE, f"we do not listen to {document.iss}")
    if isinstance(document, Command) and not matches_pattern(policy.targets, str(document.target)):
        raise Refused(Refusal.WRONG_TARGET, f"we do not serve {document.target}")


def _check_authority(document: Document, payload_type: str, signers: list[Key], keys: KeySet, now_us: int) -> None:
    """The rest of steps 4 and 5, which needs the content: issuer, target, and how many people."""
    if keys.document.environment != document.env:
        raise Refused(Refusal.WRONG_ENVIRONMENT, f"the key set is for {keys.document.environment}")
    target = str(document.target) if isinstance(document, Command) else None
    entitled = [key for key in signers if key.speaks_for(document.iss, target)]

    def holders(role: Role) -> set[str]:
        return {key.owner for key in entitled if key.covers(role, payload_type)}

    if restricts(document):
        if not holders("issuer"):
            raise Refused(Refusal.ROLE_DOES_NOT_COVER, f"no signer is an issuer for {document.iss} and {target}")
        return
    if keys.document.exp_us < now_us:
        raise Refused(Refusal.KEY_SET_EXPIRED, f"version {keys.version}; what loosens needs one in force")
    makers, checkers = holders("maker"), holders("checker")
    if not makers | checkers:
        raise Refused(Refusal.ROLE_DOES_NOT_COVER, "what loosens is signed by people: maker and checker")
    needed = max(2, keys.threshold("permissive"))
    if len(makers | checkers) < needed or not makers or not checkers:
        raise Refused(Refusal.THRESHOLD_NOT_MET, f"{len(makers | checkers)} of {needed} owners, a maker and a checker")


def _within_reach(state: State, signers: list[Key], policy: AcceptancePolicy) -> State:
    """Return a state with those targets alone for which its signers could have given us a command."""
    issuers = [key for key in signers if key.covers("issuer", STATE)]

    def reached(target: str) -> bool:
        return matches_pattern(policy.targets, target) and any(key.speaks_for(state.iss, target) for key in issuers)

    return msgspec.structs.replace(state, targets=tuple(one for one in state.targets if reached(str(one.target))))


def _check_time(document: Document, policy: AcceptancePolicy, now_us: int) -> None:
    """Step 8."""
    skew_us = policy.skew_us if restricts(document) else 0
    if document.iat_us > now_us + policy.skew_us:
        raise Refused(Refusal.ISSUED_IN_THE_FUTURE, f"{document.iat_us - now_us} us ahead of this clock")
    if now_us < document.nbf_us - skew_us:
        raise Refused(Refusal.NOT_YET_VALID, f"valid in {document.nbf_us - now_us} us")
    if now_us > document.exp_us + skew_us:
        raise Refused(Refusal.EXPIRED, f"since {now_us - document.exp_us} us")


# Releases: how those who decide learn that people gave a target back.
#
# A release is the REINSTATE command itself, as a maker and a checker signed it for the subscribers (DSSE, with its
# payload). It is accepted into the journal by the rules by which a subscriber accepts it: so nobody releases here who
# could not release there, and both count the same commands of a target.

RELEASE_COMMAND = "REINSTATE"


def open_release(envelope: Mapping[str, Any]) -> tuple[Command, bytes]:
    """Return the command of an envelope and its bytes, nothing verified.

    Raises
    ------
    Malformed
        It is no envelope of a REINSTATE command.
    """
    try:
        header, value = parse_envelope(msgspec.json.encode(dict(envelope)))
        command = msgspec.json.decode(value, type=Command)
    except (TypeError, msgspec.MsgspecError) as error:
        raise Malformed(f"not an envelope of a command: {error}") from error
    if header.payload_type != COMMAND or command.type != RELEASE_COMMAND:
        raise Malformed(f"the envelope holds {command.type[:40]!r}, only {RELEASE_COMMAND} releases")
    return command, value


def check_release(
    envelope: Mapping[str, Any], keys: KeySet | None, issuer: str, environment: str, as_of_us: int
) -> Command:
    """Return the REINSTATE command of an envelope that may be taken at ``as_of_us``.

    Raises
    ------
    Rejected
        With the rule that it breaks.
    """
    if keys is None:
        raise Rejected(
            Reason.DOCUMENT_MUST_BE_EXPECTED, "this run knows no key set, so it knows nobody who may release"
        )
    try:
        command, value = open_release(envelope)
    except Malformed as error:
        raise Rejected(Reason.DOCUMENT_MUST_BE_WELL_FORMED, str(error)) from error
    header = msgspec.json.encode({name: part for name, part in envelope.items() if name != "payload"})
    audience = next(iter(command.aud), "*")
    try:
        AcceptancePolicy(audience, environment, (issuer,)).accept(value, [(HEADER, header)], keys, as_of_us)
    except Refused as refused:
        raise Rejected(Reason.RELEASE_MUST_BE_ONE_THAT_SUBSCRIBERS_ACCEPT, str(refused)) from refused
    return command
