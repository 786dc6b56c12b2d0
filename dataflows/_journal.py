"""Journal of a run: compatibility check, fold and writer.

- Compatibility: every dataflow asks before it writes whether the journal was begun with its own configuration. One that
  only decides or seals would else put the key of one environment under the commands of another. A journal that lost its
  end, by a backup that was older than the other topics, is refused with live inputs; with bounded ones the same slices
  come again. A new version of Seawall takes over only where all that the earlier one cut is decided.
- Fold: the state of a journal, from which a sequencer goes on.
- Writer: the slices of finished steps and the records that were rejected, in transactions of whole steps.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec

import seawall
from seawall.connectors.bus import Bus, Follower, Writer, decided_slices, open_bus
from seawall.dataflows._sources import Clock
from seawall.operators.core.journal import JournalState, WriteStep
from seawall.schemas.configuration import Configuration, check_unchanged, load_configuration
from seawall.schemas.errors import BusError, Gap, UsageError
from seawall.schemas.records import Stored, check_decided_alike, decides_alike, decode_slice
from seawall.schemas.telemetry import Telemetry

# Does a dataflow go with what stands on its bus? Looked at before it writes anything, whatever starts it.
#
# Every dataflow asks whether the journal was begun with its own configuration: one that only decides or seals would
# else put the key of one environment under the commands of another.
#
# A journal that lost its end, by a backup that was older than the other topics, would be cut anew: with live inputs in
# other places, under decisions that stand already. With bounded inputs the same slices come again, so nothing is
# refused. (A recovery store that stands behind another journal is the source's to tell,
# ``connectors/bus/_bytewax.py``.)


def load_compatible(path: str | Path) -> Configuration:
    """Return the configuration of a file that goes with the journal on its bus.

    Raises
    ------
    UsageError
        It is wrong, or the journal was begun with another one (``check_journal``).
    """
    configuration = load_configuration(path)
    bus = open_bus(configuration.bus, configuration.directory)
    try:
        check_journal(bus, configuration)
    finally:
        bus.close()
    return configuration


def check_journal(bus: Bus, configuration: Configuration) -> None:
    """Refuse a journal that was begun with another environment, issuer, number of shards, slice length or currency.

    Raises
    ------
    UsageError
        Names what differs. A first slice that retention took, or that is none, is left to those who need it.
    """
    for stored in bus.read("journal", 0, bus.start("journal", 0), 1):
        with contextlib.suppress(msgspec.MsgspecError):
            check_unchanged(configuration, decode_slice(stored.value).configuration or {})


def check_compatibility(bus: Bus, configuration: Configuration) -> None:
    """Refuse to go on with a live journal that is shorter than what was decided on it.

    Raises
    ------
    Gap
        Names the shard, where both end, and what to do.
    """
    for shard in range(configuration.shards if configuration.topics else 0):
        end, done = bus.end("journal", shard), decided_slices(bus, shard)
        if done > end:
            text = f"audit/{shard} has decided on slice {done - 1}, but journal/{shard} ends before {end}"
            raise Gap(f"{text}: they do not join; bring the journal back from a backup that is as new as the audit")


# Where a journal stands: the fold of its slices, from which a sequencer goes on.

READ_RECORDS = 5000


def fold_journal(
    bus: Bus, shards: int, standing: JournalState | None = None, follower: Follower | None = None
) -> JournalState:
    """Return where the journal stands.

    Parameters
    ----------
    standing
        What an earlier fold returned, to go on from there.
    follower
        Of the journal, to be polled instead: cheaper, and the newest records may be left for the next time.

    Raises
    ------
    UsageError
        The journal has more shards than the configuration.
    BusError
        A slice is missing or cannot be read.
    """
    partitions = bus.partitions("journal")
    if partitions and partitions[-1] >= shards:
        raise UsageError(f"shards is {shards} but the journal has partition {partitions[-1]}; set shards back")
    standing = standing or JournalState(shards)
    read = partial(bus.read, "journal") if follower is None else follower.poll
    for shard in range(shards):
        for value in _values(read, shard, standing.seqs[shard]):
            try:
                standing.apply(shard, value)
            except msgspec.MsgspecError as error:
                raise BusError(
                    f"journal partition {shard} offset {standing.seqs[shard]} is no slice: {error}"
                ) from None
    return standing


def _values(read: Callable[[int, int, int], list[Stored]], shard: int, offset: int) -> Iterable[bytes]:
    while records := read(shard, offset, READ_RECORDS):
        for record in records:
            yield record.value
        offset = records[-1].offset + 1


# What the sequencer writes: the slices of finished steps, and the records that it rejected, in one transaction.
#
# Each transaction is of whole steps over all shards, so after a crash all shards stand at the same tick. Where records
# wait to be taken, one is committed while the next is made; where none do, what was cut is waited for, because a commit
# beside other work takes longer.

WAITING_SECONDS_MAX = 0.2
WAITING_BYTES_MAX = 2 * 1024 * 1024


class JournalWriter:
    """Writes journal and rejects of one journal.

    Parameters
    ----------
    writer
        Of the partitions of the journal, and of the one of the rejects that is the sequencer's.
    shards
        Their number.
    clock
        Microseconds since the epoch, for those who watch how old a cut is when it stands, or was submitted.

    Attributes
    ----------
    slices
        How many were given to the writer.
    """

    def __init__(self, writer: Writer, shards: int, clock: Clock) -> None:
        self._writer, self._shards, self._clock = writer, shards, clock
        self._waiting, self._given_at = 0, time.monotonic()  # bytes that were not given to the writer
        self._submitted = False
        telemetry = Telemetry.current()
        self._watched = None if telemetry is None else telemetry.part("sequence")
        self.slices = 0

    def append(self, steps: list[WriteStep]) -> None:
        """Give finished steps to the writer, and forget them."""
        append, rejects = self._writer.append, self._shards
        for slices, refused in steps:
            for record in refused:
                number = str(self._writer.end("rejects", rejects))
                append("rejects", rejects, "sequence", record.value, {"seawall-id": record.id, "seawall-n": number})
                self._waiting += len(record.value)
            for shard, seq, value in slices:
                number = str(seq)
                append("journal", shard, str(shard), value, {"seawall-id": f"{shard}-{seq}-0", "seawall-n": number})
                self._waiting += len(value)
            self.slices += len(slices)
        steps.clear()

    def submit_if_due(self) -> None:
        """Begin to make durable what was given where it is much, or has waited long."""
        if self._waiting >= WAITING_BYTES_MAX or time.monotonic() - self._given_at >= WAITING_SECONDS_MAX:
            self.submit()

    def submit(self, cut_us: int = 0) -> None:
        """Begin to make durable what was given, unless the writer is still at work and it is little.

        Parameters
        ----------
        cut_us
            What the clock cut last, where it does.
        """
        if self._waiting and (self._waiting >= WAITING_BYTES_MAX or self._writer.is_idle()):
            self._give(self._writer.submit, cut_us)
            self._submitted = True

    def flush(self, cut_us: int = 0) -> None:
        """Make durable all that was given or submitted; ``cut_us`` as of ``submit``."""
        if self._waiting or self._submitted:
            self._give(self._writer.flush, cut_us)
            self._submitted = False

    def _give(self, take: Callable[[], None], cut_us: int) -> None:
        began = time.perf_counter()
        take()
        if self._watched is not None:
            self._watched.work.observe(time.perf_counter() - began)
            if cut_us:
                self._watched.ages.observe((self._clock() - cut_us) / 1e6)
        self._waiting, self._given_at = 0, time.monotonic()

    def close(self) -> None:
        """Let the journal go; what was not flushed is not written."""
        self._writer.close()


# Where one version of Seawall ends and the next begins: at a slice behind all that the earlier one has decided.
#
# The journal says which version decides from which slice on (``schemas/records.py``). A version that decides otherwise
# therefore cuts nothing before every slice of the earlier one has its audit record, and only when it is told to.


def check_takeover(bus: Bus, shards: int, code: str, takes_over: bool) -> None:
    """Check that the journal is this version's to cut on.

    Parameters
    ----------
    bus
        Of the journal.
    shards
        Of the journal.
    code
        The version that decides at the end of the journal.
    takes_over
        Whether this version is to decide from here on.

    Raises
    ------
    UsageError
        Names the first shard with slices that only the earlier version can decide.
    VersionMismatch
        Says how to take over.
    """
    if decides_alike(code):
        return
    for shard in range(shards):
        done, end = decided_slices(bus, shard), bus.end("journal", shard)
        if done < end:
            text = f"slices {done} to {end - 1} of shard {shard} were cut by Seawall {code} and are not decided yet"
            raise UsageError(
                f"{text}: let {code} finish them (`seawall run` with --only risk, until it idles), then start "
                f"{seawall.__version__}"
            )
    if not takes_over:
        check_decided_alike({"code": code}, 0, bus.end("journal", 0))
