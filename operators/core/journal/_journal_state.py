"""Journal state: the sequencer's fold of the journal between two ticks, and the directory of admitted names."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from seawall.operators.core.holdings import shard_of
from seawall.operators.core.limits import Policy
from seawall.operators.core.portfolio import computations_required
from seawall.schemas import events as ev
from seawall.schemas.decimals import Scale, parse_scale
from seawall.schemas.errors import Gap, Reason, Rejected, UsageError
from seawall.schemas.evidence import KeySet, LimitDocument, check_release
from seawall.schemas.measures import check_forecast_limits
from seawall.schemas.records import Reference

# Admission: what a record may name, given the records taken before it in merge order.
#
# The directory is a fold of the journal's reference records. Instruments and accounts are numbered in order of their
# first record (``schemas/records.py``). A later record may change terms, but not what positions and shards were built
# on.

INSTRUMENT_NATURE = ("kind", "base", "quote", "settlement", "quantity_increment", "contract_size", "inverse")
ACCOUNT_NATURE = ("counterparty", "holder")


class KnownAccount(NamedTuple):
    """An account's ordinal and shard."""

    ordinal: int
    shard: int


class KnownInstrument(NamedTuple):
    """An instrument's ordinal and quantity increment."""

    ordinal: int
    scale: Scale


class Admission:
    """The sequencer's directory: who and what is known so far."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.accounts: dict[str, KnownAccount] = {}
        self.instruments: dict[str, KnownInstrument] = {}
        self.counterparties: set[str] = set()
        self.scaled: set[tuple[str, str]] = set()
        self._account_records: dict[str, ev.Account] = {}
        self._instrument_records: dict[str, ev.Instrument] = {}
        self._owners: dict[str, str] = {}  # netting set -> counterparty
        self.policy = Policy()
        self.keys: KeySet | None = None  # who may sign limit documents
        self.by_venue = False  # whether the playbook weighs venues, so that their depths are journaled
        self._forecasts: dict[str, Any] = {}  # which of them are made, so that limits may be on them
        self._issuer = self._environment = ""

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take a change of configuration: limits, and for whom limit documents must be."""
        self.policy.configure(configuration["limits"])
        self._issuer, self._environment = configuration["issuer"], configuration["environment"]
        self.by_venue = "weights" in computations_required(configuration)
        self._forecasts = configuration.get("forecasts", {})

    @property
    def foresees(self) -> bool:
        """Return whether forecasts are made, so that open interest is journaled."""
        return bool(self._forecasts.get("enabled"))

    def check_limits(self, document: dict[str, Any], as_of_us: int) -> None:
        """Check a limit document that is to count from the slice that ends at ``as_of_us``, or raise Rejected."""
        found = LimitDocument.admit(document, self.policy, self.keys, self._issuer, self._environment, as_of_us)
        wrong = check_forecast_limits((*found.set, *found.override), self._forecasts)
        if wrong:
            raise Rejected(Reason.DOCUMENT_MUST_NAME_MEASURES_THAT_ARE_COMPUTED, wrong)

    def check_measures(self) -> None:
        """Check that what the limits in force name is still computed, or raise UsageError."""
        wrong = check_forecast_limits((*self.policy.limits.values(), *self.policy.overrides.values()), self._forecasts)
        if wrong:
            raise UsageError(f"{wrong}, or remove the limit, which is in force, with a document first")

    def check_release(self, document: dict[str, Any], as_of_us: int) -> None:
        """Check a release that is to count from the slice that ends at ``as_of_us``, or raise Rejected."""
        check_release(document, self.keys, self._issuer, self._environment, as_of_us)

    def check(self, record: Reference) -> None:
        """Check what a reference record names and what it would change.

        Raises
        ------
        Rejected
            It names something unknown, or changes the nature of something known.
        """
        match record:
            case ev.Account():
                self._check_counterparty(record.counterparty)
                _check_nature(self._account_records.get(record.account), record, ACCOUNT_NATURE)
                self._check_owner(record.netting_set or record.account, record.counterparty)
            case ev.NettingSet():
                self._check_counterparty(record.counterparty)
                self._check_owner(record.netting_set, record.counterparty)
            case ev.Instrument():
                _check_nature(self._instrument_records.get(record.instrument), record, INSTRUMENT_NATURE)
            case ev.Schedule():
                self.instrument(record.instrument)
            case _:
                pass

    def apply(self, record: Reference) -> None:
        """Take a reference record that was checked, or that stands in the journal."""
        match record:
            case ev.Counterparty():
                self.counterparties.add(record.counterparty)
            case ev.NettingSet():
                self._owners.setdefault(record.netting_set, record.counterparty)
            case ev.Account():
                self._account_records[record.account] = record
                self._owners.setdefault(record.netting_set or record.account, record.counterparty)
                if record.account not in self.accounts:
                    shard = shard_of(record.counterparty, self.shards)
                    self.accounts[record.account] = KnownAccount(len(self.accounts), shard)
            case ev.Schedule():
                self._apply_schedule(record)
            case ev.Instrument():
                self._instrument_records[record.instrument] = record
                if record.instrument not in self.instruments:
                    scale = parse_scale(record.quantity_increment)
                    self.instruments[record.instrument] = KnownInstrument(len(self.instruments), scale)
            case _:
                pass

    def _apply_schedule(self, record: ev.Schedule) -> None:
        """Note whether a margin depends on open interest: only then is that journaled."""
        place = (record.venue, record.instrument)
        (self.scaled.add if record.open_interest_upper else self.scaled.discard)(place)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values and records; instruments and accounts in order of their ordinals."""
        return {
            "accounts": [[self._account_records[name], known.shard] for name, known in self.accounts.items()],
            "instruments": [self._instrument_records[name] for name in self.instruments],
            "counterparties": sorted(self.counterparties),
            "scaled": sorted(self.scaled),
            "owners": list(self._owners.items()),
            "policy": self.policy.snapshot(),
            "for": [self._issuer, self._environment, self.by_venue],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``snapshot`` returned, into one that is new."""
        for plain, shard in state["accounts"]:
            account = msgspec.convert(plain, ev.Account)
            self._account_records[account.account] = account
            self.accounts[account.account] = KnownAccount(len(self.accounts), shard)
        for plain in state["instruments"]:
            self.apply(msgspec.convert(plain, ev.Instrument))
        self.counterparties = set(state["counterparties"])
        self.scaled = {(venue, instrument) for venue, instrument in state["scaled"]}
        self._owners = dict(state["owners"])
        self.policy.restore(state["policy"])
        self._issuer, self._environment, self.by_venue = state["for"]

    def account(self, name: str) -> KnownAccount:
        """Return a known account, or raise Rejected."""
        found = self.accounts.get(name)
        if found is None:
            raise Rejected(Reason.ACCOUNT_MUST_BE_KNOWN, f"no record before this one describes the account {name}")
        return found

    def instrument(self, name: str) -> KnownInstrument:
        """Return a known instrument, or raise Rejected."""
        found = self.instruments.get(name)
        if found is None:
            raise Rejected(
                Reason.INSTRUMENT_MUST_BE_KNOWN, f"no record before this one describes the instrument {name}"
            )
        return found

    def positioned(self, name: str) -> KnownInstrument:
        """Return a known instrument in which there are positions, or raise Rejected: fills of spot move balances."""
        found = self.instrument(name)
        if self._instrument_records[name].kind == "spot":
            text = f"instrument is {name}, which is spot: give what is held as a balance_report of its asset"
            raise Rejected(Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, text)
        return found

    def check_party(self, name: str) -> None:
        """Check that a name is ``house`` or a known counterparty."""
        if name != "house":
            self._check_counterparty(name)

    def _check_counterparty(self, name: str) -> None:
        if name not in self.counterparties:
            raise Rejected(
                Reason.COUNTERPARTY_MUST_BE_KNOWN, f"no record before this one describes the counterparty {name}"
            )

    def _check_owner(self, netting_set: str, counterparty: str) -> None:
        owner = self._owners.get(netting_set, counterparty)
        if owner != counterparty:
            raise Rejected(
                Reason.REFERENCE_MUST_NOT_CHANGE_ITS_NATURE, f"netting set {netting_set} is of counterparty {owner}"
            )


def _check_nature(before: Reference | None, record: Reference, fields: tuple[str, ...]) -> None:
    for name in fields if before is not None else ():
        if getattr(before, name) != getattr(record, name):
            raise Rejected(Reason.REFERENCE_MUST_NOT_CHANGE_ITS_NATURE, f"{name} was {getattr(before, name)}")


# Journal state: the fold of a journal that gives the sequencer its state back.
#
# Every shard's slices are applied in order of ``seq``. The directory comes from shard 0, because every shard carries
# every reference record; source positions only ever advance, so the furthest one of any slice holds.

REMEMBERED_MORE = 2_000
"""Risk forgets whole chunks of ids, so it may know up to this many beyond ``fill_memory``; so must the sequencer."""


class RememberedIds:
    """The last ids of one shard, of fills or of transfers.

    Attributes
    ----------
    has
        Tells whether an id is among them.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        # A plain dictionary looks for its oldest key past all that were deleted: 21 µs an id once it is full, not 0.6.
        self._ids: OrderedDict[str, None] = OrderedDict.fromkeys(ids)
        self.has = self._ids.__contains__  # a method of our own costs as much again

    def add(self, names: Iterable[str], count_max: int) -> None:
        """Remember the ids of a slice in its order, and then forget the oldest beyond ``count_max``."""
        ids = self._ids
        ids.update(dict.fromkeys(names))  # one that is remembered stays where it is
        while len(ids) > count_max:
            ids.popitem(last=False)

    def ids(self) -> list[str]:
        """Return what is remembered, oldest first."""
        return list(self._ids)


class _Ids(msgspec.Struct):
    id: list[str]


class _Folded(msgspec.Struct):
    """The fields of a slice that the fold needs."""

    seq: int
    as_of_us: int
    more: bool = False
    second: bool = False
    end: bool = False
    configuration: dict[str, Any] | None = None
    reference: list[Reference] = []
    fills: _Ids | None = None
    transfers: _Ids | None = None
    sources: dict[str, list[int]] = {}
    events: list[msgspec.Raw] = []


_LIMIT = b'{"type":"limit"'
_decoder: msgspec.json.Decoder[_Folded] = msgspec.json.Decoder(_Folded)


def _folded(value: bytes) -> _Folded:
    try:
        return _decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:  # which the decoder lets through
        raise msgspec.DecodeError(str(error)) from None


class JournalState:
    """State of the sequencer between two ticks.

    Attributes
    ----------
    seqs
        Next ``seq`` per shard.
    as_of_us
        The last tick, or the one that is still open; 0 where there is none.
    open
        Shards whose last slice of the tick said ``more``.
    second_open
        The last tick was not the last of its second.
    ended
        The last tick ended a bounded run.
    configuration
        The last configuration event.
    ids_max
        How many ids per shard are remembered.
    positions
        Per source ``[next line or offset, next byte, highest event time]``.
    """

    def __init__(self, shards: int) -> None:
        self.admission = Admission(shards)
        self.seqs = [0] * shards
        self.as_of_us = 0
        self.open: set[int] = set()
        self.second_open = False
        self.ended = False
        self.ids_max = REMEMBERED_MORE
        self.configuration: dict[str, Any] | None = None
        self.positions: dict[str, list[int]] = {}
        self.fills = [RememberedIds() for _ in range(shards)]
        self.transfers = [RememberedIds() for _ in range(shards)]

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take a change of configuration."""
        self.configuration = configuration
        self.admission.configure(configuration)
        self.ids_max = int(configuration["fill_memory"]) + REMEMBERED_MORE

    def apply(self, shard: int, value: bytes) -> None:
        """Take the next slice of a shard, shard 0 first.

        Raises
        ------
        Gap
            The slice is not the next one.
        msgspec.DecodeError
            The value is no slice.
        """
        found = _folded(value)
        if found.seq != self.seqs[shard]:
            raise Gap(f"journal partition {shard}: slice {found.seq} stands where {self.seqs[shard]} belongs")
        self.seqs[shard] += 1
        if found.configuration is not None:
            self.configure(found.configuration)
        for record in found.reference if shard == 0 else ():
            self.admission.apply(record)
        for event in found.events if shard == 0 else ():
            if bytes(event).startswith(_LIMIT):
                document = msgspec.json.decode(event, type=ev.Limit).document
                self.admission.policy.apply(document, found.as_of_us)
        self._remember(shard, found)
        for name, position in found.sources.items():
            if position > self.positions.get(name, []):
                self.positions[name] = position
        if found.more:
            self.open.add(shard)
        else:
            self.open.discard(shard)
        if found.as_of_us > self.as_of_us or (found.as_of_us == self.as_of_us and not found.more):
            self.as_of_us = found.as_of_us
            self.ended = found.end
            if not found.more:
                self.second_open = not found.second

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values and records."""
        return {
            "admission": self.admission.snapshot(),
            "numbers": [self.as_of_us, self.second_open, self.ended, self.ids_max],
            "seqs": list(self.seqs),
            "open": sorted(self.open),
            "configuration": self.configuration,
            "positions": list(self.positions.items()),
            "fills": [memory.ids() for memory in self.fills],
            "transfers": [memory.ids() for memory in self.transfers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``snapshot`` returned, into one that is new."""
        self.admission.restore(state["admission"])
        self.as_of_us, self.second_open, self.ended, self.ids_max = state["numbers"]
        self.seqs, self.open = list(state["seqs"]), set(state["open"])
        self.configuration, self.positions = state["configuration"], {k: list(v) for k, v in state["positions"]}
        self.fills = [RememberedIds(ids) for ids in state["fills"]]
        self.transfers = [RememberedIds(ids) for ids in state["transfers"]]

    def _remember(self, shard: int, found: _Folded) -> None:
        for ids, memory in ((found.fills, self.fills[shard]), (found.transfers, self.transfers[shard])):
            if ids is not None:
                memory.add(ids.id, self.ids_max)
