"""A state with options, funding, orders, obligations, pledges and margin models resumes as it was, at every slice."""

import random
from collections.abc import Callable

import pytest

from seawall_testing.core_states import StateCase, cases_by_name
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.state_checks import CHECKS

HOUR = 3600 * SECOND
SHARDS = 2
HOLDERS = ["a", "b", "hub-rate", "hub-schedule", "hub-scenario", "deribit-scenario", "okx-scenario"]
GRIDS = {name: {"grid": name} for name in ("deribit", "okx")}


def reference() -> list[Json]:
    rates = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
    option = {"kind": "option", "base": "BTC", "strike": "51000", "quantity_increment": "0.1", "forward": "F"}
    coin = {"settlement": "BTC", "inverse": True, "option_type": "call", "expiry_us": T0 + 24 * HOUR}
    soon = {"option_type": "put", "expiry_us": T0 + 20 * SECOND}
    tiers = [{"notional_from": "0", "initial_margin_rate": "0.05", "maintenance_margin_rate": "0.02"}]
    scaled = {"tiers": tiers, "open_interest_lower": "1000", "open_interest_upper": "9000000"}
    house = [
        {"type": "account", "account": f"hub-{model}", "counterparty": "hub", "holder": "house", "venue": "hub",
         "margin_model": model} for model in ("rate", "schedule", "scenario")
    ]  # fmt: skip
    house += [{**house[-1], "account": f"{venue}-scenario", "counterparty": "hub", "venue": venue} for venue in GRIDS]
    return [
        {"type": "asset", "asset": "FTT", "class": "token", "issuer": "a", "haircut": "0.2"},
        instrument("BTC-USD", kind="spot", base="BTC"),
        instrument("FTT-USD", kind="spot", base="FTT"),
        instrument("F", kind="future", base="BTC", expiry_us=T0 + 24 * HOUR, **rates),
        instrument("P", base="BTC", **rates),
        instrument("C", **option, **coin),
        instrument("S", **option, **soon),
        {"type": "schedule", "venue": "hub", "instrument": "P", **scaled},
        {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue", "group": "g"},
        *account("a"),
        *account("b"),
        {"type": "netting_set", "netting_set": "a", "counterparty": "a", "margined": True, "threshold": "50",
         "eligible": {"USD": "0", "BTC": "0.1"}},
        *house,
    ]  # fmt: skip


def records() -> list[Json]:
    rng, found = random.Random(5), list[Json]()
    for name, price in (("BTC-USD", 50000), ("F", 51000), ("P", 50000), ("FTT-USD", 20)):
        found.append(mark(T0 + 1, str(price), name))
    found.append({"type": "position_report", "event_time_us": T0 + 1, "account": "b", "instrument": "C",
                  "quantity": "0.3", "kind": "opening"})  # fmt: skip
    for at, name in enumerate(HOLDERS):
        found.append(transfer(T0 + 2, f"t{at}", name, amount="9000"))
        found.append(transfer(T0 + 3, f"u{at}", name, amount="3", asset="FTT", purpose="independent_amount"))
        found.append(transfer(T0 + 4, f"v{at}", name, amount="0.01", asset="BTC", segregated=True))
    for at in range(90):
        now = T0 + 10 + at * SECOND // 3
        name, price = rng.choice([("P", 50000.0), ("F", 51000.0), ("C", 0.02), ("S", 900.0)])
        price *= 1 + rng.uniform(-0.01, 0.01)
        body = {"instrument": name, "side": rng.choice(["buy", "sell"]), "quantity": "0.1", "price": f"{price:.6f}"}
        named = {"strategy": f"s{at % 3}"} if at % 3 else {}
        found.append(fill(now, f"f{at}", rng.choice(HOLDERS), **body, **named))
        volatility = {"implied_volatility": f"{rng.uniform(0.4, 0.9):.3f}"} if at % 2 and name in "CS" else {}
        found.append(mark(now + 1, f"{price:.6f}", name, **volatility))
        if at % 4 == 0:
            found.append(mark(now + 2, f"{51000 + rng.uniform(-300, 300):.2f}", "F"))
            order = {"order_id": f"o{at % 12}", "account": rng.choice(HOLDERS), "instrument": rng.choice("PC")}
            found.append({"type": "order", "event_time_us": now + 3, **order, "side": "buy",
                          "open_quantity": rng.choice(["0", "0.2"])})  # fmt: skip
        if at % 9 == 0:
            where = {"event_time_us": now + 4, "venue": "hub", "instrument": "P"}
            kind = rng.choice(["predicted", "settled"])
            found.append({"type": "funding", **where, "rate": "0.001", "interval_us": 8 * HOUR, "kind": kind})
            found.append({"type": "open_interest", **where, "quantity": str(10 * at)})
            found.append({"type": "obligation", "event_time_us": now + 5, "obligation_id": f"d{at % 2}", "from": "b",
                          "to": "house", "asset": "USD", "amount": str(at), "kind": "settlement"})  # fmt: skip
            found.append(mark(now + 6, f"{49000 + at}", "BTC-USD", venue="hub"))
    found.append(transfer(T0 + 25 * SECOND, "p", "hub-rate", amount="-5", purpose="funding"))
    found.append(mark(T0 + 26 * SECOND, "50500", "S", kind="settlement"))
    return sorted(found, key=lambda record: int(record["event_time_us"]))


@pytest.fixture(scope="module")
def rich_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    kinds = ("instrument", "asset", "issuer", "strategy")
    limits = [{"id": kind, "scope": f"{kind}:*", "measure": "gross_notional", "hard": 5000} for kind in kinds]
    folder, more = tmp_path_factory.mktemp("rich"), {"portfolio_margin": GRIDS}
    return run_pipeline(folder, *reference(), *records(), shards=SHARDS, limits=limits, **more)


@pytest.fixture(scope="module")
def known(rich_pipeline: PipelineRun) -> dict[str, StateCase]:
    return cases_by_name(rich_pipeline, SHARDS)


def test_the_run_uses_every_part_whose_state_is_saved(rich_pipeline: PipelineRun) -> None:
    states = [exposure.ledger for exposure in rich_pipeline.exposures]
    assert rich_pipeline.topic("rejects") == []
    assert all(ledger is not None and bool(ledger.funding.known) for ledger in states)
    hub = next(ledger for ledger in states if ledger is not None and "hub-scenario" in ledger.directory.own_names)
    assert len(hub.orders) > 0
    for name in HOLDERS[4:]:
        assert rich_pipeline.measures(f"account:{name}")["maintenance_margin"] > 0.0
    assert rich_pipeline.measures("counterparty:a")["wrong_way"] == 1.0
    assert rich_pipeline.measures("counterparty:b")["settlement_exposure"] > 0.0
    assert rich_pipeline.measures("underlying:BTC")["vega"] != 0.0
    assert rich_pipeline.measures("strategy:s1")["gross_notional"] > 0.0
    assert rich_pipeline.measures("issuer:a")["collateral_held"] > 0.0
    settled = rich_pipeline.audits("settled")  # in each shard once, and again where it was traded afterwards
    assert len(settled) > SHARDS and settled == [{"instrument": "S", "price": 50500.0}] * len(settled)


@pytest.mark.parametrize("name", [*(f"exposure-{shard}" for shard in range(SHARDS)), "firm"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_every_check_holds(known: dict[str, StateCase], name: str, check: Callable[[StateCase], None]) -> None:
    check(known[name])
