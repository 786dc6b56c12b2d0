"""What is lost once an account has come to its level: slippage, the move meanwhile, collateral, netting."""

from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from seawall.operators.core.base import Ownership
from seawall.operators.core.forecasts._sensitivities import SensitivityRows
from seawall.operators.core.forecasts._shard_forecasts import closing_cost, closing_shortfall, loss_given_breach
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import run_pipeline

ROOM = [-2.0, 0.0, 0.5, 3.0, 20.0]


@pytest.mark.parametrize("room", ROOM)
@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0])
def test_a_shortfall_is_the_integral_of_its_tail(room: float, spread: float) -> None:
    found = closing_shortfall(np.array([room]), np.array([spread]))[0]
    if spread == 0.0:
        assert found == max(-room, 0.0)
        return
    t = stats.t(4, scale=spread / 2**0.5)
    expected, _ = integrate.quad(lambda x: (x - room) * t.pdf(x), room, np.inf, limit=200)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def owned(sets: list[int], signs: list[float], nets: bool = True) -> Ownership:
    of, sign = np.array(sets), np.array(signs)
    none = np.zeros(len(of), dtype=np.int64)
    return Ownership(of, of, none, none, sign, sign, np.full(len(of), nets), 1, 0)


def positions(*sizes: float) -> SensitivityRows:
    count = len(sizes)
    return SensitivityRows(np.arange(count), np.zeros(count, dtype=np.int64), np.array(sizes), np.zeros(count))


STILL = np.zeros(1), np.zeros(1)


def test_slippage_grows_with_the_square_of_what_is_closed_up_to_half_of_it() -> None:
    held, depth = positions(1e4, -2e4, 1e9), np.array([1e6])
    cost = closing_cost(held, depth, 3)
    assert cost[:2] == pytest.approx([0.5 * 0.005 * 1e8 / 1e6, 0.5 * 0.005 * 4e8 / 1e6])
    assert cost[2] == 0.5e9


def test_what_we_owe_in_a_netting_set_that_nets_bears_a_clients_loss_first() -> None:
    held, equity, at_level = positions(1e6, 0.0), np.array([1000.0, 700.0]), np.array([500.0, 0.0])
    depth = np.array([2e6])  # closing costs 1,250: 750 beyond what is in the account
    clients = [-1.0, -1.0]
    apart = loss_given_breach(held, equity, at_level, owned([0, 1], clients), depth, *STILL)
    together = loss_given_breach(held, equity, at_level, owned([0, 0], clients), depth, *STILL)
    unenforceable = loss_given_breach(held, equity, at_level, owned([0, 0], clients, nets=False), depth, *STILL)
    assert apart[0] == unenforceable[0] == pytest.approx(750.0)
    assert together[0] == pytest.approx(50.0)


def test_of_our_own_account_we_lose_what_closing_costs_and_no_more_than_is_in_it() -> None:
    held, equity = positions(1e5, 1e7), np.array([900.0, 900.0])
    found = loss_given_breach(held, equity, np.full(2, 500.0), owned([0, 1], [1.0, 1.0]), np.array([2e6]), *STILL)
    assert found == pytest.approx([0.5 * 0.005 * 1e10 / 2e6, 500.0])


def test_a_market_that_moves_while_we_close_costs_more_and_depth_that_is_unknown_is_taken_to_be_thin() -> None:
    held, equity, at_level = positions(1e6), np.array([1e5]), np.array([5e4])
    client = owned([0], [-1.0])

    def lost(depth: float, volatility: float) -> float:
        one = np.array([depth]), np.array([volatility]), np.zeros(1)
        return float(loss_given_breach(held, equity, at_level, client, *one)[0])

    assert 0 < lost(1e9, 0.01) < lost(1e9, 0.1)
    assert lost(float("nan"), 0.01) > lost(1e9, 0.01)


def test_forecasts_of_accounts_tell_what_a_breach_would_cost(tmp_path: Path) -> None:
    limits: list[Json] = [{"id": "m", "scope": "account:*", "measure": "margin_ratio", "soft": 0.8, "hard": 1.0}]
    marks = [mark(T0 + at * SECOND, f"{100 + at % 3}") for at in range(0, 240, 60)]
    found = run_pipeline(
        tmp_path, instrument(maintenance_margin_rate="0.05"), account("a"), transfer(T0, "t", amount="20"),
        marks[0], fill(T0, "f", "a", quantity="1"), *marks[1:], limits=limits, forecasts={"enabled": True},
    )  # fmt: skip
    rows = [row for value in found.topic("forecasts") for row in value["forecasts"]]
    assert all(row["loss_given_breach"] > 0 for row in rows if row["level"] == "hard")
    assert all("loss_given_breach" not in row for row in rows if row["level"] == "soft")
