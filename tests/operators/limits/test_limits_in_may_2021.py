"""19 May 2021 on real minute bars: limits tighten with the market, never rise fast, never pass their floor, and prices
alone force no trading in our own books."""

from types import ModuleType

import numpy as np
import pytest

from seawall_testing.bench import benchmark
from seawall_testing.paths import SHARED

DATA = SHARED / "data" / "crash_may_2021"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the bars of May 2021 are not here")


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return benchmark("limits")


@pytest.fixture(scope="module")
def result(module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> object:
    days = ("2021-05-19T11:00", "2021-05-19T16:00")
    return module.run(tmp_path_factory.mktemp("may"), DATA, *days, coins=("BTC", "DOGE"), reference=1.0)


def test_every_bound_tightened_and_none_left_its_floor_and_ceiling(result: object) -> None:
    assert set(result.moved) == {  # type: ignore[attr-defined]
        "underlying:BTC", "underlying:DOGE", "account:client-account", "account:venue-account"}  # fmt: skip
    for moved in result.moved.values():  # type: ignore[attr-defined]
        assert min(moved.bounds) < 0.6 * moved.factors["base"]
        assert min(moved.bounds) >= moved.factors["floor"]
        assert max(moved.bounds) <= moved.factors["ceiling"]


def test_no_bound_rose_or_fell_faster_than_its_limit_allows(module: ModuleType, result: object) -> None:
    for moved in result.moved.values():  # type: ignore[attr-defined]
        rise, fall = module.speeds(moved)
        assert rise <= module.SPEEDS["loosen_per_s"] * (1 + 1e-9)
        assert 0 < fall <= module.SPEEDS["tighten_per_s"] * (1 + 1e-9)
        steps = np.abs(np.diff(moved.bounds)) / moved.factors["base"]
        assert steps.max() <= module.SPEEDS["step_max"] * (1 + 1e-9)


def test_breaches_by_price_alone_forced_no_trading_in_our_own_books(result: object) -> None:
    breaches = result.breaches  # type: ignore[attr-defined]
    assert any(breach["scope"] == "account:venue-account" and breach["level"] == "soft" for breach in breaches)
    assert {breach["cause"] for breach in breaches} == {"passive"}
    trading = [c["target"]["id"] for c in result.commands  # type: ignore[attr-defined]
               if c["type"] in ("HEDGE", "REDUCE_POSITION")]  # fmt: skip
    assert set(trading) == {"client-account"}
    withheld = {(body["kind"], body["target"]) for body in result.withheld}  # type: ignore[attr-defined]
    assert ("REDUCE_POSITION", "account:venue-account") in withheld
    assert ("HEDGE", "underlying:BTC") in withheld


def test_every_breach_of_a_limit_that_moves_explains_its_bound(result: object) -> None:
    for breach in result.breaches:  # type: ignore[attr-defined]
        factors = breach["factors"]
        product = factors["volatility_ratio"] * factors["depth_ratio"] * factors["rating"]
        assert factors["formula"] == pytest.approx(factors["base"] * product)
        assert factors["floor"] <= factors["effective"] <= factors["ceiling"]
