"""Signed limit documents: changes of limits by a maker and a checker who sign the same bytes.

A document amends the limits that stand: it sets and removes limits, and overrides some until a time. It travels as a
DSSE envelope (``payload``, ``payloadType``, ``signatures``) in a ``limit`` event. Decides whether one may be taken.

1. It says what it is, for this issuer and environment, and nothing twice; decimals are strings.
2. Every signature is good, by a known key with the role ``maker`` or ``checker``; no key signs twice.
3. A maker signed. A document that loosens anything needs a checker too, who is another person (an owner, not a key).
4. It follows: its version is the next, and it names the SHA-256 of its predecessor. Or it is the last one again, now
   with the checker's signature: that ratifies what the maker tightened alone.
5. It is valid at its time, and what it removes or overrides exists.

What loosens: anything that is not plainly tighter. A limit removed; a level, floor or ceiling moved outwards; a longer
validity; a limit for something that no limit covered, which default-deny had refused; any other change of terms.

References
----------
RTS 6 Art. 15(6) and 5(7): temporary, verified by risk, authorised; who, when, why.
"""

import base64
import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, Self, get_args

import msgspec

from seawall.schemas.decimals import parse_decimal
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.evidence._envelopes import Header, Malformed, pae, parse_envelope, parse_strict
from seawall.schemas.evidence._key_sets import Key, KeySet, Microseconds
from seawall.schemas.measures import LEVELS, LIMITS_MAX, check_limits

LIMIT_DOCUMENT_TYPE = "application/vnd.seawall.policy.v1+json"
LIMITS_VALID_DAYS = 90  # of a document, where its maker says nothing else
LIMIT_DOCUMENT_BYTES_MAX = 176 * 1024  # in base64, with signatures, inside the 256 KiB of a record
ReasonCode = Literal["market", "counterparty", "regulation", "threat", "calibration", "incident"]
LIMIT_REASONS: tuple[str, ...] = get_args(ReasonCode)
COVERING = ("account", "netting_set", "counterparty", "group", "venue", "firm")
Limit = dict[str, Any]


class LimitsInForce(Protocol):
    """The limits that a document is checked against (``operators.core.policy.Policy``)."""

    version: int
    sha256: str | None
    valid_to_us: int | None
    limits: dict[str, Limit]
    overrides: dict[str, Limit]
    unratified: list[int]


class LimitDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The signed payload; ``sha256`` is that of its bytes and not part of them."""

    v: Literal[1]
    iss: str
    env: Literal["dev", "test", "prod"]
    version: Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
    prev_sha256: str | None
    iat_us: Microseconds
    valid_from_us: Microseconds
    valid_to_us: Microseconds
    reason: ReasonCode
    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    set: list[Limit] = []
    remove: list[str] = []
    override: list[Limit] = []
    sha256: str = ""

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Return the document in these bytes, limits checked, decimals as numbers.

        Raises
        ------
        Malformed
            Naming what is wrong, and where.
        """
        if len(value) > LIMIT_DOCUMENT_BYTES_MAX:
            raise Malformed(
                f"the document has {len(value)} bytes, at most {LIMIT_DOCUMENT_BYTES_MAX}; split it in several"
            )
        try:
            found = msgspec.convert(parse_strict(value), cls, strict=True)
            if found.sha256:
                raise Malformed("a document does not state its own sha256")
            limits = check_limits([_numbers(limit) for limit in found.set], "set")
            overrides = check_limits([_numbers(limit) for limit in found.override], "override")
        except (msgspec.ValidationError, UsageError) as error:
            raise Malformed(str(error)) from error
        _check_names(found, limits, overrides)
        return msgspec.structs.replace(found, set=limits, override=overrides, sha256=hashlib.sha256(value).hexdigest())

    @classmethod
    def of_envelope(cls, envelope: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """Return the document of an envelope and the ids of the keys that signed, nothing verified."""
        header, value = _opened(envelope)
        return cls.parse(value), [signature.keyid for signature in header.signatures]

    @classmethod
    def encode(cls, document: Mapping[str, Any]) -> bytes:
        """Return the bytes to sign of a document given as plain values, numbers of its limits as decimal strings."""
        body = dict(document)
        for name in ("set", "override"):
            body[name] = [_texts(limit) for limit in body.get(name, [])]
        return msgspec.json.encode(body)

    @classmethod
    def envelope(cls, value: bytes, signatures: list[dict[str, str]]) -> dict[str, Any]:
        """Return the DSSE envelope of a document and its signatures."""
        payload = base64.b64encode(value).decode()
        return {"payloadType": LIMIT_DOCUMENT_TYPE, "payload": payload, "signatures": signatures}

    @classmethod
    def admit(
        cls,
        envelope: Mapping[str, Any],
        standing: LimitsInForce,
        keys: KeySet | None,
        issuer: str,
        environment: str,
        as_of_us: int,
    ) -> Self:
        """Return the document of an envelope that may be taken at ``as_of_us``.

        Raises
        ------
        Rejected
            With the rule that it breaks.
        """
        if keys is None:
            raise Rejected(Reason.DOCUMENT_MUST_BE_EXPECTED, "limits of this run come from a file, not from documents")
        try:
            header, value = _opened(envelope)
            document = cls.parse(value)
        except Malformed as error:
            raise Rejected(Reason.DOCUMENT_MUST_BE_WELL_FORMED, str(error)) from error
        if (document.iss, document.env) != (issuer, environment):
            raise Rejected(
                Reason.DOCUMENT_MUST_BE_FOR_THIS_ISSUER_AND_ENVIRONMENT,
                f"it is for {document.iss} in {document.env}, this is {issuer} in {environment}",
            )
        signers = _signers(header, value, keys, as_of_us)
        checked = _check_roles(signers, document)
        if _ratifies(document, standing) and checked:
            return document
        _check_place(document, standing)
        if not document.valid_from_us <= as_of_us < document.valid_to_us:
            raise Rejected(
                Reason.DOCUMENT_MUST_BE_VALID_AT_ITS_TIME,
                f"it holds from {document.valid_from_us} to {document.valid_to_us}, and it is {as_of_us}",
            )
        _check_content(document, standing)
        looser = document.loosenings(standing)
        if looser and not checked:
            raise Rejected(
                Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER,
                f"only a maker signed, and it loosens: {'; '.join(looser[:3])}",
            )
        return document

    def loosenings(self, standing: LimitsInForce) -> list[str]:
        """Return what the document loosens, in words; empty where it only tightens."""
        found = [f"{name} is removed" for name in self.remove]
        if standing.version == 0:
            found.append("these are the first limits")
        elif standing.valid_to_us is not None and self.valid_to_us > standing.valid_to_us:
            found.append("the limits hold for longer")
        scopes = {limit["scope"] for limit in standing.limits.values()}
        for limit in (*self.set, *self.override):
            name = limit["id"]
            replaced = [old for old in (standing.limits.get(name), standing.overrides.get(name)) if old is not None]
            if not replaced and not _is_covered(limit["scope"], scopes):
                found.append(f"{name} covers {limit['scope']}, which no limit covered")
            found += [f"{name}: {what}" for old in replaced for what in _looser(old, limit)]
            if name in standing.limits and _is_longer(standing.limits[name], limit):
                found.append(f"{name} holds for longer")
        return list(dict.fromkeys(found))


# --- checking ---------------------------------------------------------------------------------------------------------


def _looser(old: Limit, new: Limit) -> list[str]:
    """Return in which respects a limit is looser than before."""
    outward = -1.0 if old["direction"] == "below" else 1.0
    found = []
    for level in (*LEVELS, "floor", "ceiling"):
        before, after = old.get(level), new.get(level)
        if before is not None and (after is None or outward * (after - before) > 0):
            found.append(f"{level} moves from {before} to {after}")
        elif before is None and after is not None and level not in LEVELS:
            found.append(f"{level} is new")
    if new["exit_ratio"] > old["exit_ratio"]:
        found.append("exit_ratio rises")
    if new["dwell_s"] < old["dwell_s"]:
        found.append("dwell_s falls")
    terms = ("scope", "measure", "direction", "window_s", "scaling", "valid_from_us")
    found += [f"{term} changes" for term in terms if old.get(term) != new.get(term)]
    return found


def _is_longer(old: Limit, new: Limit) -> bool:
    """Return whether what replaces a limit, or overrides it, holds past the end from which that is at its tightest."""
    end = old.get("valid_to_us")
    return end is not None and (new.get("valid_to_us") is None or bool(new["valid_to_us"] > end))


def _is_covered(scope: str, scopes: set[str]) -> bool:
    """Return whether a limit on a scope covers nothing that was uncovered before."""
    kind = scope.partition(":")[0]
    wide = {"account:*", "counterparty:*", "netting_set:*", "firm"}
    return kind not in COVERING or scope in scopes or f"{kind}:*" in scopes or not wide.isdisjoint(scopes)


def _opened(envelope: Mapping[str, Any]) -> tuple[Header, bytes]:
    try:
        header, value = parse_envelope(msgspec.json.encode(dict(envelope)))
    except (TypeError, msgspec.MsgspecError) as error:
        raise Malformed(f"not an envelope: {error}") from error
    if header.payload_type != LIMIT_DOCUMENT_TYPE:
        raise Malformed(f"the envelope holds a {header.payload_type[:80]}, not limits")
    return header, value


def _signers(header: Header, value: bytes, keys: KeySet, as_of_us: int) -> list[Key]:
    """Return the keys that signed; raise Rejected unless every signature is good and by another known key."""
    if keys.document.exp_us < as_of_us:
        raise Rejected(Reason.SIGNER_MUST_BE_KNOWN, f"key set version {keys.version} has expired; publish the next one")
    message = pae(LIMIT_DOCUMENT_TYPE, value)
    found: dict[str, Key] = {}
    for signature in header.signatures:
        key = keys.by_kid.get(signature.keyid)
        if key is None or key.status == "revoked" or not key.valid_at(as_of_us):
            raise Rejected(Reason.SIGNER_MUST_BE_KNOWN, f"key {signature.keyid[:64]} is not one that counts now")
        if signature.keyid in found:
            raise Rejected(Reason.SIGNATURE_MUST_NOT_BE_REPEATED, f"{key.owner} signed twice with {signature.keyid}")
        if not key.verifies(message, signature.sig):
            raise Rejected(Reason.SIGNATURE_MUST_BE_GOOD, f"the signature of {key.owner} is not over these bytes")
        found[signature.keyid] = key
    return list(found.values())


def _check_roles(signers: list[Key], document: LimitDocument) -> bool:
    """Return whether a checker other than the maker signed; raise Rejected without a maker.

    So of a document that may be taken, more than one signed exactly where a checker did.
    """
    able = [key for key in signers if key.speaks_for(document.iss)]
    makers = {key.owner for key in able if key.covers("maker", LIMIT_DOCUMENT_TYPE)}
    checkers = {key.owner for key in able if key.covers("checker", LIMIT_DOCUMENT_TYPE)}
    if not makers:
        raise Rejected(Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_MAKER, "none of its signatures is a maker's")
    if any(maker != checker for maker in makers for checker in checkers):
        return True
    if checkers and len(signers) > 1:
        raise Rejected(Reason.MAKER_MUST_NOT_BE_CHECKER, f"{min(makers)} approved what {min(makers)} proposed")
    if len(signers) > 1:
        text = f"several signed, and none of them is a checker for {document.iss}"
        raise Rejected(
            Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER, f"{text}; leave one maker's signature, or have a checker sign"
        )
    return False


def _ratifies(document: LimitDocument, standing: LimitsInForce) -> bool:
    return document.sha256 == standing.sha256 and document.version in standing.unratified


def _check_place(document: LimitDocument, standing: LimitsInForce) -> None:
    if document.version != standing.version + 1:
        raise Rejected(
            Reason.DOCUMENT_MUST_BE_THE_NEXT_VERSION,
            f"it is version {document.version} and {standing.version} stands; propose it again on what stands",
        )
    if document.prev_sha256 != standing.sha256:
        raise Rejected(
            Reason.DOCUMENT_MUST_NAME_ITS_PREDECESSOR,
            f"it was made for {document.prev_sha256} and {standing.sha256} stands; propose it again on what stands",
        )


def _check_content(document: LimitDocument, standing: LimitsInForce) -> None:
    for name in document.remove:
        if name not in standing.limits:
            raise Rejected(Reason.DOCUMENT_MUST_BE_WELL_FORMED, f"it removes {name}, which is no limit")
    for limit in document.override:
        if limit["id"] not in standing.limits:
            raise Rejected(Reason.DOCUMENT_MUST_BE_WELL_FORMED, f"it overrides {limit['id']}, which is no limit")
    if len(standing.limits) + len(document.set) > LIMITS_MAX:
        raise Rejected(Reason.DOCUMENT_MUST_BE_WELL_FORMED, f"with it there would be over {LIMITS_MAX} limits")


def _check_names(document: LimitDocument, limits: list[Limit], overrides: list[Limit]) -> None:
    named = [limit["id"] for limit in (*limits, *overrides)] + document.remove
    if len(set(named)) != len(named):
        raise Malformed("it names a limit twice")
    if not named:
        raise Malformed("it changes nothing")
    for limit in overrides:
        if "valid_to_us" not in limit:
            raise Malformed(f"the override of {limit['id']} has no valid_to_us: an override is temporary")


# --- numbers ----------------------------------------------------------------------------------------------------------

_TEXT = frozenset({"id", "scope", "measure", "direction", "owner"})


def _numbers(limit: Limit) -> Limit:
    """Return a limit with its decimal strings as numbers."""
    return {name: value if name in _TEXT else _number(value) for name, value in limit.items()}


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _number(part) for name, part in value.items()}
    if isinstance(value, str) and value[:1] in tuple("-0123456789"):
        return _decimal(value)
    return value


def _decimal(text: str) -> float:
    try:
        return parse_decimal(text)
    except Rejected as error:
        raise Malformed(error.detail) from error


def _texts(limit: Limit) -> Limit:
    """Return a limit with its fractional numbers as decimal strings; whole ones stay."""
    return {name: _text(value) for name, value in limit.items()}


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _text(part) for name, part in value.items()}
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else value
