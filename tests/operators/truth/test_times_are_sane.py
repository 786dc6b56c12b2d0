"""Times are sane: an expiry before its own record, in seconds by mistake, is rejected, and nothing settles at 0."""

from pathlib import Path

import pytest

from seawall_testing.desk import SECOND, T0, Json, lines, rejects, sequence
from seawall_testing.pipeline import MemoryBus, write_configuration
from seawall_testing.risk_desk import client, deposit, perpetual, price, run, spot, trade

IN_SECONDS = T0 // SECOND + 90 * 86_400  # 90 days ahead, by somebody who counts seconds


def wrong(**fields: str | bool) -> Json:
    return perpetual("BTC-DATED", kind="future", expiry_us=IN_SECONDS, **fields)


def book() -> list[Json]:
    return [
        *client(), price(0.05, "BTC/USD", "30000"), price(0.1, "BTC-DATED", "30000"),
        deposit(0.2, "200000", holder="ann"), trade(1, "BTC-DATED", "buy", "4", "30000", holder="ann"),
        deposit(5, "1", holder="ann"),
    ]  # fmt: skip


def test_an_expiry_in_seconds_is_rejected_with_the_likely_unit(tmp_path: Path) -> None:
    bus = MemoryBus()
    sequence(write_configuration(tmp_path, {"events.jsonl": lines(spot(), wrong(), book())}, shards=1), bus)
    found = [
        reject
        for reject in rejects(bus, 1)
        if '"BTC-DATED"' in reject["original"] and "expiry_us" in reject["original"]
    ]
    assert len(found) == 1
    assert "second" in found[0]["detail"]


def test_nothing_is_settled_at_zero(tmp_path: Path) -> None:
    """4 bought at 30,000 and marked at 30,000, or the fills rejected with their instrument: 200,001 either way."""
    found = run(tmp_path, spot(), wrong(), book())
    assert found.measures("account:ann")["equity"] == pytest.approx(200_001)
    assert found.measures("firm")["pnl"] == pytest.approx(0, abs=1e-6)


def test_risk_survives_an_inverse_contract_with_such_an_expiry(tmp_path: Path) -> None:
    found = run(tmp_path, spot(), wrong(settlement="BTC", inverse=True, contract_size="100"), book())
    assert found.measures("account:ann")["equity"] == pytest.approx(200_001)
