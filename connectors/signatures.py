"""Signing commands and state documents without ever signing the same one twice.

What a replay produces again already stands on its topic with its signature: that one is verified and reused, so a key
that counts its signatures, or one that has been retired since, is not asked (architecture.md, "Exactly once").
"""

from collections.abc import Mapping

from seawall.connectors.bus import Bus
from seawall.schemas import evidence
from seawall.schemas.errors import VerificationError
from seawall.schemas.records import Record


class CommandSigner:
    """Signs records; reuses the signatures that stand on their topics.

    Parameters
    ----------
    signer
        The private key.
    bus
        Where earlier records stand; None signs everything.
    keys
        Public keys by id whose standing signatures are kept; by default the signer's own.
    """

    def __init__(
        self, signer: evidence.Signer, bus: Bus | None = None, keys: Mapping[str, evidence.PublicKey] | None = None
    ) -> None:
        self._signer, self._bus = signer, bus
        self._keys = evidence.public_keys({"keys": [signer.public_jwk()]}) if keys is None else keys
        self._stored_counts: dict[tuple[str, int], int] = {}

    def sign(self, topic: str, payload_type: str, partition: int, record: Record) -> Record:
        """Return the record with its envelope."""
        stored = self._stored(topic, payload_type, partition, record)
        return record._replace(dsse=stored or evidence.sign_payload(self._signer, payload_type, record.value))

    def _stored(self, topic: str, payload_type: str, partition: int, record: Record) -> str:
        """Return the good envelope that stands for a record, empty where there is none."""
        if self._bus is None:
            return ""
        place = topic, partition
        if place not in self._stored_counts:
            self._stored_counts[place] = self._bus.end(topic, partition)
        if record.n >= self._stored_counts[place]:
            return ""
        found = self._bus.read(topic, partition, record.n, 1)
        if not found or found[0].value != record.value:
            return ""
        envelope = found[0].headers.get("dsse", "")
        try:
            evidence.verify_envelope(record.value, envelope, self._keys, payload_type)
        except VerificationError:
            return ""
        return envelope
