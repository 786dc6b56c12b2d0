"""Directory: the reference data of one shard, as the journal's reference records describe it.

Every shard receives every reference record. Instruments and assets are numbered in order of first mention, accounts by
their ordinal in the journal (``schemas/records.py``) and, where the shard owns them, by a local index; netting sets and
counterparties by a local index in order of first use. The log of applied records is the state: replaying it gives the
same numbers again.
"""

import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.schemas import events as ev
from seawall.schemas.records import Reference

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
CASH = frozenset({"fiat", "stablecoin"})
_LOG: msgspec.json.Decoder[list[Reference]] = msgspec.json.Decoder(list[Reference])


def shard_of(counterparty: str, shards: int) -> int:
    """Return the shard of a counterparty (contract.md, "Shards"): the CRC-32 of its id, modulo ``shards``."""
    return zlib.crc32(counterparty.encode()) % shards


class Directory:
    """Reference data of one shard, with the columns that valuation gathers from.

    Parameters
    ----------
    shard, shards
        Which accounts are this shard's own.
    currency
        The reporting currency; asset number 0.
    """

    def __init__(self, shard: int, shards: int, currency: str) -> None:
        self.shard, self.shards, self.currency = shard, shards, currency
        self.assets: dict[str, int] = {}
        self.asset_records: dict[str, ev.Asset] = {}
        self.pegs: dict[int, int] = {}  # by number of an asset: that of the one which it promises to equal
        self.haircuts: list[float] = []
        self.instruments: dict[str, int] = {}
        self.instrument_records: list[ev.Instrument] = []
        self.expires_us: list[int] = []  # by instrument, 0 for never
        self.accounts: dict[str, int] = {}
        self.account_records: list[ev.Account] = []
        self.local: list[int] = []
        self.own: list[int] = []
        self.own_names: list[str] = []
        self.netting_sets: dict[str, int] = {}
        self.netting_set_records: dict[str, ev.NettingSet] = {}
        self.counterparties: dict[str, int] = {}
        self.counterparty_records: dict[str, ev.Counterparty] = {}
        self.schedules: dict[tuple[str, str], ev.Schedule] = {}
        self.collateral_schedules: dict[tuple[str, str], ev.CollateralSchedule] = {}
        self.version = 0
        self.venues: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        self.underlyings: dict[str, int] = {}
        self.netting_set_names: list[str] = []
        self.counterparty_names: list[str] = []
        self.has_inverse = self.has_haircut = self.has_option = self.has_coin = False
        self.has_schedule = self.has_scenario = False
        self.all_enforceable = True
        self.owners: list[tuple[str, ...]] = []
        self.named: dict[int, tuple[str, str, str]] = {}
        self._log: list[Reference] = []
        self._latest: dict[tuple[str, str], Reference] = {}
        self._encoded: bytes | None = None
        self.asset(currency)

    # --- applying ---------------------------------------------------------------------------------------------------

    def apply(self, record: Reference) -> bool:
        """Take one reference record; return whether it said anything new."""
        key = (type(record).__name__, _name(record))
        if self._latest.get(key) == record:
            return False
        self._latest[key] = record
        self._log.append(record)
        self._encoded = None
        self.forget_arrays()
        match record:
            case ev.Asset():
                self.haircuts[self.asset(record.asset)] = float(record.haircut)
                self.asset_records[record.asset] = record
                if record.peg and record.peg != record.asset:
                    self.pegs[self.assets[record.asset]] = self.asset(record.peg)
                else:
                    self.pegs.pop(self.assets[record.asset], None)
            case ev.Instrument():
                self._apply_instrument(record)
            case ev.Counterparty():
                self.counterparty_records[record.counterparty] = record
                if record.group:
                    self.groups.setdefault(record.group, len(self.groups))
            case ev.NettingSet():
                self.netting_set_records[record.netting_set] = record
                for name in (record.currency or self.currency, *record.eligible):
                    self.asset(name)
            case ev.Account():
                self._apply_account(record)
            case ev.Schedule():
                self.schedules[record.venue, record.instrument] = record
            case ev.CollateralSchedule():
                self.asset(record.asset)
                self.collateral_schedules[record.venue, record.asset] = record
        return True

    def asset(self, name: str) -> int:
        """Return an asset's number; an asset that is first named gets the next."""
        number = self.assets.get(name)
        if number is None:
            number = self.assets[name] = len(self.assets)
            self.haircuts.append(0.0)
        return number

    def issuer(self, asset: str) -> str:
        """Return who issued an asset, or what it is pegged to; empty for nobody."""
        record = self.asset_records.get(asset)
        if record is not None and not record.issuer and record.peg:
            record = self.asset_records.get(record.peg)
        return record.issuer if record is not None else ""

    def forget_arrays(self) -> None:
        """Build the columns anew at their next use; also where an asset was named outside a reference record."""
        self.__dict__.pop("arrays", None)
        self.__dict__.pop("lending", None)
        self.version += 1

    def counterparty(self, name: str) -> int:
        """Return the local number of a counterparty of this shard; one that is first named gets the next."""
        number = self.counterparties.get(name)
        if number is None:
            number = self.counterparties[name] = len(self.counterparties)
            self.counterparty_names.append(name)
            self.forget_arrays()
        return number

    def venue(self, name: str) -> int:
        """Return a venue's number, from 0; a venue that is first named gets the next."""
        if name not in self.venues:
            self.venues[name] = len(self.venues)
            self.forget_arrays()  # of an account without a venue they say how many there are
        return self.venues[name]

    def _apply_instrument(self, record: ev.Instrument) -> None:
        for name in (record.base, record.quote, record.settlement):
            self.asset(name)
        number = self.instruments.setdefault(record.instrument, len(self.instruments))
        if number == len(self.instrument_records):
            self.instrument_records.append(record)
            self.expires_us.append(0)
        self.instrument_records[number], self.expires_us[number] = record, record.expires_us
        self.has_option = self.has_option or record.kind == "option"

    def _apply_account(self, record: ev.Account) -> None:
        number = self.accounts.setdefault(record.account, len(self.accounts))
        if number == len(self.account_records):
            self.account_records.append(record)
            self.local.append(-1)
        self.account_records[number] = record
        if record.venue:
            self.venue(record.venue)  # also for accounts of other shards: all shards number venues alike
        if shard_of(record.counterparty, self.shards) != self.shard:
            return
        if self.local[number] < 0:
            self.local[number] = len(self.own)
            self.own.append(number)
            self.own_names.append(record.account)
        netting_set = record.netting_set or record.account
        if netting_set not in self.netting_sets:
            self.netting_sets[netting_set] = len(self.netting_sets)
            self.netting_set_names.append(netting_set)
        self.counterparty(record.counterparty)
        self.named[number] = (record.account, netting_set, record.counterparty)

    # --- columns ----------------------------------------------------------------------------------------------------

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Columns by name.

        Over instruments ``size``, ``inverse``, ``option``, ``upfront`` (options whose premium is paid), ``spot``,
        margin ``class`` (with ``class_initial`` and ``class_maintenance`` rates),
        ``settlement``, ``base``, ``quote`` and ``underlying``; over own accounts
        ``sign``, ``stake`` (the sign, 0 for agency), ``netting_set``, ``counterparty``, ``venue``, ``books_funding``
        and ``client``; over assets ``haircut`` and ``moves``; and ``netting_set_counterparty`` and ``enforceable``.
        """
        return {**self._instrument_arrays(), **self._account_arrays()}

    @cached_property
    def lending(self) -> "LendingTerms | None":
        """Schedules of lending value that are in force, None where there are none."""
        active = [one for one in self.collateral_schedules.values() if one.status == "active"]
        return LendingTerms.of(active, self.venues, self.assets) if active else None

    def _instrument_arrays(self) -> dict[str, NDArray[Any]]:
        records = self.instrument_records
        underlyings = self.underlyings
        classes: dict[tuple[float, float], int] = {}
        rates = [(float(r.initial_margin_rate or 0), float(r.maintenance_margin_rate or 0)) for r in records]
        margin_class = [classes.setdefault(pair, len(classes)) for pair in rates]
        pairs = list(classes) or [(0.0, 0.0)]
        underlying = [underlyings.setdefault(r.underlying or r.base, len(underlyings)) for r in records]
        inverse = [r.inverse and r.kind != "option" for r in records]  # an inverse option is marked in coin
        self.has_inverse = any(inverse)
        moves = np.array([self._moves(name) for name in self.assets], dtype=bool)
        settled = [self.assets[r.settlement] for r in records]
        self.has_coin = self.has_inverse or bool(moves[settled].any())
        return {
            "size": np.array([float(r.quantity_increment) * float(r.contract_size) for r in records]),
            "inverse": np.array(inverse, dtype=bool),
            "option": np.array([r.kind == "option" for r in records], dtype=bool),
            "upfront": np.array([r.kind == "option" and r.premium == "upfront" for r in records], dtype=bool),
            "spot": np.array([r.kind == "spot" for r in records], dtype=bool),
            "class": np.array(margin_class, dtype=np.int64),
            "class_initial": np.array([pair[0] for pair in pairs]),
            "class_maintenance": np.array([pair[1] for pair in pairs]),
            "settlement": np.array(settled, dtype=np.int64),
            "moves": moves,
            "base": np.array([self.assets[r.base] for r in records], dtype=np.int64),
            "quote": np.array([self.assets[r.quote] for r in records], dtype=np.int64),
            "underlying": np.array(underlying, dtype=np.int64),
        }

    def _moves(self, name: str) -> bool:
        """Tell whether an asset moves with the markets: all do but currencies and the stablecoins that follow them."""
        record = self.asset_records.get(name)
        asset_class = "coin" if record is None else record.asset_class
        return name != self.currency and asset_class not in CASH

    def _account_arrays(self) -> dict[str, NDArray[Any]]:
        own = [self.account_records[number] for number in self.own]
        sets = [self.netting_sets[a.netting_set or a.account] for a in own]
        counterparties = [self.counterparties[a.counterparty] for a in own]
        owner = np.zeros(len(self.netting_sets), dtype=np.int64)
        owner[sets] = counterparties
        self.owners = [self._scopes(account) for account in own]
        terms = [self.netting_set_records.get(name) for name in self.netting_sets]
        groups = [self.counterparty_records.get(name) for name in self.counterparties]
        sign = np.array([1.0 if a.holder == "house" else -1.0 for a in own])
        principal = np.array([0.0 if a.capacity == "agency" else 1.0 for a in own])
        venue = np.array([self.venues[a.venue] if a.venue else -1 for a in own], dtype=np.int64)
        self.has_haircut = any(self.haircuts) or self.lending is not None
        self.has_schedule = any(a.margin_model == "schedule" for a in own)
        self.has_scenario = any(a.margin_model == "scenario" for a in own)
        self.all_enforceable = all(t is None or t.enforceable for t in terms)
        return {
            "local": np.array(self.local, dtype=np.int64),
            "sign": sign,
            "stake": sign * principal,
            "schedule": np.array([a.margin_model == "schedule" for a in own], dtype=bool),
            "scenario": np.array([a.margin_model == "scenario" for a in own], dtype=bool),
            "books_funding": np.array([a.books_funding for a in own], dtype=bool),
            "client": np.array([float(a.holder != "house") for a in own]),
            "netting_set": np.array(sets, dtype=np.int64),
            "counterparty": np.array(counterparties, dtype=np.int64),
            "venue": venue,
            "venue_or_none": np.where(venue < 0, len(self.venues), venue),
            "group": np.array(
                [self.groups.get(g.group if g else "", len(self.groups)) for g in groups], dtype=np.int64
            ),
            "netting_set_counterparty": owner,
            "enforceable": np.array([t is None or t.enforceable for t in terms], dtype=bool),
            "haircut": np.array(self.haircuts),
        }

    def ratings(self) -> dict[str, str]:
        """Return the rating of every counterparty that has one."""
        return {name: record.rating for name, record in self.counterparty_records.items() if record.rating}

    def house(self) -> frozenset[str]:
        """Return the scopes that hold an account of our own here: the account and all above it."""
        owned = (self.account_records[number] for number in self.own)
        scopes = [
            scope
            for account in owned
            if account.holder == "house"
            for scope in (f"account:{account.account}", *self._scopes(account))
        ]
        return frozenset(scopes)

    def closable(self) -> frozenset[str]:
        """Return the accounts of counterparties, and their netting sets, whose terms say ``close_out``."""
        found = []
        for number in self.own:
            account = self.account_records[number]
            terms = self.netting_set_records.get(account.netting_set or account.account)
            if account.holder == "counterparty" and terms is not None and terms.close_out:
                found += [f"account:{account.account}", f"netting_set:{terms.netting_set}"]
        return frozenset(found)

    def _scopes(self, account: ev.Account) -> tuple[str, ...]:
        """Return the scopes that hold an account."""
        scopes = [f"netting_set:{account.netting_set or account.account}", f"counterparty:{account.counterparty}"]
        if account.venue:
            scopes.append(f"venue:{account.venue}")
        party = self.counterparty_records.get(account.counterparty)
        if party is not None and party.group:
            scopes.append(f"group:{party.group}")
        return tuple(scopes)

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the log of records, encoded once per change, compressed, and the order of names outside of it."""
        if self._encoded is None:
            self._encoded = zlib.compress(msgspec.json.encode(self._log), 1)
        return {
            "log": self._encoded,
            "assets": list(self.assets),
            "venues": list(self.venues),
            "counterparties": list(self.counterparties),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replay the log of a snapshot."""
        for name in state["assets"]:
            self.asset(name)
        for name in state["venues"]:
            self.venue(name)
        for name in state["counterparties"]:
            self.counterparty(name)
        for record in _LOG.decode(zlib.decompress(state["log"])):
            self.apply(record)


def _name(record: Reference) -> str:
    match record:
        case ev.Asset():
            return record.asset
        case ev.Instrument():
            return record.instrument
        case ev.Schedule():
            return f"{record.venue} {record.instrument}"
        case ev.CollateralSchedule():
            return f"{record.venue} {record.asset}"
        case ev.Counterparty():
            return record.counterparty
        case ev.NettingSet():
            return record.netting_set
        case ev.Account():
            return record.account


# Lending terms: what a unit of a balance counts as collateral, by the schedules of its account's venue.
#
# A `collateral_schedule` has haircuts by amount held, each for what lies in its tier, as venues publish them;
# beyond its cap nothing counts, and a debt counts ``borrow_weight`` times. A price scales all of it, so what counts is
# linear in the price, and a share of the worth stands for the whole schedule.


class LendingTerms(NamedTuple):
    """Collateral schedules as arrays.

    Attributes
    ----------
    row : int64, shape (venues + 1, assets)
        The schedule of an asset at a venue, -1 for none; the last row is that of accounts without a venue.
    start, width, share : float64, shape (schedules, tiers)
        Where tiers begin, how much lies in them, and what a unit there counts; what a schedule has not is 0 wide.
    borrow_weight : float64, shape (schedules,)
    """

    row: I8
    start: F8
    width: F8
    share: F8
    borrow_weight: F8

    @classmethod
    def of(
        cls, schedules: Iterable[ev.CollateralSchedule], venues: Mapping[str, int], assets: Mapping[str, int]
    ) -> "LendingTerms":
        """Return the terms of the schedules in force; those of venues without an account count for nobody."""
        known = [one for one in schedules if one.venue in venues]
        tiers = max((len(one.tiers) for one in known), default=0)
        row = np.full((len(venues) + 1, len(assets)), -1, dtype=np.int64)
        start, width, share = np.zeros((3, len(known), tiers))
        for number, one in enumerate(known):
            row[venues[one.venue], assets[one.asset]] = number
            cap, size = float(one.cap or "inf"), len(one.tiers)
            start[number, :size] = [min(float(tier.amount_from), cap) for tier in one.tiers]
            width[number, :size] = np.diff(np.append(start[number, :size], cap))
            share[number, :size] = [1.0 - float(tier.haircut) for tier in one.tiers]
        return cls(row, start, width, share, np.array([float(one.borrow_weight) for one in known]))

    def shares(self, venue: I8, asset: I8, amount: F8, otherwise: F8) -> tuple[F8, F8]:
        """Return by balance what a unit of it counts where it is positive, and where it is a debt.

        Parameters
        ----------
        venue, asset : int64
            Of each balance; -1 for no venue.
        amount, otherwise : float64
            Of each balance: its amount, and what a unit counts where it has no schedule or nothing is held.

        Examples
        --------
        >>> import msgspec
        >>> tiers = [{"amount_from": "0", "haircut": "0.1"}, {"amount_from": "10", "haircut": "0.5"}]
        >>> one = msgspec.convert({"type": "collateral_schedule", "venue": "v", "asset": "X", "tiers": tiers,
        ...                        "cap": "30", "borrow_weight": "1.2"}, ev.CollateralSchedule)
        >>> terms = LendingTerms.of([one], {"v": 0}, {"X": 0})
        >>> places = np.array([0, 0, 0, -1]), np.zeros(4, dtype=np.int64)
        >>> share, weight = terms.shares(*places, np.array([20.0, 40.0, -5.0, 20.0]), np.ones(4))
        >>> share.tolist(), weight.tolist()
        ([0.7, 0.475, 1.0, 1.0], [1.2, 1.2, 1.2, 1.0])
        """
        row = self.row[venue, asset]
        at = (row >= 0).nonzero()[0]
        row, held = row[at], amount[at]
        weight, share = np.ones(len(amount)), otherwise.copy()
        weight[at] = self.borrow_weight[row]
        counted = np.zeros(len(at))
        for tier in range(self.start.shape[1]):  # in order: so sums have the same bits everywhere
            inside = np.minimum(np.maximum(held - self.start[row, tier], 0.0), self.width[row, tier])
            counted += inside * self.share[row, tier]
        lent = held > 0
        share[at[lent]] = counted[lent] / held[lent]
        return share, weight
