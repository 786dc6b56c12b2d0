"""The limits in force: a fold of limits files and of signed limit documents, and what of them holds at a time.

Documents amend what stands: they set and remove limits, and override some until a time. The sequencer has verified them
before they were journaled (``schemas/limit_documents.py``); here they are only applied. Rules for time:

- A limit counts from ``valid_from_us``. Past ``valid_to_us`` it counts at its tightest.
- An override holds until its ``valid_to_us``; then the limit that it stood for holds again.
- Past the validity of the whole policy, every limit counts at its tightest, until a document renews it.
"""

from typing import Any

from seawall.schemas.limit_documents import LimitDocument, document_of

Limit = dict[str, Any]


class Policy:
    """What limits there are.

    Attributes
    ----------
    version, sha256
        Of the last document or limits file.
    valid_to_us
        Until when the policy as a whole holds; None without an end.
    unratified
        Versions that a maker tightened alone and that no checker has signed yet.
    """

    def __init__(self) -> None:
        self.version = 0
        self.sha256: str | None = None
        self.valid_to_us: int | None = None
        self.limits: dict[str, Limit] = {}
        self.overrides: dict[str, Limit] = {}
        self.unratified: list[int] = []

    def configure(self, section: dict[str, Any]) -> None:
        """Take the limits of a configuration event; those of signed documents stay where the section has none."""
        if not section.get("documents"):
            self.version, self.sha256 = section["version"], section["sha256"]
            self.limits = {limit["id"]: limit for limit in section["limits"]}
            self.overrides, self.unratified, self.valid_to_us = {}, [], None

    def apply(self, envelope: dict[str, Any], as_of_us: int) -> dict[str, Any]:
        """Take a journaled envelope; return what the audit hears."""
        document, signers = document_of(envelope)
        if document.sha256 == self.sha256:
            self.unratified = [version for version in self.unratified if version > document.version]
            return _told(document, "ratified", signers)
        for name in document.remove:
            self.limits.pop(name, None)
            self.overrides.pop(name, None)
        for limit in document.set:
            self.limits[limit["id"]] = limit
            self.overrides.pop(limit["id"], None)
        self.overrides = {k: v for k, v in self.overrides.items() if v["valid_to_us"] > as_of_us}
        self.overrides |= {limit["id"]: limit for limit in document.override}
        self.version, self.sha256, self.valid_to_us = document.version, document.sha256, document.valid_to_us
        self.unratified = [] if len(signers) > 1 else [*self.unratified, document.version]
        return _told(document, "approved" if len(signers) > 1 else "tightened", signers)

    def in_force(self, as_of_us: int) -> tuple[list[tuple[Limit, bool]], int | None]:
        """Return the limits that hold at a time, each with whether it is past its validity, and when that changes."""
        times = [self.valid_to_us] if self.valid_to_us is not None else []
        expired = self.valid_to_us is not None and as_of_us >= self.valid_to_us
        found: list[tuple[Limit, bool]] = []
        for limit in self._standing(as_of_us, times):
            start, end = limit.get("valid_from_us", 0), limit.get("valid_to_us")
            times += [time for time in (start, end) if time is not None]
            if as_of_us >= start:
                found.append((limit, expired or (end is not None and as_of_us >= end)))
        return found, min((time for time in times if time > as_of_us), default=None)

    def _standing(self, as_of_us: int, times: list[int]) -> list[Limit]:
        """Return the limits with the overrides that hold in their places; add the ends of these to ``times``."""
        if not self.overrides:
            return list(self.limits.values())
        live = {name: limit for name, limit in self.overrides.items() if limit["valid_to_us"] > as_of_us}
        times += [limit["valid_to_us"] for limit in live.values()]
        return [live.get(name, limit) for name, limit in self.limits.items()]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "version": self.version,
            "sha256": self.sha256,
            "valid_to_us": self.valid_to_us,
            "limits": list(self.limits.values()),
            "overrides": list(self.overrides.values()),
            "unratified": self.unratified,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.version, self.sha256, self.valid_to_us = state["version"], state["sha256"], state["valid_to_us"]
        self.limits = {limit["id"]: limit for limit in state["limits"]}
        self.overrides = {limit["id"]: limit for limit in state["overrides"]}
        self.unratified = list(state["unratified"])


def _told(document: LimitDocument, outcome: str, signers: list[str]) -> dict[str, Any]:
    return {
        "version": document.version,
        "sha256": document.sha256,
        "outcome": outcome,
        "reason": document.reason,
        "keys": signers,
    }
