"""Admission: what a record may name, given the records taken before it in merge order.

The directory is a fold of the journal's reference records. Instruments and accounts are numbered in order of their
first record (``schemas/slices.py``). A later record may change terms, but not what positions and shards were built on.
"""

from typing import Any, NamedTuple

import msgspec

from seawall.operators.core.directory import shard_of
from seawall.operators.core.policy import Policy
from seawall.operators.core.situation import asked_of
from seawall.schemas import events as ev
from seawall.schemas.decimals import Scale, parse_scale
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.evidence.keyset import KeySet
from seawall.schemas.limit_documents import check_document
from seawall.schemas.measures import check_foreseen
from seawall.schemas.releases import check_release
from seawall.schemas.slices import Reference

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
        self.by_venue = "weights" in asked_of(configuration)
        self._forecasts = configuration.get("forecasts", {})

    @property
    def foresees(self) -> bool:
        """Whether forecasts are made, so that open interest is journaled."""
        return bool(self._forecasts.get("enabled"))

    def check_limits(self, document: dict[str, Any], as_of_us: int) -> None:
        """Check a limit document that is to count from the slice that ends at ``as_of_us``, or raise Rejected."""
        found = check_document(document, self.policy, self.keys, self._issuer, self._environment, as_of_us)
        wrong = check_foreseen((*found.set, *found.override), self._forecasts)
        if wrong:
            raise Rejected(Reason.DOCUMENT_MUST_NAME_MEASURES_THAT_ARE_COMPUTED, wrong)

    def check_measures(self) -> None:
        """Check that what the limits in force name is still computed, or raise UsageError."""
        wrong = check_foreseen((*self.policy.limits.values(), *self.policy.overrides.values()), self._forecasts)
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
