"""The live system at a point in time, to be stressed: all states of `sequence` and `risk`, and copies of them.

The journal is replayed once. From then on a :class:`Stand` makes as many systems as there are scenarios, each from the
operators' own snapshots, as a restart would: what a scenario does is decided by the same states that decide live.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from seawall.connectors.bus import Bus
from seawall.operators.core.audit import AuditState
from seawall.operators.core.conduct import ConductState
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.firm import KEY, FirmState
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.wide import WideForesightState
from seawall.operators.core.frames import Audited, Frame
from seawall.operators.core.limits import LimitsState
from seawall.operators.core.marks import STANDING
from seawall.operators.core.mitigation.plan import MitigationState
from seawall.operators.core.risk import Decider, Unsigned
from seawall.operators.core.slicing import PLACE, SCHEMA, SlicingState
from seawall.operators.core.snapshot import pack
from seawall.operators.core.standing import Standing
from seawall.ops.verification.replay import in_order
from seawall.schemas import events as ev
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.slices import decode_slice


class System:
    """Risk of all shards and of the firm: ``step(value)``; ``frames`` has the last measures of each shard and all."""

    def __init__(self, shards: int) -> None:
        self.exposure = [ExposureState(shard) for shard in range(shards)]
        self.conduct = [ConductState(shard) for shard in range(shards)]
        self.foresight = [ForesightState(shard) for shard in range(shards)]
        self.deciders = [Decider(str(shard), shard, Unsigned()) for shard in range(shards)]
        self.firm, self.systemic = FirmState(), WideForesightState(shards)
        self.firm_decider = Decider(KEY, shards, Unsigned())
        self.frames: dict[str, Frame] = {}

    def step(self, value: bytes) -> Iterable[Audited]:
        """Apply one journal value; return the records of its slice, and of the seconds that it completes."""
        piece = decode_slice(value)
        shard = piece.shard
        frame = self.exposure[shard].step(piece, hashlib.sha256(value).hexdigest())
        frame = self.foresight[shard].step(self.conduct[shard].step(frame))
        told = [self._decided(self.deciders[shard], frame)]
        for wide in self.firm.step(frame.partial) if frame.partial is not None else ():
            told.append(self._decided(self.firm_decider, self.systemic.step(wide)))
        return told

    def _decided(self, decider: Decider, frame: Frame) -> Audited:
        if frame.decides:
            self.frames[frame.key] = frame
        return decider.step(frame)

    def snapshot(self) -> dict[str, Any]:
        """Return the snapshots of all states; :meth:`restore` makes an equal system of them."""
        return {
            "shards": [
                (one.snapshot(), two.snapshot(), three.snapshot(), _snapshot(decider))
                for one, two, three, decider in zip(
                    self.exposure, self.conduct, self.foresight, self.deciders, strict=True
                )
            ],
            "firm": (self.firm.snapshot(), self.systemic.snapshot(), _snapshot(self.firm_decider)),
            "frames": dict(self.frames),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "System":
        """Return the system of a snapshot."""
        self = cls(0)
        for at, (exposure, conduct, foresight, decider) in enumerate(state["shards"]):
            self.exposure.append(ExposureState.restore(exposure))
            self.conduct.append(ConductState.restore(conduct))
            self.foresight.append(ForesightState.restore(foresight))
            self.deciders.append(_restored(str(at), at, decider))
        firm, systemic, decider = state["firm"]
        self.firm, self.systemic = FirmState.restore(firm), WideForesightState.restore(systemic)
        self.firm_decider = _restored(KEY, len(self.exposure), decider)
        self.frames = dict(state["frames"])
        return self


def _snapshot(decider: Decider) -> tuple[bytes, bytes, bytes]:
    return decider.limits.snapshot(), decider.mitigation.snapshot(), decider.audit.snapshot()


def _restored(key: str, partition: int, state: tuple[bytes, bytes, bytes]) -> Decider:
    self = Decider(key, partition, Unsigned())
    self.limits = LimitsState.restore(state[0])
    self.mitigation = MitigationState.restore(state[1])
    self.audit = AuditState.restore(state[2])
    return self


class Price(NamedTuple):
    """The last price of an instrument at a venue, or across venues where that is empty."""

    instrument: str
    venue: str
    price: float
    robust: bool


class Stand(NamedTuple):
    """A run as it stood after its last slice.

    Attributes
    ----------
    as_of_us
        The end of that slice.
    digest
        SHA-256 of the journal's values, in order: what results may be kept by.
    signals
        The last row of each instrument that came as a signal.
    volatilities
        The last implied volatility of each option that has one.
    limits
        The ids of those in force.
    """

    configuration: Configuration
    as_of_us: int
    digest: str
    system: dict[str, Any]
    slicing: bytes
    prices: list[Price]
    signals: dict[str, ev.SignalRow]
    instruments: dict[str, ev.Instrument]
    assets: dict[str, ev.Asset]
    counterparties: dict[str, ev.Counterparty]
    venues: frozenset[str]
    volatilities: dict[str, float]
    limits: tuple[str, ...]

    def begin(self) -> tuple[SlicingState, System]:
        """Return a sequencer and a system that go on from here, independent of all others."""
        return SlicingState.restore(self.slicing, self.configuration), System.restore(self.system)


def stand(configuration: Configuration, bus: Bus, seen: Callable[[], None] = lambda: None) -> Stand:
    """Replay a run's journal and return where it stands; ``seen`` is called once per slice.

    Raises
    ------
    UsageError
        There is no journal.
    """
    shards = configuration.shards
    standing, system, digest = Standing(shards), System(shards), hashlib.sha256()
    signals: dict[str, ev.SignalRow] = {}
    for value in in_order(bus, shards):
        seen()
        piece = decode_slice(value)
        digest.update(value)
        standing.apply(piece.shard, value)
        system.step(value)
        for event in piece.events if piece.shard == 0 else ():
            if isinstance(event, ev.Signal):
                signals |= {row.instrument: row for row in event.instruments}
    if not standing.as_of_us:
        raise UsageError("the run has no journal yet; run it first: seawall run CONFIG.toml")
    standing.positions.pop(PLACE.key, None)
    folded = {"folded": standing.snapshot(), "waiting": [], "number": 0, "rejects": 0}
    ledger = system.exposure[0].ledger
    assert ledger is not None
    book = ledger.directory
    return Stand(
        configuration, standing.as_of_us, digest.hexdigest(), system.snapshot(), pack(SCHEMA, folded), _prices(ledger),
        signals, {one.instrument: one for one in book.instrument_records}, dict(book.asset_records),
        dict(book.counterparty_records), frozenset(book.venues), _volatilities(ledger),
        tuple(standing.admission.policy.limits),
    )  # fmt: skip


def _prices(ledger: Any) -> list[Price]:
    rows, names = ledger.marks.rows, list(ledger.directory.instruments)
    venues = {number: name for name, number in ledger.directory.venues.items()}
    found = []
    for at in range(rows.size):
        price = float(rows["price"][at])
        if price > 0:
            venue = int(rows["venue"][at])
            robust = int(rows["standing"][at]) == STANDING["robust"]
            found.append(Price(names[int(rows["instrument"][at])], venues.get(venue, ""), price, robust))
    return found


def _volatilities(ledger: Any) -> dict[str, float]:
    names = list(ledger.directory.instruments)
    known = ledger.sheet.volatilities()
    places = ledger.sheet.terms.instrument.tolist()
    return {names[number]: float(value) for number, value in zip(places, known, strict=False) if 0 < float(value) < 10}
