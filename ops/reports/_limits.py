"""Limits for a risk officer: those in force, their history, and changes that two people make.

Limits in force are folded from the journal; documents that lie ready and were not run yet are added, so that one
proposal can follow another. A proposal that only tightens counts from the next look of a run on and waits to be
ratified; one that loosens waits, as ``*.proposal.json``, for a checker.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from seawall.connectors.bus import Bus, open_bus, read_all
from seawall.connectors.keys import (
    PROPOSAL_SUFFIX,
    StoredDocument,
    limit_documents_folder,
    read_key_sets,
    write_limit_document,
)
from seawall.operators.core.limits import Policy
from seawall.schemas import evidence
from seawall.schemas.configuration import Configuration, read_toml
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.events import Limit as LimitEvent
from seawall.schemas.evidence import LIMIT_DOCUMENT_TYPE, LIMITS_VALID_DAYS, KeySet, LimitDocument, Malformed
from seawall.schemas.measures import check_limits
from seawall.schemas.records import Slice, decode_slice
from seawall.schemas.tables import nearest

DAY_US = 86_400_000_000
EVER_US = (1 << 53) - 1
SHOWN = ("scope", "measure", "direction", "warning", "soft", "hard", "floor", "ceiling", "window_s", "valid_to_us")


class LimitChange(NamedTuple):
    """One change of limits: ``as_of_us`` is None while it was not run."""

    version: int
    as_of_us: int | None
    outcome: str
    reason: str
    comment: str
    keys: list[str]
    changes: list[str]
    sha256: str


class LimitsInForce(NamedTuple):
    """The limits that stand, and every change that led to them."""

    policy: Policy
    history: list[LimitChange]
    as_of_us: int

    def take(self, piece: Slice) -> None:
        """Take the changes of limits in a slice of shard 0, which hears of all of them."""
        if piece.configuration is not None:
            _configure(self, piece.configuration["limits"], piece.as_of_us)
        for event in piece.events:
            if isinstance(event, LimitEvent):
                _take(self, event.document, piece.as_of_us)

    def propose(
        self,
        configuration: Configuration,
        changes: "RequestedChanges",
        reason: str,
        comment: str,
        now_us: int,
        valid_us: tuple[int, int] | None = None,
    ) -> bytes:
        """Return the next document, to be signed; ``valid_us`` is from when to when, `LIMITS_VALID_DAYS` by default."""
        from_us, to_us = valid_us or (now_us, now_us + LIMITS_VALID_DAYS * DAY_US)
        body = {
            "v": 1,
            "iss": configuration.issuer,
            "env": configuration.environment,
            "version": self.policy.version + 1,
            "prev_sha256": self.policy.sha256 or None,
            "iat_us": now_us,
            "valid_from_us": from_us,
            "valid_to_us": to_us,
            "reason": reason,
            "comment": comment,
            "set": changes.set,
            "remove": changes.remove,
            "override": changes.override,
        }
        value = LimitDocument.encode(body)
        try:
            LimitDocument.parse(value)
        except Malformed as error:
            raise UsageError(f"the change cannot be proposed: {error}") from error
        return value


class RequestedChanges(NamedTuple):
    """Requested changes: limits set, removed, overridden for a time."""

    set: list[dict[str, Any]]
    remove: list[str]
    override: list[dict[str, Any]]


# --- what stands ------------------------------------------------------------------------------------------------------


def read_limits(configuration: Configuration, as_of_us: int | None = None, ahead: bool = True) -> LimitsInForce:
    """Return the limits of a run.

    Parameters
    ----------
    as_of_us
        Up to which slice; None for all.
    ahead
        Whether to add documents that lie ready and were not run yet.
    """
    found = LimitsInForce(Policy(), [], 0)
    scheme, _, rest = configuration.bus.partition(":")
    if scheme != "sqlite" or (configuration.directory / rest).exists():
        bus = open_bus(configuration.bus, configuration.directory)
        try:
            found = _fold(bus, as_of_us)
        finally:
            bus.close()
    if ahead and as_of_us is None:
        if not configuration.limit_documents and not found.history:
            found.policy.configure({"version": 1, "sha256": "", "limits": configuration.limits})
        for stored in StoredDocument.read_all(configuration) if configuration.limit_documents else ():
            if stored.document.version > found.policy.version:
                _take(found, stored.envelope, None)
    return found


def _fold(bus: Bus, as_of_us: int | None) -> LimitsInForce:
    found, last_us = LimitsInForce(Policy(), [], 0), 0
    for stored in read_all(bus, "journal", 0):
        changes = b'"configuration"' in stored.value or b'"type":"limit"' in stored.value
        piece = decode_slice(stored.value) if changes else msgspec.json.decode(stored.value, type=_Time)
        if as_of_us is not None and piece.as_of_us > as_of_us:
            break
        last_us = piece.as_of_us
        if not isinstance(piece, _Time):
            found.take(piece)
    return found._replace(as_of_us=last_us)


class _Time(msgspec.Struct):
    as_of_us: int


def _configure(found: LimitsInForce, section: dict[str, Any], as_of_us: int) -> None:
    before = found.policy.version
    found.policy.configure(section)
    if not section.get("documents") and found.policy.version != before:
        what = [f"{len(section['limits'])} limits of a limits file"]
        entry = LimitChange(found.policy.version, as_of_us, "file", "", "", [], what, section["sha256"])
        found.history.append(entry)


def _take(found: LimitsInForce, envelope: dict[str, Any], as_of_us: int | None) -> None:
    document, keys = LimitDocument.of_envelope(envelope)
    changes = [] if document.sha256 == found.policy.sha256 else describe_document(document, found.policy)
    change = found.policy.apply(envelope, as_of_us or 0)
    outcome = change["outcome"] if as_of_us is not None else f"{change['outcome']}, not run yet"
    found.history.append(
        LimitChange(
            document.version, as_of_us, outcome, document.reason, document.comment, keys, changes, document.sha256
        )
    )


def describe_document(document: LimitDocument, policy: Policy) -> list[str]:
    """Return what a document changes, limit by limit, in words."""
    found = [f"{name} removed" for name in document.remove]
    for kind, limits in (("", document.set), ("override ", document.override)):
        for limit in limits:
            old = policy.limits.get(limit["id"])
            if old is None:
                found.append(f"{limit['id']} new: {limit['measure']} of {limit['scope']} {_levels(limit)}")
                continue
            names = [name for name in {**old, **limit} if old.get(name) != limit.get(name)]
            what = ", ".join(f"{name} {_reported(old.get(name))} -> {_reported(limit.get(name))}" for name in names)
            found.append(f"{kind}{limit['id']}: {what or 'nothing changes'}")
    return found


def _levels(limit: Mapping[str, Any]) -> str:
    return " ".join(f"{level} {limit[level]:g}" for level in ("warning", "soft", "hard") if level in limit)


def _reported(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def time_text(time_us: int | None) -> str:
    """Return an event time as UTC text."""
    if time_us is None or time_us >= EVER_US:
        return "-"
    try:
        return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(time_us)


# --- changing it ------------------------------------------------------------------------------------------------------


def read_requested_changes(
    file: Path | None, settings: list[str], remove: list[str], until_us: int | None, policy: Policy
) -> RequestedChanges:
    """Return the changes that a file and options ask for; options change one field of a limit that stands.

    Raises
    ------
    UsageError
        Naming what is not understood and the nearest name that is.
    """
    content = read_toml(file) if file is not None else {}
    place = file.name if file is not None else "--set"
    for name in content:
        if name not in ("limit", "override", "remove"):
            raise UsageError(f"{place}: there is no key {name!r}; use [[limit]], [[override]] and remove = [...]")
    limits = {limit["id"]: limit for limit in check_limits(content.get("limit", []), f"{place} [[limit]]")}
    overrides = {limit["id"]: limit for limit in check_limits(content.get("override", []), f"{place} [[override]]")}
    target = limits if until_us is None else overrides
    for setting in settings:
        name, field, value = _setting(setting, policy)
        changed = {**target.get(name, policy.limits[name]), field: value}
        if until_us is not None:
            changed["valid_to_us"] = until_us
        target[name] = check_limits([changed], f"--set {setting}:")[0]
    removed = [*content.get("remove", []), *remove]
    for name in [*removed, *overrides]:
        _check_known(name, policy)
    return RequestedChanges(list(limits.values()), removed, list(overrides.values()))


def _setting(text: str, policy: Policy) -> tuple[str, str, Any]:
    place, equals, value = text.partition("=")
    name, dot, field = place.rpartition(".")
    if not equals or not dot:
        raise UsageError(f"--set {text}: write LIMIT.FIELD=VALUE, such as client-margin.soft=0.9")
    _check_known(name, policy)
    try:
        number = orjson.loads(value)
    except orjson.JSONDecodeError:
        number = value
    return name, field, number


def _check_known(name: str, policy: Policy) -> None:
    if name not in policy.limits:
        close = f"; did you mean {nearest(name, policy.limits)!r}?" if policy.limits else "; no limit stands yet"
        raise UsageError(f"there is no limit {name!r}{close}")


def sign_document(signer: evidence.Signer, value: bytes) -> dict[str, str]:
    """Return one signature over a document."""
    signed: dict[str, Any] = orjson.loads(evidence.sign_payload(signer, LIMIT_DOCUMENT_TYPE, value))
    found: dict[str, str] = signed["signatures"][0]
    return found


def check_signed_document(
    configuration: Configuration, policy: Policy, envelope: dict[str, Any], keys: KeySet, as_of_us: int
) -> tuple[LimitDocument, bool]:
    """Return a document and whether it may count as signed now; raise UsageError where more signing cannot help."""
    try:
        found = LimitDocument.admit(envelope, policy, keys, configuration.issuer, configuration.environment, as_of_us)
        return found, True
    except Rejected as error:
        if error.reason == Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER:
            return LimitDocument.of_envelope(envelope)[0], False
        raise UsageError(f"{error.reason}: {error.detail}") from error


def document_path(configuration: Configuration, document: LimitDocument, complete: bool) -> Path:
    """Return where a document belongs: what waits for a checker is a proposal, which no run reads."""
    return limit_documents_folder(configuration) / f"{document.version:04}{'.json' if complete else PROPOSAL_SUFFIX}"


def limits_before(configuration: Configuration, version: int) -> Policy:
    """Return the limits as they stood before a document, for showing and checking it again."""
    policy = Policy()
    for stored in StoredDocument.read_all(configuration):
        if stored.document.version < version:
            policy.apply(stored.envelope, 0)
    return policy


def pending_documents(configuration: Configuration, policy: Policy) -> list[StoredDocument]:
    """Return what waits for a checker: proposals, and the last document where a maker tightened alone."""
    tightened = [s for s in StoredDocument.read_all(configuration) if s.document.version in policy.unratified]
    return [*StoredDocument.read_proposals(configuration), *tightened[-1:]]


def save_document(
    configuration: Configuration, document: LimitDocument, envelope: dict[str, Any], complete: bool
) -> Path:
    """Write a document where it belongs and take the proposal away that it was."""
    path = document_path(configuration, document, complete)
    write_limit_document(path, envelope)
    if complete:
        document_path(configuration, document, complete=False).unlink(missing_ok=True)
    return path


def last_key_set(configuration: Configuration) -> KeySet:
    """Return the key set in force."""
    sets = read_key_sets(configuration)
    if not sets:
        raise UsageError(
            f"{configuration.path.name}: limits change by signed documents, and [keys] names no key set; "
            "set documents, set and set_sha256, or edit the limits file"
        )
    return sets[-1]
