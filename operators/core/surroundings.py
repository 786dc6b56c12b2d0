"""What systemic indicators need of a shard once a minute, where forecasts are made: collateral, claims and own funds.

All shards hear of funding, open interest and prices alike, so shard 0 tells of these. Of collateral every shard tells
what stands in its own accounts, of claims those in which its own counterparties owe or are owed:

- a counterparty owes the house its current exposure, and what obligations say;
- the house owes a counterparty the equity of its accounts with us;
- counterparties owe each other what obligations say.

Own funds are those of the counterparty's record; the house has the equity of its own accounts.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import sum_by, totals
from seawall.operators.core.credit.obligations import HOUSE
from seawall.operators.core.ledger import Ledger
from seawall.schemas.measures import ACCOUNT, COUNTERPARTY

F8 = NDArray[np.float64]
EQUITY, EXPOSURE = ACCOUNT.index("equity"), COUNTERPARTY.index("current_exposure")
EIGHT_HOURS_US: Final = 8 * 3_600_000_000.0


def surroundings(ledger: Ledger) -> dict[str, Any]:
    """Return collateral, claims and own funds of a shard's book as it was last measured, and on shard 0 the rates."""
    claims, house = claims_of(ledger)
    found = {"collateral": collateral_of(ledger), "claims": claims, "own_funds": own_funds_of(ledger), "house": house}
    if ledger.directory.shard == 0:
        names = list(ledger.directory.instruments)
        found |= {
            "funding": ledger.funding.rates(len(names), EIGHT_HOURS_US),
            "interest": ledger.margins.interest(names),
        }
    return found


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
    return totals(np.stack([held * worth, held * worth * stable, held * lacking]))


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
    return found, float(totals(ours))


def own_funds_of(ledger: Ledger) -> dict[str, float]:
    """Return the own funds of the shard's counterparties of which a record tells."""
    records = ledger.directory.counterparty_records
    known = ((name, records[name].own_funds) for name in ledger.directory.counterparty_names if name in records)
    return {name: float(funds) for name, funds in known if funds}
