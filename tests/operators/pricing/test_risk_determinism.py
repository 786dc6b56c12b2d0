"""Valuation, margin, SA-CCR and limits give the same bits with the processor's optional features switched off."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seawall.operators.core.base import sum_by
from seawall.operators.core.credit import _saccr_formulas as formulas
from seawall.operators.core.limits._rules import ScalingInputs, ScalingRules, effective_bounds
from seawall.operators.core.pricing._liquidation_distance import nearest_distance, nearest_root
from seawall.operators.core.pricing._option_models import black_valuation, implied_volatility
from seawall.operators.core.pricing._scenario_margin import ScenarioInstruments, scenario_profits, worst_losses
from seawall_testing.paths import TESTS

ITEMS = 25_000
WORKER = """
import sys
sys.path[:0] = sys.argv[1:]
from test_risk_determinism import digests
print("\\n".join(f"{name} {digest}" for name, digest in digests().items()))
"""


def spread(low: float, high: float, stride: int) -> np.ndarray:
    """Numbers between low and high in a fixed scramble, made of exact operations only."""
    step = (np.arange(ITEMS, dtype=np.int64) * stride) % 65_536
    return low + step / 65_536.0 * (high - low)


def digests() -> dict[str, str]:
    """A hash of every result, per part."""
    forward, strike = spread(50.0, 90.0, 12_289), spread(40.0, 110.0, 24_593)
    expiry, volatility = spread(0.003, 2.0, 6_151), spread(0.1, 2.5, 3_079)
    call = np.arange(ITEMS) % 3 == 0
    greeks = black_valuation(forward, strike, expiry, volatility, call, 0.03)
    implied = implied_volatility(greeks.value, forward, strike, expiry, call, 0.03)
    account, underlying = np.arange(ITEMS) % 997, np.arange(ITEMS) % 7
    held = ScenarioInstruments(forward, call, ~call, call, strike, expiry, volatility)
    size, price = spread(-9.0, 9.0, 1_543), np.ones(ITEMS)
    pair = account * 7 + underlying
    loss, worst = worst_losses(pair, np.arange(ITEMS), size, scenario_profits(held), price, 997 * 7)
    health = spread(1.0, 500.0, 769)[:997]
    entity = np.arange(997 * 7)
    correlation = np.where(entity % 7 == 0, 0.0, 0.5)
    hedging = formulas.HedgingSets(entity // 7, np.full(997 * 7, 0.4), correlation, np.arange(997) % 2 == 0)
    slope = sum_by(account, size * forward, 997)
    distance = [nearest_distance(2.0 * health, health, slope), nearest_root(health, slope, slope - health)]
    net = sum_by(account * 7 + underlying, size * formulas.maturity_factor(expiry), 997 * 7)
    add_ons = hedging.add_ons(net, np.arange(997 * 7) % 3)
    delta = formulas.option_delta(forward, strike, 1.5, expiry, call, size > 0)
    surplus = formulas.pfe_multiplier(-2.0 * health, add_ons)
    rule = ScalingRules(
        price * 100, price, price * 120, 2 * expiry, expiry, price * 0.01, price * 0.001, price * 0.1, call
    )
    market = ScalingInputs(volatility, volatility + 1.0, price, forward, strike, price)
    bounds = effective_bounds(rule, market, price * 90.0, 3.0)
    parts = {
        "greeks": [*greeks],
        "implied volatility": [implied.volatility, implied.state],
        "scenario margin": [loss, worst],
        "distance": distance,
        "sa-ccr": [add_ons, delta, surplus],
        "limits": [bounds.effective, bounds.target, bounds.binding],
    }
    return {
        name: hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
        for name, arrays in parts.items()
    }


@pytest.mark.parametrize("disabled", ["every optional feature", "AVX512 only"])
def test_the_bits_do_not_depend_on_the_features_of_the_processor(disabled: str) -> None:
    found = np._core._multiarray_umath.__cpu_features__
    optional = np._core._multiarray_umath.__cpu_dispatch__
    names = [n for n in optional if found.get(n) and (disabled != "AVX512 only" or "512" in n or "V4" in n)]
    here = [str(Path(__file__).parent), str(TESTS)]
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(names)}
    run = subprocess.run(
        [sys.executable, "-c", WORKER, *here], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [f"{name} {digest}" for name, digest in digests().items()]
