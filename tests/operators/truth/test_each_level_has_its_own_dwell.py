"""Each level of a limit has its own dwell timer.

Maintenance margin is 5 % of 10 BTC; with 20,000 of collateral and an entry of 30,000 the price P has a ratio of
0.5 P / (10 P - 280,000), so the ratio r stands at P = 280,000 r / (10 r - 0.5).
"""

from pathlib import Path

import pytest

from seawall_testing.desk import T0
from seawall_testing.risk_desk import SECOND, client, deposit, perpetual, price, run, trade

LIMIT = {
    "id": "margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "soft": 0.8, "hard": 1.0,
    "exit_ratio": 0.9, "dwell_s": 60,
}  # fmt: skip


def at_ratio(ratio: float) -> str:
    return f"{280_000 * ratio / (10 * ratio - 0.5):.6f}"


def test_a_level_is_left_after_its_own_dwell(tmp_path: Path) -> None:
    """Below hard (0.9) from second 20 and below soft (0.72) from 79.5: hard ends at 80, soft at 139.5."""
    moves = [(10, 1.1), (20, 0.85), *((79.5 + n / 10, 0.6) for n in range(700))]
    found = run(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "31000"), deposit(0.3, "20000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"),
        [price(second, "BTC-PERP", at_ratio(ratio)) for second, ratio in moves], limits=[LIMIT],
    )  # fmt: skip
    changes = [((b["as_of_us"] - T0) / SECOND, b["previous_level"], b["level"]) for b in found.topic("breaches")]
    assert [change[1:] for change in changes] == [("none", "hard"), ("hard", "soft"), ("soft", "none")]
    assert [change[0] for change in changes[1:]] == pytest.approx([80, 139.5], abs=0.3)
