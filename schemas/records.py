"""Records on the bus: what is appended, and what is read back.

A derived record carries two headers (contract.md, "Output records"): ``seawall-id``, unique within its topic and a
function of the journal, and ``seawall-n``, the number of records before it in its partition. Signed records carry
``dsse`` too.
"""

from typing import NamedTuple


class Record(NamedTuple):
    """One record to append: ``n`` is its place in its partition, ``dsse`` its detached envelope or empty."""

    key: str
    value: bytes
    id: str
    n: int
    dsse: str = ""

    def headers(self) -> dict[str, str]:
        """Return the record's headers in their fixed order."""
        headers = {"seawall-id": self.id, "seawall-n": str(self.n)}
        if self.dsse:
            headers["dsse"] = self.dsse
        return headers


class Stored(NamedTuple):
    """One record as a bus returns it."""

    offset: int
    key: str
    headers: dict[str, str]
    value: bytes
