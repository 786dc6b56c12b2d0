"""Losses: filtered historical simulation over whole books, options revalued, and the worst of a named grid."""

import json
from bisect import bisect_right
from fractions import Fraction
from math import erf, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from seawall.operators.core.forecasts import FirmForecastState, ForecastState, HorizonOutcome
from seawall.operators.core.forecasts._losses import expected_shortfall, scenario_profits, value_at_risk
from seawall.operators.core.forecasts._price_history import (
    READY_MIN,
    SCENARIOS,
    ReturnHistory,
    prior_draws,
    student_4_quantiles,
)
from seawall.schemas.configuration import STANDARD_SCENARIOS, load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import LOSSES
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark, transfer, write_desk
from seawall_testing.pipeline import PipelineRun, run_pipeline

ON: Json = {"forecasts": {"enabled": True, "losses": True}}
MINUTES = 70
EXPIRY = T0 + 30 * 86_400 * SECOND
COIN = {"base": "BTC", "settlement": "BTC", "inverse": True}
CALL = {"kind": "option", "option_type": "call", "strike": "110", "expiry_us": EXPIRY, "forward": "ETH-PERP"}
COIN_PUT = {**CALL, **COIN, "option_type": "put", "strike": "45000", "forward": "BTC-INV"}


def spot(base: str) -> Json:
    return instrument(f"{base}-USD", kind="spot", base=base)


# --- the measures -----------------------------------------------------------------------------------------------------


def exact_tail(gains: list[float], level: Fraction) -> tuple[Fraction, Fraction]:
    """Return value at risk and expected shortfall by their definitions, in exact arithmetic."""
    losses, count = sorted((-Fraction(gain) for gain in gains), reverse=True), len(gains)
    rising = losses[::-1]
    at_risk = next(x for x in rising if Fraction(bisect_right(rising, x), count) >= 1 - level)
    left, total = level * count, Fraction(0)
    for loss in losses:
        part = min(Fraction(1), left)
        total, left = total + part * loss, left - part
    return max(at_risk, Fraction(0)), max(total / (level * count), Fraction(0))


@pytest.mark.parametrize("count", [100, 250, 500, 999])
def test_tails_are_those_of_their_definitions_in_exact_arithmetic(count: int) -> None:
    gains = np.random.default_rng(count).standard_t(3, count).round(1)[None]  # with ties
    assert value_at_risk(gains)[0] == float(exact_tail(gains[0].tolist(), Fraction(1, 100))[0])
    found = float(exact_tail(gains[0].tolist(), Fraction(1, 40))[1])
    assert expected_shortfall(gains)[0] == pytest.approx(found, rel=1e-12)


def test_what_only_gains_loses_nothing() -> None:
    assert value_at_risk(np.ones((2, 500))).tolist() == expected_shortfall(np.ones((2, 500))).tolist() == [0.0, 0.0]


def test_profits_are_the_sums_of_rows_whatever_the_chunks() -> None:
    rng = np.random.default_rng(1)
    scope, factor = np.sort(rng.integers(0, 40, 3000)), rng.integers(0, 7, 3000)
    amount, moves = rng.normal(size=3000), rng.normal(size=(7, 11))
    expected = np.zeros((41, 11))
    np.add.at(expected, scope, amount[:, None] * moves[factor])
    assert scenario_profits(scope, factor, amount, moves, 41) == pytest.approx(expected, abs=1e-10)


# --- scenarios --------------------------------------------------------------------------------------------------------


def test_the_prior_is_a_student_t_of_variance_one_with_an_order_of_its_own_for_each_instrument() -> None:
    probability = (np.arange(SCENARIOS) + 0.5) / SCENARIOS
    assert student_4_quantiles(probability) == pytest.approx(stats.t.ppf(probability, 4) / 2**0.5, abs=1e-9)
    drawn = np.stack([prior_draws(at) for at in range(-1, 12)])
    assert np.sort(drawn, axis=1) == pytest.approx(np.tile(student_4_quantiles(probability), (13, 1)))
    off = np.corrcoef(drawn)[~np.eye(13, dtype=bool)]
    assert np.abs(off).max() < 0.2


def hour(returns: list[float], deviation: float = 0.01) -> HorizonOutcome:
    """Return an hour with these returns, NaN where an instrument was not seen."""
    came = np.array(returns)
    known, variance = np.isfinite(came), np.full(len(came), deviation**2)
    return HorizonOutcome(np.where(known, came, 0.0), variance, variance, known, np.zeros((4, len(came))))


def test_an_hour_counts_with_what_all_did_at_once_and_as_large_as_it_would_be_today() -> None:
    history = ReturnHistory()
    history.learn(hour([0.02, -0.03]))
    history.learn(hour([0.1, np.nan], deviation=0.05))
    units = history.units(np.array([0, 1]))
    assert units[0] == pytest.approx([2.0, -3.0])
    assert units[1, 0] == pytest.approx(2.0)
    assert history.known(np.array([0, 1, 9])).tolist() == [2, 1, 0]
    unseen = units[1, 1] - 2.0  # what it would have done: the mean of the others, and a rest of the prior's
    assert unseen == pytest.approx(0.51**0.5 * prior_draws(1)[1])


def test_history_is_bounded_and_the_oldest_hour_goes_first() -> None:
    history = ReturnHistory()
    for at in range(SCENARIOS + 3):
        history.learn(hour([0.01 * (at % 7)]))
    assert history.known(np.array([0])).tolist() == [SCENARIOS]
    assert history.units(np.array([0]))[2, 0] == pytest.approx((SCENARIOS + 2) % 7, abs=1e-6)


# --- through the whole of risk ----------------------------------------------------------------------------------------


def prices() -> list[Json]:
    """Return a mark of everything each minute: two coins that waver together."""
    rng, eth, btc, records = np.random.default_rng(7), 100.0, 50_000.0, []
    for at in range(0, MINUTES * 60, 60):
        both = rng.standard_normal(3) * 0.001
        eth, btc = eth * float(np.exp(both[0] + both[2])), btc * float(np.exp(both[1] + both[2]))
        for name, price in (("ETH-USD", eth), ("ETH-PERP", eth * 1.001), ("BTC-USD", btc), ("BTC-INV", btc * 0.999)):
            records.append(mark(T0 + at * SECOND, f"{price:.4f}", name))
        if at % 600 == 0:
            records.append(mark(T0 + at * SECOND, "3.1", "ETH-C", implied_volatility="0.7"))
            records.append(mark(T0 + at * SECOND, "0.02", "BTC-P", implied_volatility="0.6"))
    return records


def house(name: str, party: str, **fields: Any) -> Json:
    return {"type": "account", "account": name, "counterparty": party, "holder": "house", **fields}


def mixed_book() -> list[Any]:
    venue = {"type": "counterparty", "counterparty": "venue", "name": "venue", "role": "venue"}
    contracts = [
        spot("ETH"), spot("BTC"), instrument(), instrument("BTC-INV", contract_size="100", **COIN),
        instrument("ETH-C", **CALL), instrument("BTC-P", **COIN_PUT),
    ]  # fmt: skip
    opening = [
        transfer(T0, "t1", "client", asset="BTC", amount="2"),
        transfer(T0, "t2", "client", amount="500"),
        transfer(T0, "t3", "own", asset="ETH", amount="30"),
        fill(T0 + 1, "f1", "client", quantity="40"),
        fill(T0 + 2, "f2", "own", instrument="BTC-INV", price="50000", quantity="300", side="sell"),
        fill(T0 + 3, "f3", "own", instrument="ETH-C", price="3", quantity="20", side="sell"),
        fill(T0 + 4, "f4", "own", instrument="BTC-P", price="0.02", quantity="3"),
        fill(T0 + 5, "f5", "client", instrument="ETH-C", price="3", quantity="5"),
        fill(T0 + 6, "f6", "agent", quantity="1000"),
    ]
    agent = account("agent", capacity="agency")
    return [*contracts, venue, house("own", "venue"), account("client"), agent, *prices(), *opening]


def ordered(records: list[Any]) -> list[Any]:
    flat = [item for record in records for item in (record if isinstance(record, list) else [record])]
    return sorted(flat, key=lambda one: one.get("event_time_us", 0))


@pytest.fixture(scope="module")
def mixed_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    limits = [{"id": "day", "scope": "firm", "measure": "var_99", "hard": 1.0}]
    limits += [{"id": "venue", "scope": "counterparty:venue", "measure": "stress_loss", "soft": 1.0, "hard": 1e9}]
    return run_pipeline(tmp_path_factory.mktemp("losses"), *ordered(mixed_book()), limits=limits, **ON)


def black(forward: float, strike: float, years: float, volatility: float, sign: int) -> float:
    spread = volatility * years**0.5
    d1 = log(forward / strike) / spread + spread / 2
    near, far = ((1 + erf(sign * d / 2**0.5)) / 2 for d in (d1, d1 - spread))
    return sign * (forward * near - strike * far)


def brute(ran: PipelineRun, moves: dict[str, float], years: float = 0.0, volatility: float = 0.0) -> dict[str, float]:
    """Return the profit with each counterparty when prices move, every holding revalued by itself."""
    ledger = ran.exposures[0].ledger
    assert ledger is not None
    number = ledger.directory.instruments
    now = {name: ledger.marks.rows["price"][ledger.marks.across()[at]] for name, at in number.items()}
    left = (EXPIRY - ran.measured[-1].measures.moment.as_of_us) / (365 * 86_400e6)

    def worth(price: dict[str, float], years: float, volatility: float) -> dict[str, float]:
        call = black(price["ETH-PERP"], 110.0, left - years, 0.7 * (1 + volatility), 1)
        put = black(price["BTC-INV"], 45_000.0, left - years, 0.6 * (1 + volatility), -1) / price["BTC-INV"]
        eth, btc = price["ETH-USD"], price["BTC-USD"]
        inverse = -300 * 100 * (1 / 50_000 - 1 / price["BTC-INV"])
        own = 30 * eth + inverse * btc - 20 * call + 3 * (put - 0.02) * btc
        return {"client": -(2 * btc + 40 * price["ETH-PERP"] + 5 * call), "venue": own}

    before = worth(now, 0.0, 0.0)
    after = worth({name: price * (1 + moves.get(name, 0.0)) for name, price in now.items()}, years, volatility)
    return {name: after[name] - before[name] for name in before}


def simulated(ran: PipelineRun, horizon_s: int) -> dict[str, np.ndarray]:
    """Return the profits with each counterparty in every scenario of a horizon, by brute force."""
    markets, ledger = ran.foresight[0].markets, ran.exposures[0].ledger
    assert ledger is not None
    assert markets.history is not None
    names = ["ETH-USD", "BTC-USD", "ETH-PERP", "BTC-INV"]
    at = np.array([ledger.directory.instruments[name] for name in names])
    returns = np.exp(markets.history.units(at) * markets.deviation(horizon_s)[at]) - 1
    found = [brute(ran, dict(zip(names, row, strict=True)), horizon_s / (365 * 86_400)) for row in returns.tolist()]
    return {name: np.array([one[name] for one in found]) for name in ("client", "venue")}


@pytest.mark.parametrize(("horizon_s", "suffix"), [(3600, "_1h"), (86_400, "")])
def test_losses_are_those_of_revaluing_every_holding_in_every_scenario(
    mixed_pipeline: PipelineRun, horizon_s: int, suffix: str
) -> None:
    gained = simulated(mixed_pipeline, horizon_s)
    for scope, own in (("counterparty:client", gained["client"]), ("counterparty:venue", gained["venue"])):
        measures = mixed_pipeline.measures(scope)
        at_risk, shortfall = exact_tail(own.tolist(), Fraction(1, 100))[0], exact_tail(own.tolist(), Fraction(1, 40))[1]
        assert measures[f"var_99{suffix}"] == pytest.approx(float(at_risk), rel=1e-3)  # options age ten seconds
        assert measures[f"es_975{suffix}"] == pytest.approx(float(shortfall), rel=1e-3)
    whole = exact_tail((gained["client"] + gained["venue"]).tolist(), Fraction(1, 100))[0]
    assert mixed_pipeline.measures("firm")[f"var_99{suffix}"] == pytest.approx(float(whole), rel=1e-3)


def test_the_stress_loss_is_that_of_the_worst_named_scenario(mixed_pipeline: PipelineRun) -> None:
    losses: dict[str, dict[str, float]] = {}
    for one in STANDARD_SCENARIOS:
        move = {base: one["moves"].get(base, one["moves"].get("*", 0.0)) for base in ("ETH", "BTC")}
        moves = {f"{base}-{kind}": move[base] for base in move for kind in ("USD", "PERP", "INV")}
        losses[one["name"]] = brute(mixed_pipeline, moves, volatility=one["volatility"])
    for name in ("client", "venue"):
        worst = min(losses, key=lambda scenario: losses[scenario][name])
        assert mixed_pipeline.measures(f"counterparty:{name}")["stress_loss"] == pytest.approx(
            -losses[worst][name], rel=1e-3
        )
        assert published(mixed_pipeline, f"counterparty:{name}")[-1]["worst"] == worst


def published(ran: PipelineRun, scope: str) -> list[Json]:
    return [row for value in ran.topic("forecasts") for row in value.get("losses", ()) if row["scope"] == scope]


def test_an_options_loss_is_not_that_of_its_delta(mixed_pipeline: PipelineRun) -> None:
    ledger = mixed_pipeline.exposures[0].ledger
    assert ledger is not None
    delta = mixed_pipeline.measures("underlying:ETH")["delta"]
    fell = brute(mixed_pipeline, {"ETH-USD": -0.5, "ETH-PERP": -0.5})
    assert abs(sum(fell.values()) + 0.5 * delta) > 0.1 * abs(sum(fell.values()))


def test_what_is_held_as_agent_is_nobodys_loss_and_every_state_is_named(mixed_pipeline: PipelineRun) -> None:
    assert [mixed_pipeline.measures("counterparty:agent")[name] for name in LOSSES] == [0.0] * len(LOSSES)
    assert {row["state"] for row in published(mixed_pipeline, "counterparty:client")} == {"warming"}
    assert published(mixed_pipeline, "firm")[-1]["state"] == "warming"


def test_limits_are_on_losses_as_on_any_measure(mixed_pipeline: PipelineRun) -> None:
    assert ("firm", "none", "hard") in mixed_pipeline.breaches("day")
    assert ("counterparty:venue", "none", "soft") in mixed_pipeline.breaches("venue")


def test_losses_go_on_from_a_snapshot_with_the_same_bytes(mixed_pipeline: PipelineRun) -> None:
    state, again = ForecastState(0), []
    wide, wider = FirmForecastState(1), []
    for at, one in enumerate(mixed_pipeline.watched):
        if at % 13 == 0:
            state = ForecastState.restore(state.snapshot())
        again += [record.value for record in state.step(one).outputs.records.get("forecasts", [])]
    for at, one in enumerate(mixed_pipeline.wide):
        if at % 7 == 0:
            wide = FirmForecastState.restore(wide.snapshot())
        wider += [record.value for record in wide.step(one).outputs.records.get("forecasts", [])]
    assert again == [record.value for record in mixed_pipeline.records("forecasts") if record.key == "0"]
    assert wider == [record.value for record in mixed_pipeline.records("forecasts") if record.key == "all"]
    assert state.snapshot() == mixed_pipeline.foresight[0].snapshot()


def test_what_one_counterparty_holds_against_another_nets_for_the_firm_across_shards(tmp_path: Path) -> None:
    records = [
        spot("ETH"), instrument(), account("long"), account("short"),
        *(mark(T0 + at * SECOND, "100", name) for at in range(0, 300, 60) for name in ("ETH-USD", "ETH-PERP")),
        fill(T0 + 1, "f1", "long", quantity="10"), fill(T0 + 2, "f2", "short", quantity="10", side="sell"),
    ]  # fmt: skip
    shards = 5
    found = run_pipeline(tmp_path, *ordered(records), shards=shards, **ON)
    assert found.foresight[0].numbering.partition != found.foresight[1].numbering.partition
    assert found.measures("counterparty:long")["var_99"] > 10.0
    assert found.measures("counterparty:short")["var_99"] > 10.0
    assert found.measures("firm")["var_99"] == pytest.approx(0.0, abs=1e-9)
    assert found.measures("firm")["stress_loss"] == pytest.approx(0.0, abs=1e-9)


def test_what_has_no_price_is_said_and_counts_for_nothing(tmp_path: Path) -> None:
    records = [instrument(), account("a"), fill(T0, "f", "a", quantity="10"), transfer(T0 + 2 * SECOND, "t")]
    found = run_pipeline(tmp_path, *records, **ON)
    assert published(found, "counterparty:a")[-1]["state"] == "unpriced"
    assert found.measures("counterparty:a")["var_99"] == 0.0


def test_an_instrument_is_ready_once_enough_hours_are_known_and_a_loss_then_follows_them() -> None:
    history = ReturnHistory()
    for at in range(READY_MIN):
        history.learn(hour([0.001 * (1 if at % 2 else -1)], deviation=0.01))
    assert history.known(np.array([0])).item() == READY_MIN
    assert np.abs(history.units(np.array([0]))[:READY_MIN]).max() == pytest.approx(0.1)


def test_stablecoins_stand_still_in_history_and_move_in_stress(tmp_path: Path) -> None:
    coin = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
    records = [
        coin, instrument("USDT-USD", kind="spot", base="USDT"), account("a"), mark(T0, "1", "USDT-USD"),
        transfer(T0 + 1, "t", asset="USDT", amount="1000"), mark(T0 + 2 * SECOND, "1", "USDT-USD"),
    ]  # fmt: skip
    own = {"name": "gains", "stablecoins": 0.05}
    found = run_pipeline(tmp_path, *records, forecasts={"enabled": True, "losses": True, "stress": [own]})
    assert found.measures("counterparty:a")["var_99"] == 0.0
    assert found.measures("counterparty:a")["stress_loss"] == pytest.approx(50.0)
    assert published(found, "counterparty:a")[-1]["worst"] == "gains"


def test_nothing_is_measured_unless_the_configuration_says_so(tmp_path: Path) -> None:
    found = run_pipeline(tmp_path, instrument(), account("a"), fill(T0, "f", "a"), forecasts={"enabled": True})
    assert found.foresight[0].markets.history is None
    assert found.exposed[-1].holdings is not None
    assert found.exposed[-1].holdings.losses is None
    assert "var_99" not in found.measures("counterparty:a")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("enabled = true", r"the limit day is on var_99.*set losses = true under \[forecasts\]"),
        ("losses = true", r"set enabled = true under \[forecasts\]"),
        ("enabled = true\nlosses = true\nstress = [{ name = 'x', moves = { BTC = -1.5 } }]", "between -0.99 and 10"),
        ("enabled = true\nlosses = true\nstress = [{ name = 'x' }, { name = 'x' }]", "two scenarios are named x"),
        ("enabled = true\nlosses = true\nstress = [{ moves = { BTC = -0.5 } }]", "name is missing"),
    ],
)
def test_a_mistake_about_losses_is_named(tmp_path: Path, section: str, told: str) -> None:
    path = write_desk(tmp_path, {"events.jsonl": lines()})
    path.write_text(path.read_text() + f"[limits]\nfile = 'limits.toml'\n[forecasts]\n{section}\n")
    (tmp_path / "limits.toml").write_text("[[limit]]\nid = 'day'\nscope = 'firm'\nmeasure = 'var_99'\nhard = 5\n")
    with pytest.raises(UsageError, match=told):
        load_configuration(path)


def test_the_published_form_is_that_of_the_schema(mixed_pipeline: PipelineRun) -> None:
    row = published(mixed_pipeline, "firm")[-1]
    assert list(row) == ["scope", "state", *LOSSES, "worst"]
    assert json.loads(json.dumps(row)) == row
