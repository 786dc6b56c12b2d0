"""Sequencer: chooses times and order of input records and writes them down; no engine.

The only dataflow that looks at clocks and at arrival order; it writes down what it chose (architecture.md, "The
journal rule"). With bounded inputs not even it chooses: the journal is a function of the bytes of inputs and
configuration, wherever it was killed.

1. On start, fold the journal: directory, ordinals, ids, positions, the last tick.
2. Merge the files from there by (effective time, place in ``events``, line), and after them the signals that ``market``
   has made of them; close intervals, and write whole steps.
3. Then follow the live topics and the signals, closing intervals by the clock.

Limit documents and key sets that people signed enter the journal here too (`LimitDocumentIntake`).
"""

import logging
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

from seawall.connectors.bus import Bus
from seawall.connectors.keys import StoredDocument, read_key_sets
from seawall.connectors.mapping import load_mappings
from seawall.dataflows._inputs import FileInputs, LiveInputs, ahead_s, clock_of
from seawall.dataflows._journal import JournalWriter, check_takeover, fold_journal
from seawall.dataflows._sources import Clock
from seawall.operators.core.journal import JournalState, MergedRecord, RecordSequencer
from seawall.schemas.configuration import Configuration, journaled_configuration
from seawall.schemas.errors import Rejected, UsageError
from seawall.schemas.events import NO_TIME
from seawall.schemas.records import decides_alike
from seawall.schemas.telemetry import Telemetry

log = logging.getLogger("seawall")


class LimitDocumentIntake:
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

    def __init__(self, configuration: Configuration, standing: JournalState, clock: Clock) -> None:
        self._configuration, self._journal_state, self._clock = configuration, standing, clock
        self._complaints: set[str] = set()

    def take_keys(self) -> dict[str, Any] | None:
        """Take the last key set; return what the journal says of it."""
        sets = read_key_sets(self._configuration) if self._configuration.limit_documents else []
        if not sets:
            return None
        self._journal_state.admission.keys = sets[-1]
        return {"version": sets[-1].version, "sha256": sets[-1].sha256}

    def adopt(self, slicer: RecordSequencer) -> None:
        """Journal all documents but those whose time a live run has yet to reach.

        Raises
        ------
        UsageError
            One of them breaks a rule; it is named.
        """
        for stored in StoredDocument.read_all(self._configuration):
            try:
                self._take_document(stored, slicer)
            except Rejected as error:
                if not self._waits(stored):
                    raise UsageError(f"{stored.path}: {error.reason}: {error.detail}") from error
                self._complain_of(stored, error, "is taken when its time has come: ")
                return

    def adopt_arrived(self, slicer: RecordSequencer) -> None:
        """Take what people signed while the run goes on; what may not be taken is said once and left alone."""
        if not self._configuration.limit_documents:
            return
        try:
            found = StoredDocument.read_all(self._configuration)
        except UsageError as error:
            self._complain(str(error), str(error))
            return
        for stored in found:
            try:
                self._take_document(stored, slicer)
            except UsageError as error:
                self._complain(str(error), str(error))
            except Rejected as error:
                if self._waits(stored):
                    self._complain_of(stored, error, "is taken when its time has come: ")
                    return
                self._complain_of(stored, error)

    def _take_document(self, stored: StoredDocument, slicer: RecordSequencer) -> None:
        """Journal a document if the journal does not have it yet; raise Rejected where it may not be."""
        policy = self._journal_state.admission.policy
        version, sha256 = stored.document.version, stored.document.sha256
        if version == policy.version and sha256 != policy.sha256:
            raise UsageError(f"{stored.path}: the journal has another version {version}; take this file away")
        ratifies = version in policy.unratified and len(stored.keys) > 1 and version == policy.version
        if version > policy.version or ratifies:
            slicer.adopt(stored.envelope)

    def _waits(self, stored: StoredDocument) -> bool:
        """Tell whether a document is refused for its time alone, which the slices of a live run will reach."""
        if not self._configuration.topics:
            return False
        try:
            self._journal_state.admission.check_limits(
                stored.envelope, max(self._clock(), stored.document.valid_from_us)
            )
        except Rejected:
            return False
        return True

    def _complain_of(self, stored: StoredDocument, error: Rejected, before: str = "") -> None:
        """Say once of a document which rule it breaks; the detail may tell the time, which is another at each look."""
        self._complain(
            f"{stored.path} {before}{error.reason}", f"{stored.path}: {before}{error.reason}: {error.detail}"
        )

    def _complain(self, key: str, text: str) -> None:
        if key not in self._complaints:
            self._complaints.add(key)
            log.warning("%s", text)


BATCH = 1000
SECOND_US = 1_000_000


class Sequencer:
    """Writes the journal of one configuration.

    Parameters
    ----------
    configuration
        What to read and how to cut it.
    bus
        Where journal and rejects stand, and live topics.
    standing
        What an earlier fold of this journal returned.
    take
        Fence whoever cuts this journal, where the bus can.
    clock
        Microseconds since the epoch; None: the machine's. With bounded inputs it decides only what lies in the future.
    takes_over
        Go on with a journal that an earlier version has decided up to its end: for ``take_over`` alone.

    Attributes
    ----------
    earlier
        The version that decides at the end of the journal, where that is another one; else empty.

    Raises
    ------
    ClockError
        The machine's clock jumps while live topics are followed.
    UsageError
        An input cannot be read, or the configuration changed what never may.
    PartitionLocked
        Another sequencer of this journal is alive.

    Notes
    -----
    Each transaction is of whole steps over all shards, so after a crash all shards stand at the same tick.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        clock: Clock | None = None,
        take: bool = False,
        standing: JournalState | None = None,
        takes_over: bool = False,
    ) -> None:
        self._live = bool(configuration.topics)
        self._clock = clock = clock or clock_of(configuration)
        shards = configuration.shards
        written = [("journal", shard) for shard in range(shards)]
        writer = bus.writer([*written, ("rejects", shards)], take)
        self._journal = JournalWriter(writer, shards, clock)
        try:
            writer.end("journal", 0)  # from here on no earlier sequencer writes: what is folded is all there is
            self.standing = fold_journal(bus, shards, standing)
            self._intake = LimitDocumentIntake(configuration, self.standing, clock)
            if self._live:
                self._check_clock(clock())
            code = str((self.standing.configuration or {}).get("code", ""))
            event = journaled_configuration(configuration, self.standing.configuration, self._intake.take_keys())
            self.earlier = "" if decides_alike(code) else code
            check_takeover(bus, shards, code, takes_over)
            inputs = configuration, bus, self.standing, clock, load_mappings(configuration)
            bounded, self._following = FileInputs(*inputs), LiveInputs(*inputs)
            first = NO_TIME if self.standing.as_of_us else self._first_time(bounded)
            self._slicer = RecordSequencer(self.standing, event, bounded.places, configuration.slice_ms * 1000, first)
            self._intake.adopt(self._slicer)
            self.standing.admission.check_measures()
        except BaseException:
            self.close()
            raise
        self._merged: Iterator[MergedRecord] | None = bounded.items()
        telemetry = Telemetry.current()
        if telemetry is not None:
            telemetry.totals |= {"events": lambda: self.events, "late_events": lambda: self.late}

    @property
    def slices(self) -> int:
        """Slices cut."""
        return self._journal.slices

    @property
    def events(self) -> int:
        """Records taken, rejected ones left out."""
        return self._slicer.records - self._slicer.rejected

    @property
    def rejected(self) -> int:
        """Records rejected."""
        return self._slicer.rejected

    @property
    def late(self) -> int:
        """Records earlier than their predecessors, or than an interval that was cut."""
        return self._slicer.late

    def run(self, stop: threading.Event) -> None:
        """Work until bounded inputs end or ``stop`` is set; flush and let the journal go."""
        try:
            while not stop.is_set() and self.step():
                if (rest_s := self._following.rest_s()) > 0:
                    stop.wait(rest_s)
            self._journal.flush(self._following.cut_us)
        finally:
            self.close()

    def step(self) -> bool:
        """Do a bounded amount of work; return False when bounded inputs are finished and there are no live ones."""
        if self._merged is None:
            self._follow()
            return True
        before = self._slicer.records
        self._slicer.add(islice(self._merged, BATCH))
        if self._slicer.records - before == BATCH:
            self._journal.append(self._slicer.steps)
            self._journal.submit_if_due()
            return True
        self._merged = None
        if not self._live:
            self._slicer.finish()
        self._journal.append(self._slicer.steps)
        self._journal.flush()
        return self._live

    def take_over(self) -> None:
        """Cut, in one transaction, the slices in which this version begins to decide; they end a second."""
        if self._live:
            as_of_us = (self.standing.as_of_us // SECOND_US + 1) * SECOND_US
            self._slicer.cut(as_of_us, max(self._clock(), as_of_us))
        else:
            self._slicer.finish()
        self._journal.append(self._slicer.steps)
        self._journal.flush()

    def close(self) -> None:
        """Let the journal go; what was not flushed is not written."""
        self._journal.close()

    def _follow(self) -> None:
        """Take what has arrived on live topics, and write what the clock cuts of it."""
        live_inputs = self._following
        if live_inputs.is_due():
            self._intake.adopt_arrived(self._slicer)
            live_inputs.discover(self._slicer)
        live_inputs.take(self._slicer)
        self._journal.append(self._slicer.steps)
        (self._journal.submit if live_inputs.behind else self._journal.flush)(live_inputs.cut_us)

    def _check_clock(self, now_us: int) -> None:
        """Say so where the journal is ahead of the clock: nothing is cut until the clock is there."""
        if ahead := ahead_s(self.standing.as_of_us, now_us):
            text = "the journal ends %s s after what this machine's clock says, and no slice is cut until it is there"
            log.warning(f"{text}; see to its time service (chronyc tracking, timedatectl)", f"{ahead:,.0f}")

    def _first_time(self, bounded: FileInputs) -> int:
        """Return the first event time of all files; where none has one, that of the live topics, or the clock."""
        found = bounded.first_time()
        if found is None and self._live:
            return self._following.first_time()
        return found or 0
