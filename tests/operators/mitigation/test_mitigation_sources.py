"""What else asks for mitigation and what else it works out: forecasts, drift, hedges, settings, strategies."""

import random
from pathlib import Path

import pytest

from seawall.schemas.configuration import load_playbook, load_response
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.market_data import quote, signals, watch_group
from seawall_testing.paths import OPS
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.playbooks import at_level, equity, external_event, payloads, rule, run_playbook, signal

READY = OPS / "playbooks"
TERMS: Json = {"acknowledge_s": 1000, "complete_s": 1000}

# --- forecasts --------------------------------------------------------------------------------------------------------


def test_a_forecast_calls_for_margin_before_the_margin_breaks(tmp_path: Path) -> None:
    chance, price, wavering = random.Random(11), 100.0, []
    for at in range(0, 2400, 20):
        price *= 1.0 + chance.gauss(0.0, 0.001)
        wavering.append(mark(T0 + at * SECOND + 1, f"{price:.4f}"))
    limits = [
        {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "soft": 0.9, "hard": 1.0},
        {"id": "soon", "scope": "account:*", "measure": "breach_probability_24h", "soft": 0.05},
    ]
    book = [rule("ahead", {"limit": "soon", "level": "soft"}, ("CALL_MARGIN", "account", {"amount": "5"})),
            rule("late", {"limit": "margin", "level": "soft"}, ("REDUCE_ONLY", "account"))]  # fmt: skip
    ran = run_pipeline(
        tmp_path, instrument(maintenance_margin_rate="0.05", initial_margin_rate="0.05"), account("near"),
        transfer(T0, "t", "near", amount="8"), mark(T0), fill(T0, "f", "near", quantity="1"), *wavering,
        limits=limits, playbook=book, forecasts={"enabled": True}, response=TERMS,
    )  # fmt: skip
    assert ran.commands()[:1] == [("CALL_MARGIN", "account:near")]
    (command,) = ran.topic("commands")[:1]
    assert (command["reason"]["measure"], command["reason"]["limit"]) == ("breach_probability_24h", "soon")
    broke = [b["as_of_us"] for b in ran.topic("breaches") if b["limit"] == "margin"]
    assert not broke or command["evidence"]["as_of_us"] < broke[0]


# --- models that drift ------------------------------------------------------------------------------------------------


def drifting() -> list[Json]:
    """Return quotes of one instrument, one a second, and from the tenth minute on one or eight of them."""
    chance, price, found = random.Random(5), 100.0, []
    for second in range(1200):
        price *= 1.0 + chance.gauss(0.0, 0.0003)
        for at in range(chance.choice((1, 1, 8)) if second >= 600 else 1):
            found.append(quote(T0 + second * SECOND + at * 100_000, price, half_bp=chance.uniform(1, 2)))
    return found


def test_a_model_that_no_longer_describes_its_market_is_told_and_the_ready_playbook_turns_it_off(
    tmp_path: Path,
) -> None:
    heard = [(one.event_time_us, alert) for one in signals(watch_group(drifting())) for alert in one.alerts]
    told = [(at_us, alert) for at_us, alert in heard if alert.kind == "model_drift"]
    assert len(told) >= 1
    at_us, first = told[0]
    assert at_us > T0 + 600 * SECOND, "nothing drifts before anything changes"
    assert (first.scope, first.text) == ("instrument:ETH-PERP", "ETH-PERP: the model of feed has drifted")
    file = READY / "model_drift.toml"
    alert = signal(3, {"kind": first.kind, "scope": first.scope, "text": first.text, "severity": first.severity})
    limit = {"id": "strategy-leverage", "scope": "account:*", "measure": "leverage", "soft": 1e6}
    opened = fill(T0 + SECOND, "f1", "h1")
    ran = run_playbook(tmp_path, load_playbook(file), opened, alert, limits=[limit], response=load_response(file))
    assert ran.commands() == [
        ("SWITCH_STRATEGY_PROFILE", "account:h1"),
        ("SWITCH_STRATEGY_PROFILE", "underlying:ETH"),
    ]


# --- hedges -----------------------------------------------------------------------------------------------------------

NET: Json = {"id": "net", "scope": "underlying:*", "measure": "net_notional", "soft": 100, "hard": 200}
HEDGE: Json = {"compute": "position", "to": "soft", "participation": 0.1, "price_bound": 0.01, "instrument": "ETH-PERP"}


def hedged(
    folder: Path, command: Json, depth: float = 1e6, measure: str = "net_notional", **options: object
) -> PipelineRun:
    """Run a house account that buys 500 of ETH: the underlying's limit of 200 breaks by a trade of ours."""
    limits = [{**NET, "measure": measure}]
    book = [rule("hedge", {"limit": "net", "level": "hard"}, ("HEDGE", "underlying", command))]
    opened = fill(T0 + SECOND, "f1", "h1", quantity="5", price="100")
    return run_playbook(folder, book, signal(0.5, depth=depth), opened, limits=limits, shards=3, **options)


@pytest.mark.parametrize(("depth", "quantity", "notional"), [(1e6, "4.00", "400.00"), (1500.0, "1.50", "150.00")])
def test_a_hedge_brings_the_exposure_back_in_whole_increments_within_depth_and_at_a_price(
    tmp_path: Path, depth: float, quantity: str, notional: str
) -> None:
    (command,) = payloads(hedged(tmp_path, HEDGE, depth))
    assert (command["type"], command["target"]) == ("HEDGE", {"scope": "underlying", "id": "ETH"})
    wanted = {"side": "sell", "quantity": quantity, "notional": notional, "limit_price": "99"}
    assert {name: command["action"][name] for name in wanted} == wanted
    assert command["evidence"]["plan"]["participation"] == "0.1"


def test_with_terms_a_hedge_is_worked_out_for_a_person_and_given_by_nobody(tmp_path: Path) -> None:
    ran = hedged(tmp_path, HEDGE, response=TERMS)
    assert ran.commands() == []
    (withheld,) = ran.audits("withheld")
    assert withheld["why"] == "trading in our own books takes a person"
    assert withheld["action"]["quantity"] == "4.00"


@pytest.mark.parametrize(
    ("command", "measure", "why"),
    [
        (HEDGE, "gross_notional", "a hedge brings net_notional or delta back, it adds to gross_notional"),
        ({**HEDGE, "instrument": "BTC-PERP"}, "net_notional", "BTC-PERP has no fresh mark to hedge at"),
    ],
)
def test_what_no_hedge_can_bring_back_or_nobody_can_price_is_left_to_people(
    tmp_path: Path, command: Json, measure: str, why: str
) -> None:
    assert [body["why"] for body in hedged(tmp_path, command, measure=measure).audits("withheld")] == [why]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_limit_is_set_to_a_part_of_what_stands_and_never_to_more(tmp_path: Path) -> None:
    room = {"id": "room", "scope": "account:*", "measure": "gross_notional", "hard": 5000}
    low = {
        "id": "low",
        "scope": "account:*",
        "measure": "equity",
        "direction": "below",
        "warning": 300,
        "soft": 200,
        "hard": 100,
    }
    half = {"limit": "room", "compute": "ratio", "ratio": 0.5}
    book = [
        rule("tighten", at_level("warning"), ("SET_LIMIT", "account", half)),
        rule("floor", at_level("warning"), ("SET_LIMIT", "account", {**half, "limit": "low"})),
        rule("mistake", at_level("soft"), ("SET_LIMIT", "account", {"limit": "room", "value": 9000})),
        rule("milder", at_level("hard"), ("SET_LIMIT", "account", {"limit": "room", "value": 4000})),
    ]
    ran = run_playbook(
        tmp_path, book, equity(1, "-750"), equity(2, "-60"), equity(3, "-100"), limits=[low, room], response=TERMS
    )
    assert [(c["action"]["limit"], c["action"]["value"]) for c in payloads(ran)] == [("room", "2500"), ("low", "200")]
    assert [body["why"] for body in ran.audits("withheld")] == [
        "a value of 9000 would loosen room, which stands at 5000; that takes people"
    ]


def test_a_haircut_covers_what_the_market_moves_and_is_never_below_what_the_rule_states(tmp_path: Path) -> None:
    moves = [mark(T0 + at * SECOND + 1, "100" if at % 2 else "104") for at in range(1, 200)]

    def cut(multiple: float, least: float) -> Json:
        return {"asset": "ETH", "compute": "volatility", "multiple": multiple, "haircut": least}

    told = external_event(200, "notice", notice_id="n", subject="X", kind="reserves", severity=2)
    book = [rule("cut", {"notice": "reserves"}, ("SET_HAIRCUT", "firm", cut(3, 0.02)))]
    (command,) = payloads(run_playbook(tmp_path / "1", book, moves, told, response=TERMS))
    plan = command["evidence"]["plan"]
    assert 0.02 < float(command["action"]["haircut"]) <= 1.0
    assert float(plan["covers"]) == pytest.approx(3 * float(plan["volatility"]) * (1 / 365) ** 0.5)
    book = [rule("cut", {"notice": "reserves"}, ("SET_HAIRCUT", "firm", cut(0.01, 0.9)))]
    (command,) = payloads(run_playbook(tmp_path / "2", book, moves, told, response=TERMS))
    assert command["action"]["haircut"] == "0.9"


# --- strategies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "event", "found"),
    [
        (
            {"venue_status": "degraded"},
            external_event(3, "venue_status", venue="hub", status="degraded"),
            ["basis", "carry"],
        ),
        ({"alert": "odd"}, signal(3, {"kind": "odd", "scope": "instrument:BTC-PERP"}), ["carry"]),
        ({"alert": "report_mismatch"},
         external_event(3, "position_report", account="h1", instrument="ETH-PERP", quantity="9"),
         ["basis"]),
        ({"notice": "rating"},
         external_event(3, "notice", notice_id="n", subject="hub", kind="rating", severity=1),
         ["basis", "carry"]),
        ({"limit": "gross", "level": "hard"}, fill(T0 + 3 * SECOND, "f9", "h1", strategy="basis", quantity="90"),
         ["basis"]),
        ({"notice": "rating"},
         external_event(3, "notice", notice_id="n", subject="nobody", kind="rating", severity=1), []),
    ],
)  # fmt: skip
def test_a_strategy_is_addressed_where_it_holds_something_in_what_is_heard_of(
    tmp_path: Path, when: Json, event: Json, found: list[str]
) -> None:
    btc = {**instrument("BTC-PERP", base="BTC"), "event_time_us": T0}
    fills = [fill(T0 + SECOND, "f1", "h1", strategy="basis"),
             fill(T0 + SECOND, "f3", "h1", strategy="gone", quantity="1"),
             fill(T0 + SECOND, "f4", "h1", strategy="gone", quantity="1", side="sell"),
             fill(T0 + SECOND, "f2", "h2", strategy="carry", instrument="BTC-PERP")]  # fmt: skip
    gross = {"id": "gross", "scope": "strategy:*", "measure": "gross_notional", "hard": 5000}
    book = [rule("r", when, ("SWITCH_STRATEGY_PROFILE", "strategy", {"profile": "defensive"}))]
    ran = run_playbook(tmp_path, book, btc, mark(T0 + 5, "100", "BTC-PERP"), fills, event, limits=[gross], shards=3)
    assert ran.commands() == [("SWITCH_STRATEGY_PROFILE", f"strategy:{name}") for name in found]
