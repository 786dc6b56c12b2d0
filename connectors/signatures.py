"""Signing commands without ever signing the same one twice.

What a replay produces again already stands on the topic with its signature: that one is verified and reused, so a key
that counts its signatures, or one that has been retired since, is not asked (DESIGN §2).
"""

from seawall.connectors.bus import Bus
from seawall.schemas import dsse
from seawall.schemas.errors import VerificationError
from seawall.schemas.records import Record


class CommandSigner:
    """Signs commands; reuses the signatures that stand on the topic ``commands``.

    Parameters
    ----------
    signer
        The private key.
    bus
        Where earlier commands stand; None signs everything.
    """

    def __init__(self, signer: dsse.Signer, bus: Bus | None = None) -> None:
        self._signer, self._bus = signer, bus
        self._keys = dsse.public_keys({"keys": [signer.public_jwk()]})
        self._stood: dict[int, int] = {}

    def sign(self, partition: int, record: Record) -> Record:
        """Return the record with its envelope."""
        stored = self._stored(partition, record)
        return record._replace(dsse=stored or dsse.sign(self._signer, dsse.COMMAND_TYPE, record.value))

    def _stored(self, partition: int, record: Record) -> str:
        """Return the good envelope that stands for a record, empty where there is none."""
        if self._bus is None:
            return ""
        if partition not in self._stood:
            self._stood[partition] = self._bus.end("commands", partition)
        if record.n >= self._stood[partition]:
            return ""
        found = self._bus.read("commands", partition, record.n, 1)
        if not found or found[0].value != record.value:
            return ""
        envelope = found[0].headers.get("dsse", "")
        try:
            dsse.verify(record.value, envelope, self._keys, dsse.COMMAND_TYPE)
        except VerificationError:
            return ""
        return envelope
