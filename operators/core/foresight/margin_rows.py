"""Which forecasts of accounts' margins are written, and as what: those that traded or are in danger, and moved."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.margins import MAINTENANCE, MEASURED_S, MarginForecasts, Said
from seawall.operators.core.foresight.markets import STATES, Markets
from seawall.operators.core.foresight.models import ACCOUNTS, EVERY_S, MODELS, reasons
from seawall.operators.core.frames import Holdings, Table

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
ENDANGERED: Final = 0.01  # probability within a day from which an account is written whenever it moves
MOVED: Final = 0.05  # of what was written last: what stands on the topic is what is believed
SHORT_MIN: Final = 0.001  # horizons below an hour are written from here on
NO_ACCOUNTS: I8 = np.zeros(0, dtype=np.int64)


def rows_of(
    forecasts: MarginForecasts, said: Said, table: Table, traded: list[int], hourly: bool, states: list[str], lost: F8
) -> list[dict[str, Any]]:
    """Return what is to be written of accounts, in order of number; take it as written.

    Parameters
    ----------
    said
        What was forecast.
    traded
        Numbers of accounts that traded in this second.
    hourly
        Whether all are written.
    states, lost
        By account: what is wrong with its volatilities, and what closing it out would cost.
    """
    now, written = forecasts.measured[-1], forecasts.written
    has = table.values[MAINTENANCE] > 0
    touched = np.zeros(len(now), dtype=bool)
    touched[traded] = True
    last = np.maximum(written, 0.0)
    moved = (np.abs(now - last) > MOVED * np.maximum(last, SHORT_MIN)) | (written < 0)
    wanted = has & (hourly | (moved & (touched | (now >= ENDANGERED) | (last >= ENDANGERED))))
    emptied = ~has & (written > 0)
    written[wanted], written[emptied] = now[wanted], -1.0
    rows = [_flat(table.names[account]) for account in emptied.nonzero()[0].tolist()]
    for (level, horizon), (active, about, models) in said.items():
        chosen = wanted[active].nonzero()[0]
        found = active[chosen], about[:, chosen], models[:, chosen]
        rows += _level_rows(forecasts, table, level, horizon, *found, states, lost)
    return rows


def states_of(markets: Markets, book: Holdings, count: int) -> list[str]:
    """Return what is wrong with each account's volatilities, empty where nothing is."""
    state = markets.states()[book.instrument] if len(book.instrument) else NO_ACCOUNTS
    held = np.abs(book.gain)
    unknown = np.bincount(book.account, held * (state == 0), count) > 0
    still = np.bincount(book.account, held * (state == 2), count) == 0
    names = np.where(unknown, "no_volatility", np.where(still, STATES[1], ""))
    return [str(name) for name in names.tolist()]


def _level_rows(
    forecasts: MarginForecasts,
    table: Table,
    level: str,
    horizon: int,
    accounts: I8,
    about: F8,
    models: F8,
    states: list[str],
    lost: F8,
) -> list[dict[str, Any]]:
    own = forecasts.models[level, horizon]
    why, champion = reasons(ACCOUNTS, own.contributions(about, accounts)), own.scores.champion
    rows = []
    for place, account in enumerate(accounts.tolist()):
        probability = models.item(champion, place)
        if horizon < EVERY_S and probability < SHORT_MIN:
            continue
        row: dict[str, Any] = {"scope": f"account:{table.names[account]}", "measure": "margin_ratio", "level": level}
        row |= {"horizon_s": horizon, "probability": probability, "state": states[account] or own.state}
        row |= {"model": MODELS[champion], "contributions": why[place]}
        if level == "hard":
            row["loss_given_breach"] = lost.item(account)
        rows.append(row)
    return rows


def _flat(name: str) -> dict[str, Any]:
    head = {"scope": f"account:{name}", "measure": "margin_ratio", "level": "hard", "horizon_s": MEASURED_S[-1]}
    return {**head, "probability": 0.0, "state": "flat"}
