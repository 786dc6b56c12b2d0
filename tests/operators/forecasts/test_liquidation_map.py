"""The liquidation map is that of revaluing every book at every step; the cascade that of one round after another."""

import numpy as np
import pytest

from seawall.operators.core.forecasts import MAP_STEPS, liquidation_map, sum_sensitivities
from seawall.operators.core.forecasts._cascades import (
    DEPTH_SPAN,
    DEPTH_UNKNOWN,
    END_MOVE_MAX,
    LiquidationMap,
    beta_slopes,
    cascade_ends,
    cascade_multipliers,
    depths_or_default,
    first_divergence,
)
from seawall.operators.core.forecasts._sensitivities import SensitivityRows

MOVES = np.array(MAP_STEPS)
RATE = 0.05


def books(seed: int, accounts: int, underlyings: int, rows: int) -> tuple[SensitivityRows, np.ndarray]:
    """Return random books, some with nothing to lose, some long gone."""
    rng = np.random.default_rng(seed)
    gain = rng.normal(size=rows) * 100
    held = sum_sensitivities(
        rng.integers(0, accounts, rows), rng.integers(0, underlyings, rows), gain, RATE * np.abs(gain)
    )
    return held, rng.normal(30.0, 40.0, accounts)


def revalued(
    held: SensitivityRows, health: np.ndarray, underlying: int, move: float, betas: np.ndarray
) -> tuple[float, float]:
    """Return what is sold and bought when every book is revalued at a move of one underlying, account by account."""
    sold = bought = 0.0
    for account in range(len(health)):
        rows = held.account == account
        moves = move * betas[held.underlying[rows]]
        after = health[account] + ((held.gain - held.margin)[rows] * moves).sum()
        mine = rows & (held.underlying == underlying)
        if after <= 0 and mine.any():
            sold += max(held.gain[mine].sum(), 0.0)
            bought += max(-held.gain[mine].sum(), 0.0)
    return sold, bought


@pytest.mark.parametrize("followed", [False, True], ids=["alone", "with betas"])
def test_the_map_is_that_of_revaluing_every_book_at_every_step(followed: bool) -> None:
    held, health = books(3, 60, 4, 200)
    volatility, rho = np.array([0.02, 0.05, 0.03, 0.04]), np.array([0.9, 0.5, 0.98, -0.2])
    slope = beta_slopes(held, volatility, rho, 60) if followed else held.gain - held.margin
    found = liquidation_map(held, health, slope, 4, MOVES)
    for underlying in range(4):
        betas = rho * rho[underlying] * volatility / volatility[underlying] * followed
        betas[underlying] = 1.0
        for at in (0, 13, 44, 50, 51, 77, 100):
            sold, bought = revalued(held, health, underlying, MAP_STEPS[at], betas)
            assert found.sold[underlying, at] == pytest.approx(sold)
            assert found.bought[underlying, at] == pytest.approx(bought)


def test_an_account_that_nothing_moves_is_forced_only_where_it_is_beyond_already() -> None:
    held = SensitivityRows(np.array([0, 1]), np.array([0, 0]), np.array([10.0, 10.0]), np.array([10.0, 10.0]))
    found = liquidation_map(held, np.array([1.0, -1.0]), np.zeros(2), 1, MOVES)
    assert (found.sold == 10.0).all()
    assert (found.bought == 0.0).all()


def rounds(forced: LiquidationMap, depth: float, move: float) -> float:
    """Simulate: what is forced at a price moves it, which forces more, until nothing does; infinite beyond the map."""
    moved, net = move, forced.bought[0] - forced.sold[0]
    start = np.interp(0.0, MOVES, net)
    for _ in range(10_000):
        after = move + DEPTH_SPAN / depth * (np.interp(moved, MOVES, net) - start)
        after = min(after, moved) if move < 0 else max(after, moved)
        if after == moved:
            return moved if abs(moved) < END_MOVE_MAX else np.inf * np.sign(moved)
        moved = after
    return moved


@pytest.mark.parametrize("depth", [20.0, 200.0, 5000.0])
def test_the_cascade_ends_where_one_round_after_another_ends(depth: float) -> None:
    held, health = books(9, 40, 1, 40)
    forced = liquidation_map(held, np.abs(health) + 1, held.gain - held.margin, 1, MOVES)
    ends = cascade_ends(forced, np.array([depth]), MOVES)[0]
    for at in range(0, 101, 5):
        assert ends[at] == pytest.approx(rounds(forced, depth, MAP_STEPS[at]), rel=1e-6)


def simulated(health: np.ndarray, size: np.ndarray, depth: float, move: float, shift: float) -> float:
    """Simulate account by account, as on an exchange: whoever's margin is gone is sold, which moves the price again.

    ``shift`` moves everybody's point of liquidation: what the map takes to grow between two steps happens at one.
    """
    beyond = health <= 0
    held, moved, sold = size.copy(), move, 0.0
    while True:
        due = ~beyond & (held > 0) & (health + size * (1 - RATE) * (moved + shift) <= 0)
        if not due.any() or moved <= -END_MOVE_MAX:
            return moved if moved > -END_MOVE_MAX else -np.inf
        for account in due.nonzero()[0]:
            sold += held[account]
            held[account] = 0.0
        moved = move - DEPTH_SPAN / depth * sold


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("depth", [15.0, 60.0, 1000.0])
def test_the_cascade_is_that_of_liquidating_account_after_account(seed: int, depth: float) -> None:
    rng = np.random.default_rng(seed)
    size, leverage = rng.lognormal(4, 1, 12), rng.uniform(1.2, 15.0, 12)
    health = size / leverage - RATE * size
    held = SensitivityRows(np.arange(12), np.zeros(12, dtype=np.int64), size, RATE * size)
    forced = liquidation_map(held, health, size * (1 - RATE), 1, MOVES)
    ends = cascade_ends(forced, np.array([depth]), MOVES)[0]
    for at in range(0, 50):
        if MAP_STEPS[at] > -0.49:  # further moves lie beyond the map
            low, high = (simulated(health, size, depth, MAP_STEPS[at], shift) for shift in (-0.0101, 0.0101))
            assert low - 1e-9 <= ends[at] <= high + 1e-9 or ends[at] <= -0.5


def test_a_thin_market_multiplies_a_move_and_a_thinner_one_never_comes_to_rest() -> None:
    held, health = books(9, 40, 1, 40)
    forced = liquidation_map(held, np.abs(health) + 1, held.gain - held.margin, 1, MOVES)
    grown = {depth: cascade_ends(forced, np.array([depth]), MOVES) for depth in (1e9, 500.0, 1.0)}
    at = MAP_STEPS.index(-0.2)
    assert cascade_multipliers(grown[1e9], MOVES)[0, at] == pytest.approx(1.0, abs=1e-4)
    assert cascade_multipliers(grown[500.0], MOVES)[0, at] > 1.0
    assert np.isinf(cascade_multipliers(grown[1.0], MOVES)[0, at])
    assert np.isnan(first_divergence(grown[1e9], MOVES)[0])
    assert abs(first_divergence(grown[1.0], MOVES)[0]) <= 0.2


def test_an_unknown_depth_is_a_stated_share_of_what_is_exposed() -> None:
    found, known = depths_or_default(np.array([np.nan, 300.0]), np.array([1000.0, 500.0]))
    assert found.tolist() == [DEPTH_UNKNOWN * 1000.0, 300.0]
    assert known.tolist() == [False, True]
