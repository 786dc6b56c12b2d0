"""Are the limits in the journal the ones that a maker and a checker signed?

Every ``limit`` event of the journal is checked again as the sequencer did before it wrote it down: at the ``as_of`` of
its slice, against the limits that stood then, with the key set that the configuration in force names.
"""

from collections.abc import Mapping

import msgspec

from seawall.connectors.bus import Bus, read_all
from seawall.operators.core.policy import Policy
from seawall.ops.verification.findings import Report
from seawall.schemas.errors import Rejected
from seawall.schemas.events import Limit, Release
from seawall.schemas.evidence.keyset import KeySet
from seawall.schemas.limit_documents import check_document
from seawall.schemas.releases import check_release
from seawall.schemas.slices import Slice, decode_slice

# Whoever forges a slice spells it as he likes: with spaces, or with letters escaped. These stand in every spelling.
MARKS = (b'"limit"', b'"release"', b'"configuration"', b"\\u")


def verify_limits(bus: Bus, key_sets: Mapping[str, KeySet], report: Report) -> None:
    """Add a finding for every limit document in the journal that the rules of its time refuse.

    Parameters
    ----------
    key_sets
        By the SHA-256 of each.
    """
    for shard in bus.partitions("journal"):
        fold = _Fold(key_sets)
        for stored in read_all(bus, "journal", shard):
            if not any(mark in stored.value for mark in MARKS):
                continue
            try:
                piece = decode_slice(stored.value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a finding of its own, of whoever reads the whole journal
            for what in fold.step(piece):
                report.add("journal", shard, stored.offset, what, "LIMITS")


class _Fold:
    """The limits of one shard's journal, with what must be true of the next document."""

    def __init__(self, key_sets: Mapping[str, KeySet]) -> None:
        self._key_sets, self._keys = key_sets, None
        self._policy = Policy()
        self._who = ("", "")

    def step(self, piece: Slice) -> list[str]:
        """Take a slice; return what is wrong with its documents."""
        if piece.configuration is not None:
            self._configure(piece.configuration)
        found = []
        for event in piece.events:
            if not isinstance(event, Limit | Release):
                continue
            if self._keys is None:
                found.append("holds a limit document whose key set is not at hand: [keys] set names another, or none")
                continue
            try:
                if isinstance(event, Release):
                    check_release(event.document, self._keys, *self._who, piece.as_of_us)
                    continue
                check_document(event.document, self._policy, self._keys, *self._who, piece.as_of_us)
                self._policy.apply(event.document, piece.as_of_us)
            except Rejected as error:
                found.append(f"a limit document does not hold: {error.reason}: {error.detail}")
        return found

    def _configure(self, configuration: dict[str, object]) -> None:
        limits = configuration["limits"]
        assert isinstance(limits, dict)
        self._policy.configure(limits)
        named = limits.get("key_set") or {}
        self._keys = self._key_sets.get(named.get("sha256", ""))  # type: ignore[assignment]
        self._who = (str(configuration["issuer"]), str(configuration["environment"]))
