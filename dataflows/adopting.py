"""Limit documents on their way into the journal: those of the configuration's folder that it does not have yet."""

import logging
from typing import Any

from seawall.connectors.limit_documents import Stored, read_documents, read_key_sets
from seawall.dataflows.inputs import Clock
from seawall.operators.core.sequence import Slicer
from seawall.operators.core.standing import Standing
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import Rejected, UsageError

log = logging.getLogger("seawall")


class Adoption:
    """Journals what people signed, at the start and while a run goes on.

    A document counts from the first slice of its time on. A live run whose slices have not reached that waits for it,
    whether its clock has (after a stop, or behind records of before) or not yet, and takes no later document before.

    Parameters
    ----------
    configuration
        Names the key sets and the folder of the documents; without any, nothing is adopted.
    standing
        Of the journal: which documents it has.
    clock
        Microseconds since the epoch; read of a live run alone.
    """

    def __init__(self, configuration: Configuration, standing: Standing, clock: Clock) -> None:
        self._configuration, self._standing, self._clock = configuration, standing, clock
        self._complaints: set[str] = set()

    def take_keys(self) -> dict[str, Any] | None:
        """Take the last key set; return what the journal says of it."""
        sets = read_key_sets(self._configuration) if self._configuration.limit_documents else []
        if not sets:
            return None
        self._standing.admission.keys = sets[-1]
        return {"version": sets[-1].version, "sha256": sets[-1].sha256}

    def adopt(self, slicer: Slicer) -> None:
        """Journal all documents but those whose time a live run has yet to reach.

        Raises
        ------
        UsageError
            One of them breaks a rule; it is named.
        """
        for stored in read_documents(self._configuration):
            try:
                self._adopt(stored, slicer)
            except Rejected as error:
                if not self._waits(stored):
                    raise UsageError(f"{stored.path}: {error.reason}: {error.detail}") from error
                self._complain_of(stored, error, "is taken when its time has come: ")
                return

    def adopt_arrived(self, slicer: Slicer) -> None:
        """Take what people signed while the run goes on; what may not be taken is said once and left alone."""
        if not self._configuration.limit_documents:
            return
        try:
            found = read_documents(self._configuration)
        except UsageError as error:
            self._complain(str(error), str(error))
            return
        for stored in found:
            try:
                self._adopt(stored, slicer)
            except UsageError as error:
                self._complain(str(error), str(error))
            except Rejected as error:
                if self._waits(stored):
                    self._complain_of(stored, error, "is taken when its time has come: ")
                    return
                self._complain_of(stored, error)

    def _adopt(self, stored: Stored, slicer: Slicer) -> None:
        """Journal a document if the journal does not have it yet; raise Rejected where it may not be."""
        policy = self._standing.admission.policy
        version, sha256 = stored.document.version, stored.document.sha256
        if version == policy.version and sha256 != policy.sha256:
            raise UsageError(f"{stored.path}: the journal has another version {version}; take this file away")
        ratifies = version in policy.unratified and len(stored.keys) > 1 and version == policy.version
        if version > policy.version or ratifies:
            slicer.adopt(stored.envelope)

    def _waits(self, stored: Stored) -> bool:
        """Tell whether a document is refused for its time alone, which the slices of a live run will reach."""
        if not self._configuration.topics:
            return False
        try:
            self._standing.admission.check_limits(stored.envelope, max(self._clock(), stored.document.valid_from_us))
        except Rejected:
            return False
        return True

    def _complain_of(self, stored: Stored, error: Rejected, before: str = "") -> None:
        """Say once of a document which rule it breaks; the detail may tell the time, which is another at each look."""
        self._complain(
            f"{stored.path} {before}{error.reason}", f"{stored.path}: {before}{error.reason}: {error.detail}"
        )

    def _complain(self, key: str, text: str) -> None:
        if key not in self._complaints:
            self._complaints.add(key)
            log.warning("%s", text)
