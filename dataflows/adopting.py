"""Limit documents on their way into the journal: those of the configuration's folder that it does not have yet."""

import logging
from typing import Any

from seawall.connectors.limit_documents import Stored, read_documents, read_key_sets
from seawall.operators.core.sequence import Slicer
from seawall.operators.core.standing import Standing
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import Rejected, UsageError

log = logging.getLogger("seawall")


class Adoption:
    """Journals what people signed, at the start and while a run goes on.

    Parameters
    ----------
    configuration
        Names the key sets and the folder of the documents; without any, nothing is adopted.
    standing
        Of the journal: which documents it has.
    """

    def __init__(self, configuration: Configuration, standing: Standing) -> None:
        self._configuration, self._standing = configuration, standing
        self._complaints: set[str] = set()

    def take_keys(self) -> dict[str, Any] | None:
        """Take the last key set; return what the journal says of it."""
        sets = read_key_sets(self._configuration) if self._configuration.limit_documents else []
        if not sets:
            return None
        self._standing.admission.keys = sets[-1]
        return {"version": sets[-1].version, "sha256": sets[-1].sha256}

    def adopt(self, slicer: Slicer) -> None:
        """Journal all documents.

        Raises
        ------
        UsageError
            One of them breaks a rule; it is named.
        """
        self._adopt(read_documents(self._configuration), slicer)

    def adopt_arrived(self, slicer: Slicer) -> None:
        """Take what people signed while the run goes on; what may not be taken is said once and left alone."""
        if not self._configuration.limit_documents:
            return
        try:
            found = read_documents(self._configuration)
        except UsageError as error:
            self._complain(str(error))
            return
        for stored in found:
            try:
                self._adopt([stored], slicer)
            except UsageError as error:
                self._complain(str(error))

    def _adopt(self, documents: list[Stored], slicer: Slicer) -> None:
        """Journal the documents that the journal does not have yet."""
        policy = self._standing.admission.policy
        for stored in documents:
            version, sha256 = stored.document.version, stored.document.sha256
            if version == policy.version and sha256 != policy.sha256:
                raise UsageError(f"{stored.path}: the journal has another version {version}; take this file away")
            ratifies = version in policy.unratified and len(stored.keys) > 1 and version == policy.version
            if version > policy.version or ratifies:
                try:
                    slicer.adopt(stored.envelope)
                except Rejected as error:
                    raise UsageError(f"{stored.path}: {error.reason}: {error.detail}") from error

    def _complain(self, text: str) -> None:
        if text not in self._complaints:
            self._complaints.add(text)
            log.warning("%s", text)
