"""Inputs of decisions and forecasts: a shard's data for computed commands, systemic indicators and loss measures.

Each is made only where the configuration asks for it. Arrays are copied, because measures must not change after
they were made.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import (
    AccountTrade,
    LossBook,
    OpenPositions,
    RiskFactors,
    ShardForecast,
    ordered_sums,
    sum_by,
)
from seawall.operators.core.credit import HOUSE
from seawall.operators.core.holdings import Directory
from seawall.operators.core.portfolio._ledger import Ledger
from seawall.operators.core.pricing import (
    ASKS_50_BP,
    BIDS_50_BP,
    SIGNAL_AGE_US_MAX,
    OptionSheet,
    VolatilityState,
    years_to_expiry,
)
from seawall.schemas import events as ev
from seawall.schemas.measures import ACCOUNT, COUNTERPARTY
from seawall.schemas.records import Fills

# Inputs of computed commands, kept only where a playbook has something computed.
#
# Of a shard its open positions with price and visible depth of their instruments; for the second operator what we have
# at each counterparty and could withdraw or move, depth and fee of each venue, what instruments to hedge with cost, and
# which strategies are where. Arrays are copied, because measures must not change once made.

VenueDepths = dict[str, list[Any]]  # "venue instrument" -> [depth in the reporting currency, event time]


NEEDS_MARKETS = frozenset({"position", "volatility"})
MOVED_MAX = 8  # positions of a counterparty that may be moved: the largest


def computations_required(configuration: dict[str, Any]) -> frozenset[str]:
    """Return what the rules of a configuration have computed.

    And ``positions`` and ``strategy`` where they ask for these, ``watch`` where commands are held against trades.
    """
    found = set()
    watches = ("REDUCE_ONLY", "REDUCE_POSITION") if configuration["playbook"].get("response") else ()
    for command in (command for rule in configuration["playbook"]["rules"] for command in rule["commands"]):
        found |= {command["compute"]} if "compute" in command else set()
        found |= {"positions"} if command.get("positions") else set()
        found |= {"watch"} if command["kind"] in watches else set()
        found |= {"strategy"} if command["target"] == "strategy" else set()
    return frozenset(found)


def hedge_instruments(configuration: dict[str, Any]) -> list[str]:
    """Return the instruments that the rules of a configuration hedge with."""
    commands = (command for rule in configuration["playbook"]["rules"] for command in rule["commands"])
    return sorted({c["instrument"] for c in commands if c["kind"] == "HEDGE" and "compute" in c and "instrument" in c})


def open_positions_of(ledger: Ledger, depth: Any) -> OpenPositions:
    """Return the open positions of a shard as they were measured last."""
    rows, records = ledger.positions.rows, ledger.directory.instrument_records
    held, across, marks = np.flatnonzero(rows["units"]), ledger.marks.across(), ledger.marks.rows
    return OpenPositions(
        rows["account"][held],
        rows["instrument"][held],
        rows["units"][held],
        ledger.values.robust[3][held],
        [record.instrument for record in records],
        [record.quantity_increment for record in records],
        depth,
        marks["price"][across],
        marks["time_us"][across],
    )


def account_trades(ledger: Ledger, fills: Fills) -> list[AccountTrade]:
    """Return the fills of a slice, each with its position after all of them."""
    directory = ledger.directory
    local = directory.arrays["local"][np.array(fills.account, dtype=np.int64)]
    after = ledger.positions.units_of(local, np.array(fills.instrument, dtype=np.int64))
    ids = [f"fill:{fill}" for fill in fills.id]
    names = [directory.instrument_records[number].instrument for number in fills.instrument]
    return list(map(AccountTrade, ids, names, fills.quantity, fills.price, after.tolist()))


def counterparty_holdings(ledger: Ledger, depth: NDArray[np.float64] | None) -> dict[str, list[Any]]:
    """Return what we have at each counterparty at which we have accounts of our own.

    Exposure, free funds, gross notional, highest taker fee, and where ``depth`` (by instrument) is given the largest
    positions: account, instrument, units, notional, margin that moving frees and needs, increment, visible depth.
    """
    directory, accounts, parties = ledger.directory, ledger.tables["account"], ledger.tables["counterparty"]
    gross, equity, initial = (
        accounts.values[accounts.measures.index(name)] for name in ("gross_notional", "equity", "initial_margin")
    )
    fees, found = _fees(ledger), dict[str, list[Any]]()
    for at, number in enumerate(directory.own):
        record = directory.account_records[number]
        if record.holder == "house" and at < len(equity):
            column = directory.counterparties[record.counterparty]
            fee = fees.get(record.counterparty, 0.0)
            row = found.setdefault(record.counterparty, [parties.values[0].item(column), 0.0, 0.0, fee, []])
            row[1] += max(equity.item(at) - initial.item(at), 0.0)
            row[2] += gross.item(at)
            if depth is not None and gross.item(at) > 0:
                row[4] += _movable(ledger, at, initial.item(at) / gross.item(at), depth)
    return found


def _movable(ledger: Ledger, account: int, frees: float, depth: NDArray[np.float64]) -> list[list[Any]]:
    """Return the largest positions of an account; each frees its part of the account's initial margin."""
    rows, records = ledger.positions.rows, ledger.directory.instrument_records
    mine = np.flatnonzero((rows["account"] == account) & (rows["units"] != 0))
    notional = ledger.values.robust[3][mine]
    largest = np.argsort(-notional, kind="stable")[:MOVED_MAX].tolist()
    found = []
    for at in largest:
        number = rows["instrument"].item(mine.item(at))
        record, units = records[number], rows["units"].item(mine.item(at))
        needs = max(frees, float(record.initial_margin_rate or 0))
        deep = float(np.nan_to_num(depth[number])) if number < len(depth) else 0.0
        found.append([ledger.directory.own_names[account], record.instrument, units, notional.item(at), frees, needs,
                      record.quantity_increment, deep])  # fmt: skip
    return found


def hedge_quotes(ledger: Ledger, names: list[str], depth: NDArray[np.float64]) -> dict[str, list[Any]]:
    """Return price, its time, worth and size of an increment, and visible depth of instruments that are known."""
    marks, across, numbers = ledger.marks, ledger.marks.across(), ledger.directory.instruments
    found = {}
    for name in names:
        number = numbers.get(name)
        if number is not None and number < len(depth):
            row, increment = across.item(number), ledger.directory.instrument_records[number].quantity_increment
            price, time_us = marks.rows["price"].item(row), marks.rows["time_us"].item(row)
            found[name] = [price, time_us, abs(marks.unit.item(row)), increment, depth.item(number)]
    return found


def strategies_by_scope(ledger: Ledger) -> dict[str, list[str]]:
    """Return by scope the strategies that hold something in it: accounts and what holds them, and what is held."""
    directory, found = ledger.directory, dict[str, dict[str, None]]()
    for name, account, instrument in ledger.strategies.places():
        record = directory.instrument_records[instrument]
        scopes = [f"account:{directory.own_names[account]}", *directory.owners[account], "firm"]
        scopes += [f"instrument:{record.instrument}", f"underlying:{record.underlying or record.base}"]
        for scope in scopes:
            found.setdefault(scope, {})[name] = None
    return {scope: list(names) for scope, names in found.items()}


def learn_depths(depths: VenueDepths, events: list[Any]) -> None:
    """Take what signals say of the books of single venues."""
    for event in events:
        for row in event.instruments if isinstance(event, ev.Signal) else ():
            for venue in row.venues:
                if venue.depth and not venue.stale:
                    worth = min(venue.depth[BIDS_50_BP], venue.depth[ASKS_50_BP]) * venue.price
                    depths[f"{venue.venue} {row.instrument}"] = [worth, venue.time_us]


def venue_routes(ledger: Ledger, depths: VenueDepths, as_of_us: int) -> dict[str, list[float]]:
    """Return visible depth and the highest taker fee of each venue of which any depth is known."""
    fees, found = _fees(ledger), dict[str, list[float]]()
    for key, (worth, time_us) in sorted(depths.items()):
        venue = key.partition(" ")[0]
        if as_of_us - time_us <= SIGNAL_AGE_US_MAX:
            row = found.setdefault(venue, [0.0, fees.get(venue, 0.0)])
            row[0] += worth
    return found


def firm_computation_inputs(
    ledger: Ledger,
    requested: frozenset[str],
    hedges: list[str],
    markets: VolatilityState,
    depths: VenueDepths,
    as_of_us: int,
) -> dict[str, Any]:
    """Return what a shard adds to the situation of the second operator; shard 0 alone tells of markets."""
    first = ledger.directory.shard == 0
    positions = markets.depths(as_of_us) if "positions" in requested else None
    return {
        "parties": counterparty_holdings(ledger, positions) if "diversify" in requested else None,
        "routes": venue_routes(ledger, depths, as_of_us) if "weights" in requested else None,
        "quotes": hedge_quotes(ledger, hedges, markets.depths(as_of_us)) if hedges and first else None,
        "strategies": strategies_by_scope(ledger) if "strategy" in requested else None,
    }


def _fees(ledger: Ledger) -> dict[str, float]:
    """Return the highest taker fee of each venue."""
    fees: dict[str, float] = {}
    for (venue, _), schedule in ledger.directory.schedules.items():
        fees[venue] = max(fees.get(venue, 0.0), float(schedule.taker_fee_rate or 0))
    return fees


# Inputs of systemic indicators, once a minute where forecasts are made: collateral, claims and own funds.
#
# All shards hear of funding, open interest and prices alike, so shard 0 tells of these. Of collateral every shard tells
# what stands in its own accounts, of claims those in which its own counterparties owe or are owed:
#
# - a counterparty owes the house its current exposure, and what obligations say;
# - the house owes a counterparty the equity of its accounts with us;
# - counterparties owe each other what obligations say.
#
# Own funds are those of the counterparty's record; the house has the equity of its own accounts.

F8 = NDArray[np.float64]
EQUITY, EXPOSURE = ACCOUNT.index("equity"), COUNTERPARTY.index("current_exposure")
EIGHT_HOURS_US: Final = 8 * 3_600_000_000.0


def systemic_inputs(ledger: Ledger) -> ShardForecast:
    """Return collateral, claims and own funds of a shard's book as it was last measured, and on shard 0 the rates."""
    claims, house = claims_of(ledger)
    names = list(ledger.directory.instruments) if ledger.directory.shard == 0 else None
    return ShardForecast(
        collateral=collateral_of(ledger),
        claims=claims,
        own_funds=own_funds_of(ledger),
        house=house,
        funding=None if names is None else ledger.funding.rates(len(names), EIGHT_HOURS_US),
        interest=None if names is None else ledger.margins.interest(names),
    )


def collateral_of(ledger: Ledger) -> F8:
    """Return the worth of all balances above 0, that of stablecoins among them, and what these lack to their pegs."""
    directory, worth = ledger.directory, ledger.marks.asset_worth
    rows, names = ledger.balances.rows, list(directory.assets)
    held = sum_by(rows["asset"], np.maximum(rows["amount"], 0.0), len(names))
    worth = np.append(worth, np.zeros(len(names) - len(worth)))[: len(names)]
    records = [directory.asset_records.get(name) for name in names]
    stable = np.array([one is not None and one.asset_class == "stablecoin" for one in records])
    pegs = [one.peg or directory.currency if one is not None else "" for one in records]
    promised = np.array([worth.item(directory.assets[peg]) if peg in directory.assets else 0.0 for peg in pegs])
    lacking = np.where(stable & (worth > 0), np.maximum(promised - worth, 0.0), 0.0)
    return ordered_sums(np.stack([held * worth, held * worth * stable, held * lacking]))


def claims_of(ledger: Ledger) -> tuple[list[tuple[str, str, float]], float]:
    """Return who owes whom how much, in order of counterparty and of obligation, and the equity of our own accounts."""
    directory, names = ledger.directory, ledger.directory.counterparty_names
    arrays, accounts = directory.arrays, ledger.tables["account"].values
    equity = np.maximum(accounts[EQUITY], 0.0)
    of = arrays["counterparty"][: len(equity)]
    theirs = sum_by(of, equity * arrays["client"][: len(equity)], len(names))
    exposure = ledger.tables["counterparty"].values[EXPOSURE]
    found = [(names[at], HOUSE, exposure.item(at)) for at in (exposure > 0).nonzero()[0].tolist()]
    found += [(HOUSE, names[at], theirs.item(at)) for at in (theirs > 0).nonzero()[0].tolist()]
    for owed in ledger.credit.obligations.claims():
        amount = owed.amount * ledger.marks.asset_worth.item(owed.asset)
        found += [(owed.borrower, owed.lender, amount)] if amount > 0 else []
    ours = equity * (1.0 - arrays["client"][: len(equity)])
    return found, float(ordered_sums(ours))


def own_funds_of(ledger: Ledger) -> dict[str, float]:
    """Return the own funds of the shard's counterparties of which a record tells."""
    records = ledger.directory.counterparty_records
    known = ((name, records[name].own_funds) for name in ledger.directory.counterparty_names if name in records)
    return {name: float(funds) for name, funds in known if funds}


# Loss book of a shard: who holds how much of what, and what that depends on.
#
# Positions count at the marks across venues, as P&L does; what a position cost counts where its settlement asset moves,
# and so does a balance of such an asset. Stablecoins stand still in history and move in stress scenarios.

I8 = NDArray[np.int64]
LINEAR, INVERSE, OPTION, ASSET = range(4)
STILL: Final = -1
VOLATILITY_UNKNOWN: Final = 1.5  # of an option that has none: the supervisory one of crypto (OSFI)
FORWARD, VOLATILITY, STRIKE, YEARS, CALL, COIN, RATE, SCALE = range(8)


class LossBookBuilder:
    """Makes loss books; keeps what follows from the directory until that changes."""

    def __init__(self) -> None:
        self._known: tuple[int, int] = (-1, -1)
        self._factors: RiskFactors

    def of(self, ledger: Ledger, as_of_us: int) -> LossBook:
        """Return the book as it was last measured."""
        directory, arrays = ledger.directory, ledger.directory.arrays
        if self._known != (directory.version, len(directory.assets)):
            self._known, self._factors = (
                (directory.version, len(directory.assets)),
                risk_factors_of(directory, ledger.sheet),
            )
        party, factor, amount, unpriced = _rows(ledger, self._factors)
        at = (amount != 0.0).nonzero()[0]
        at = at[np.argsort(party[at], kind="stable")]
        bare = np.bincount(party[unpriced], minlength=len(directory.counterparties)) > 0
        options = option_columns(ledger, as_of_us)
        names = list(directory.counterparty_names)
        return LossBook(party[at], factor[at], amount[at], names, arrays["counterparty"], bare, self._factors, options)


def _rows(ledger: Ledger, factors: RiskFactors) -> tuple[I8, I8, F8, I8]:
    """Return counterparty, factor and amount of every row, and the rows without a price."""
    directory, rows, balances = ledger.directory, ledger.positions.rows, ledger.balances.rows
    arrays, (_, held, spent, _) = ledger.directory.arrays, ledger.values.robust
    spent = ledger.values.unpaid(spent)
    stake, of = arrays["stake"], arrays["counterparty"]
    number, owner = rows["instrument"], rows["account"]
    kind = factors.kind[number]
    counted = np.where(kind == OPTION, rows["size"], held)
    settled = arrays["settlement"][number]
    moving = (factors.coin[number] != STILL) | factors.coin_stable[number]
    worth = balances["amount"] * ledger.marks.asset_worth[balances["asset"]]
    assets = len(directory.instrument_records) + balances["asset"]
    matters = (factors.driver[assets] != STILL) | factors.stable[assets]
    account = np.concatenate([owner, owner, balances["account"]])
    amount = np.concatenate([counted, np.where(moving, -spent, 0.0), np.where(matters, worth, 0.0)])
    bare = (rows["units"] != 0) & (held == 0.0)
    if directory.has_option:
        unvalued = np.zeros(len(directory.instrument_records), dtype=bool)
        terms, sheet = ledger.sheet.terms, ledger.sheet
        unvalued[terms.instrument] = ~(np.isfinite(sheet.volatility) & np.isfinite(sheet.forwards()))
        bare |= (rows["units"] != 0) & unvalued[number]
    poor = (balances["amount"] != 0.0) & np.isnan(ledger.marks.asset_prices[balances["asset"]])
    factor = np.concatenate([number, len(directory.instrument_records) + settled, assets])
    unpriced = np.concatenate([bare, np.zeros(len(bare), dtype=bool), poor]).nonzero()[0]
    return of[account], factor, stake[account] * amount, unpriced


def risk_factors_of(directory: Directory, sheet: OptionSheet) -> RiskFactors:
    """Return the factors of a directory: its instruments, then its assets."""
    arrays, records, assets = directory.arrays, directory.instrument_records, list(directory.assets)
    first = _first(arrays["base"], len(assets), ~arrays["option"])
    moves = arrays["moves"]
    own = np.where(moves, first, STILL)
    stable = np.array([_is_stable(directory, name) for name in assets], dtype=bool)
    settled, none = arrays["settlement"], np.full(len(assets), STILL)
    driver = np.where(arrays["option"], _forwards(directory, sheet), np.arange(len(records)))
    kind = np.where(arrays["option"], OPTION, np.where(arrays["inverse"], INVERSE, LINEAR))
    underlyings = list(directory.underlyings)
    return RiskFactors(
        np.concatenate([driver, own]),
        np.concatenate([own[settled], none]),
        np.concatenate([kind, np.full(len(assets), ASSET)]),
        np.concatenate([np.zeros(len(records), dtype=bool), stable]),
        np.concatenate([stable[settled], np.zeros(len(assets), dtype=bool)]),
        [underlyings[at] for at in arrays["underlying"].tolist()] + assets,
        [assets[at] for at in settled.tolist()] + [""] * len(assets),
    )


def _forwards(directory: Directory, sheet: OptionSheet) -> I8:
    """Return the forward of each option, the first other instrument on its underlying, or itself where neither is."""
    arrays = directory.arrays
    first = _first(arrays["underlying"], len(directory.underlyings), ~arrays["option"])
    found = first[arrays["underlying"]]
    terms = sheet.terms
    found[terms.instrument] = np.where(terms.forward >= 0, terms.forward, found[terms.instrument])
    return np.where(found >= 0, found, np.arange(len(found)))


def _first(of: I8, count: int, wanted: NDArray[np.bool_]) -> I8:
    """Return the first wanted row of each number, -1 where there is none."""
    found = np.full(count, STILL, dtype=np.int64)
    rows = wanted.nonzero()[0][::-1]
    found[of[rows]] = rows  # of several the last assignment stays: the lowest row
    return found


def _is_stable(directory: Directory, name: str) -> bool:
    record = directory.asset_records.get(name)
    return record is not None and record.asset_class == "stablecoin" and name != directory.currency


def option_columns(ledger: Ledger, as_of_us: int) -> F8:
    """Return what revaluing options takes, shape (8, instruments): forward, volatility, strike, years, call, coin, rate
    and what a unit of its value is worth in the reporting currency. Zeros for other kinds.

    An option without a forward counts with its strike, one without a volatility with the supervisory one.
    """
    directory, sheet = ledger.directory, ledger.sheet
    found = np.zeros((8, len(directory.instrument_records)))
    if not directory.has_option:
        return found
    terms, arrays, number = sheet.terms, directory.arrays, sheet.terms.instrument
    forward, volatility = sheet.forwards(), sheet.volatility
    worth = ledger.marks.asset_worth[arrays["settlement"][number]]
    found[:, number] = np.stack(
        [
            np.where(np.isfinite(forward), forward, terms.strike),
            np.where(np.isfinite(volatility), volatility, VOLATILITY_UNKNOWN),
            terms.strike,
            years_to_expiry(terms.expiry_us, as_of_us),
            terms.call.astype(np.float64),
            terms.coin.astype(np.float64),
            terms.rate,
            arrays["size"][number] * worth,
        ]
    )
    return found
