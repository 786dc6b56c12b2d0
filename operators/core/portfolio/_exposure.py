"""Exposure: one slice of the journal in, the measures of every scope of the shard out.

Procedure, once per slice
-------------------------
1. Take configuration and reference records.
2. Take marks, opening reports, transfers and fills; what cannot be taken becomes a reject with its original bytes.
3. Revalue the whole book with a few vector operations, once, at ``as_of``.
4. Write the rows that moved by more than ``exposure_change_min``.

Sums run in the order of rows (``bincount``), which is part of the state, so results do not depend on how slices are
batched, on the host or on the numpy version (architecture.md, "Same bits").
"""

from typing import Any

import numpy as np

import seawall
from seawall.operators.core import base
from seawall.operators.core.base import (
    CAUSES_MAX,
    ComputationInputs,
    Events,
    ExternalEvent,
    FillCauses,
    ForecastInputs,
    MarketConditions,
    MeasuredSlice,
    Measures,
    MeasureTable,
    Moment,
    Outputs,
    Ownership,
    ShardForecast,
    ShardSummary,
    pack,
    unpack,
)
from seawall.operators.core.portfolio._decision_inputs import (
    NEEDS_MARKETS,
    LossBookBuilder,
    account_trades,
    computations_required,
    firm_computation_inputs,
    hedge_instruments,
    learn_depths,
    open_positions_of,
    systemic_inputs,
)
from seawall.operators.core.portfolio._ledger import Ledger
from seawall.operators.core.portfolio._observations import (
    PriceStateMonitor,
    alerts_of,
    external_events_of,
    firm_external_events,
    firm_forced_fills,
    forced_fills,
)
from seawall.operators.core.portfolio._trades import activity_of, take_slice
from seawall.operators.core.pricing import VolatilityState
from seawall.schemas import events as ev
from seawall.schemas.errors import InvariantError, SnapshotError
from seawall.schemas.records import Slice, check_decided_alike, decides_alike

SCHEMA = "exposure/10"
MINUTE_US = 60_000_000


class ExposureState:
    """The exposure operator of one shard: ``step(slice, digest) -> MeasuredSlice``.

    Parameters
    ----------
    shard
        The shard, also the partition of its records. Everything else comes from the journal's first slice.
    """

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.seq = -1
        self.configuration: dict[str, Any] = {}
        self.ledger: Ledger | None = None
        self._own: dict[str, Any] | None = None  # the configuration of which it is known that this program decides
        self._second_fills: list[str] = []
        self._second_news: list[list[str]] = []
        self._second_alerts: list[dict[str, Any]] = []
        self._second_configuration: dict[str, Any] | None = None
        self._second_limits: list[dict[str, Any]] = []
        self._markets = VolatilityState()
        self._derived = False
        self._ratings: dict[str, str] = {}
        self._house: frozenset[str] = frozenset()
        self._closable: frozenset[str] = frozenset()
        self._asked: frozenset[str] = frozenset()  # what the playbook has computed
        self._hedges: list[str] = []  # and with what it hedges
        self._adapts = False  # whether limits or commands depend on markets
        self._watches = self._foresees = False  # whether anyone wants to know what accounts do, and what may come
        self._loss_books: LossBookBuilder | None = None  # where losses are measured
        self._depths: dict[str, list[Any]] = {}
        self._minute = -1  # of event time, in which the second operator heard of our surroundings last
        self._writer = base.ShardRecordWriter(shard)
        self._watch = PriceStateMonitor()
        self._noted = True  # whether rows may say other than that all is valued
        self._held: tuple[int, ...] = ()  # what was held, counted, when states of prices were looked at last

    def step(self, piece: Slice, digest: str) -> MeasuredSlice:
        """Apply one slice.

        Parameters
        ----------
        piece
            The slice whose ``seq`` follows the last one taken.
        digest
            SHA-256 (hex) of its bytes, for the audit.

        Raises
        ------
        InvariantError
            The slice is not the next one of this shard.
        """
        if piece.shard != self.shard:
            raise InvariantError(f"shard {self.shard} was given a slice of shard {piece.shard}")
        if piece.seq != self.seq + 1:
            raise InvariantError(f"shard {self.shard} stands at slice {self.seq} and was given {piece.seq}")
        self.seq = piece.seq
        if piece.configuration is not None:
            self._configure(piece.configuration)
            self._second_configuration = piece.configuration
        ledger = self.ledger
        if ledger is None:
            raise InvariantError("the journal's first slice carries no configuration")
        out = base.SliceRecords(self._writer, piece)
        take_slice(ledger, piece, out)
        if piece.marks is not None:
            self._watch.hear(piece.marks.instrument)
        elif piece.events:  # debts and terms in assets without a price
            self._watch.until_us = -1
        if piece.fills is not None:
            self._second_fills = (self._second_fills + piece.fills.id[:CAUSES_MAX])[:CAUSES_MAX]
        decides = not piece.more
        if (piece.second and ledger.moves_with_time()) or piece.as_of_us > ledger.doubts.due_us >= 0:
            ledger.touch_values()
        tables: dict[str, MeasureTable] = {}
        if decides:
            changed = ledger.take_changed()
            tables = ledger.measure(piece.as_of_us, piece.second) if changed else ledger.tables or ledger.measure(None)
            if changed or piece.second:
                self._write(ledger, piece, tables, changed, out)
        measured = self._measured(piece, digest, tables, out)
        if measured.measures.moment.second:
            self._second_fills, self._second_news, self._second_configuration = [], [], None
            self._second_limits, self._second_alerts = [], []
        return measured

    def _write(
        self, ledger: Ledger, piece: Slice, tables: dict[str, MeasureTable], changed: bool, out: base.SliceRecords
    ) -> None:
        """Write the rows that moved, with the states of their prices; where these changed, without rows too.

        And why P&L moved, where a minute ends that is explained.
        """
        states: dict[str, list[str]] = {}
        told = False
        marks, directory = ledger.marks, ledger.directory
        held = (
            ledger.open.changes,
            len(ledger.balances.assets),
            len(ledger.expiring),
            directory.version,
            marks.set_back,
        )
        if piece.as_of_us > self._watch.until_us or held != self._held:
            self._held = held
            states = self._watch.states(ledger, piece.as_of_us)
            told = self._watch.look(states, out)
        doubt, was = ledger.doubts.found, self._noted
        self._noted = doubt is not None and bool(doubt.notes)
        notes = doubt.notes if doubt is not None and doubt.notes else {} if was else None
        out.exposures(tables if changed else {}, states, float(self.configuration["exposure_change_min"]), told, notes)
        if ledger.explain.on and piece.second and ledger.explain.close(piece.as_of_us, ledger.account_pnl):
            out.explained(ledger.explain.rows())

    def check_version(self, piece: Slice) -> None:
        """Check, before it is taken, that a slice is this program's to decide; engines do, a laboratory does not.

        Raises
        ------
        VersionMismatch
            Another version of Seawall decides there.
        """
        configuration = self.configuration if piece.configuration is None else piece.configuration
        if configuration is not self._own:
            check_decided_alike(configuration, piece.shard, piece.seq)
            if not decides_alike(self.configuration.get("code", "")):
                raise SnapshotError(f"the state of shard {self.shard} is that of an earlier version's rules")
            self._own = configuration

    def take_over(self, counts: dict[str, int]) -> None:
        """Go on under the rules of this version after an earlier one, which left so many records by topic."""
        self.configuration = {**self.configuration, "code": seawall.__version__}
        self._writer.begin_afresh(counts)

    def _configure(self, configuration: dict[str, Any]) -> None:
        if self.ledger is None:
            self.ledger = Ledger(self.shard, configuration)
        self.ledger.configure(configuration)
        self.configuration, self._held = configuration, ()
        self._switch()

    def _switch(self) -> None:
        """Derive from the configuration what is wanted; journals of before lack some of its tables."""
        self._asked, self._hedges = computations_required(self.configuration), hedge_instruments(self.configuration)
        limits = self.configuration["limits"]
        adapt = bool(limits.get("documents")) or any("scaling" in limit for limit in limits["limits"])
        self._adapts = adapt or bool(self._asked & NEEDS_MARKETS)
        self._watches = bool(self.configuration.get("conduct", {}).get("enabled"))
        section = self.configuration.get("forecasts", {})
        self._foresees = bool(section.get("enabled"))
        self._loss_books = LossBookBuilder() if self._foresees and section.get("losses") else None

    def _measured(
        self, piece: Slice, digest: str, tables: dict[str, MeasureTable], out: base.SliceRecords
    ) -> MeasuredSlice:
        ledger = self.ledger
        assert ledger is not None
        decides, as_of_us = not piece.more, piece.as_of_us
        if ledger.explain.named and decides:
            tables = ledger.explain.widened(tables, ledger.account_pnl)
        second = piece.second and decides
        if piece.reference or not self._derived:
            self._derived = True
            self._ratings, self._house = ledger.directory.ratings(), ledger.directory.house()
            self._closable = ledger.directory.closable()
        events = self._events(piece, ledger, out)
        markets = self._sampled(ledger, as_of_us) if second else None
        positions = ledger.holding if decides else None
        computed = decides and "position" in self._asked
        book = open_positions_of(ledger, self._markets.depths(as_of_us)) if computed else None
        inputs = [[piece.seq, digest]]
        moment = Moment(
            str(self.shard), self.shard, piece.seq, as_of_us, piece.cut_us, decides, second, piece.end, inputs
        )
        standing = (self._ratings, self._house, self._closable)
        return MeasuredSlice(
            Measures(
                moment,
                tables,
                positions,
                ledger.directory.owners,
                markets,
                *standing,
                ComputationInputs(book),
                ledger.doubts.found if decides else None,
            ),
            events,
            Outputs(moment, out.records, out.decisions, configuration=piece.configuration),
            self._summary(ledger, piece, digest, markets) if second else None,
            self._holdings(ledger, as_of_us) if second and self._foresees else None,
        )

    def _events(self, piece: Slice, ledger: Ledger, out: base.SliceRecords) -> Events:
        """Return what happened in a slice, and keep what the firm is to hear of it when the second ends."""
        heard, documents = list[ExternalEvent](), list[dict[str, Any]]()
        if piece.events:
            signalled = [row for event in piece.events for row in getattr(event, "instruments", ())]
            if signalled:
                self._markets.hear_signals(signalled, ledger.directory.instruments)
                if "weights" in self._asked:
                    learn_depths(self._depths, piece.events)
            documents = [event.document for event in piece.events if isinstance(event, ev.Limit)]
            self._second_limits += documents
            heard = external_events_of(piece.events, ledger)
            # Every shard hears of venues, notices and markets; shard 0 tells the firm, alerts their own shard.
            if self.shard == 0:
                self._second_news += map(list, firm_external_events(piece.events, ledger))
                self._second_alerts += alerts_of(piece.events)
        causes = None
        if piece.fills is not None:
            fills = piece.fills
            trades = account_trades(ledger, fills) if "watch" in self._asked else None
            causes = FillCauses(fills.id, fills.account, ledger.directory.named, fills.source, trades)
            if fills.source:
                heard = heard + forced_fills(fills, ledger)
                self._second_news += map(list, firm_forced_fills(fills, ledger))
        if out.news:
            self._second_news += map(list, out.news)
            heard = heard + out.news
        activity = None
        if self._watches or self._foresees:
            activity = activity_of(piece, ledger, bool(self._second_fills))
        return Events(piece.configuration, documents, heard, causes, activity)

    def _holdings(self, ledger: Ledger, as_of_us: int) -> ForecastInputs:
        """Return what forecasts need, of the book as it was last measured."""
        directory, across, marks = ledger.directory, ledger.marks.across(), ledger.marks.rows
        arrays = directory.arrays
        rows = ledger.health.exposed()
        balances = len(rows[0]) - ledger.positions.rows.size
        return ForecastInputs(
            *rows,
            marks["price"][across],
            marks["time_us"][across],
            arrays["underlying"],
            ~arrays["option"],
            list(directory.instruments),
            list(directory.underlyings),
            self._markets.depths(as_of_us),
            ledger.contributions.worth.copy(),
            np.append(ledger.values.robust[0], np.zeros(balances)),
            Ownership(
                arrays["netting_set"],
                arrays["counterparty"],
                arrays["venue_or_none"],
                arrays["group"][arrays["counterparty"]],
                arrays["sign"],
                arrays["stake"],
                arrays["enforceable"][arrays["netting_set"]],
                len(directory.venues),
                len(directory.groups),
            ),
            None if self._loss_books is None else self._loss_books.of(ledger, as_of_us),
        )

    def _sampled(self, ledger: Ledger, as_of_us: int) -> MarketConditions | None:
        """Return what the marks say of markets at the end of a second, None where no limit may ask for it."""
        marked, across, marks = ledger.marks.take_marked(), ledger.marks.across(), ledger.marks.rows
        price, time_us = marks["price"], marks["time_us"]
        if marked is None:
            self._markets.sample(price[across], time_us[across])
        else:
            for number in marked:
                row = across.item(number)
                self._markets.sample_one(number, price.item(row), time_us.item(row))
        return self._markets.markets(ledger.directory, as_of_us) if self._adapts else None

    def _forecast_inputs(self, ledger: Ledger, as_of_us: int) -> ShardForecast | None:
        """Return what systemic indicators need, once a minute where forecasts are made."""
        minute = as_of_us // MINUTE_US
        if not self._foresees or minute == self._minute:
            return None
        self._minute = minute
        return systemic_inputs(ledger)

    def _summary(self, ledger: Ledger, piece: Slice, digest: str, markets: MarketConditions | None) -> ShardSummary:
        """Return what the firm needs of this shard at the end of a second."""
        directory, first = ledger.directory, self.shard == 0
        numbered = (directory.groups, directory.underlyings, directory.venues)
        return ShardSummary(
            shard=self.shard,
            seq=piece.seq,
            as_of_us=piece.as_of_us,
            cut_us=piece.cut_us,
            end=piece.end,
            configuration=self._second_configuration,
            news=[ExternalEvent(*item) for item in self._second_news],
            alerts=list(self._second_alerts),
            sums=ledger.wide_sums(),
            named=ledger.wide.named(),
            names=[list(names) for names in numbered] if first else None,
            fills=list(self._second_fills),
            digest=digest,
            markets=markets if first else None,
            limit_documents=list(self._second_limits),
            forecast=self._forecast_inputs(ledger, piece.as_of_us),
            explained=ledger.explain.firm if ledger.explain.on else None,
            explained_us=ledger.explain.times_us,
            doubt=0.0 if ledger.doubts.found is None else ledger.doubts.found.total,
            **firm_computation_inputs(ledger, self._asked, self._hedges, self._markets, self._depths, piece.as_of_us),
        )

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes (arrays copied)."""
        ledger = self.ledger
        return pack(
            SCHEMA,
            {
                "shard": self.shard,
                "seq": self.seq,
                "configuration": self.configuration,
                "ledger": None if ledger is None else ledger.snapshot(),
                "second": [self._second_fills, self._second_news, self._second_configuration, self._second_limits],
                "alerts": self._second_alerts,
                "markets": self._markets.snapshot(),
                "writer": self._writer.snapshot(),
                "watch": self._watch.snapshot(),
                "depths": self._depths,
                "minute": self._minute,
            },
        )

    @classmethod
    def restore(cls, data: bytes) -> "ExposureState":
        """Return the state of a snapshot.

        Raises
        ------
        SnapshotError
            The bytes are damaged or of another version.
        """
        state = unpack(SCHEMA, data)
        self = cls(state["shard"])
        self.seq, self.configuration = state["seq"], state["configuration"]
        if self.configuration:
            self._switch()
        if state["ledger"] is not None:
            self.ledger = Ledger(self.shard, self.configuration)
            self.ledger.configure(self.configuration)
            self.ledger.restore(state["ledger"])
        self._second_fills, self._second_news, self._second_configuration, self._second_limits = state["second"]
        self._second_alerts = state["alerts"]
        self._markets.restore(state["markets"])
        self._writer.restore(state["writer"])
        self._watch.restore(state["watch"])
        self._depths, self._minute = state["depths"], state["minute"]
        return self
