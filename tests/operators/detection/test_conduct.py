"""The watch over accounts: each is compared with itself, alerts say why, and few or many are judged alike."""

import json
import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seawall.operators.core.detection import AccountBehaviourState, _account_behaviour, _account_features
from seawall.operators.core.detection._account_features import (
    FEATURES,
    WIDTH,
    AccountObservations,
    BehaviourRule,
    judge_accounts,
)
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

SETTINGS = {"warm_up": 20, "persistence": 2, "refractory_s": 30, "window_s": 10, "level": 0.9}
RULE = BehaviourRule(level=0.5, persistence=2.0, refractory_us=3e6, warm_up=5.0, window_us=2e6)
LIMITS: list[Json] = [{"id": "margin", "scope": "account:*", "measure": "margin_ratio", "hard": 1e5}]
PLAYBOOK: list[Json] = [
    {
        "id": "unusual",
        "when": {"alert": "unusual_conduct"},
        "commands": [{"kind": "REDUCE_ONLY", "target": "account"}, {"kind": "ENTER_DEGRADED_MODE", "target": "firm"}],
    }
]


def given(rng: random.Random, now_us: float) -> AccountObservations:
    """Return something that an account may do, ordinary or not."""
    jump = rng.choice([1.0, 1.0, 1.0, 30.0])
    since = now_us - rng.random() * 2e9 if rng.random() < 0.2 else 0.0
    return AccountObservations(
        touched=rng.random() < 0.7,
        equity=rng.uniform(-50.0, 500.0),
        gross=rng.uniform(0.0, 1000.0) * jump,
        ratio=min(rng.random() * jump, _account_features.RATIO_MAX),
        fills=float(rng.randrange(3) * jump),
        cancels=float(rng.randrange(2) * jump),
        since_us=float(int(since)),
    )


def test_one_by_one_and_all_at_once_give_the_same_bits() -> None:
    rng, accounts, rang = random.Random(7), 40, 0
    alone = [[0.0] * WIDTH for _ in range(accounts)]
    together = np.zeros((WIDTH, accounts))
    for step in range(150):
        now = float(T0 + step * 700_000)
        for column in (together, np.array(alone).T):
            assert column.shape == (WIDTH, accounts)
        for at in range(accounts):
            alone[at][_account_features.NOW] = together[_account_features.NOW, at] = rng.random()
        inputs = [given(rng, now) for _ in range(accounts)]
        squares, rings = judge_accounts(
            together, AccountObservations(*(np.array(column) for column in zip(*inputs, strict=True))), now, RULE
        )
        for at, (row, item) in enumerate(zip(alone, inputs, strict=True)):
            found, rung = _account_behaviour.judge_account(row, item, now, RULE)
            assert found == squares[:, at].tolist()
            assert rung == bool(rings[at])
            rang += rung
        assert np.array(alone).T.tobytes() == together.tobytes()
    assert rang > 20


def test_fill_rates_agree_with_exact_fractions() -> None:
    """The window, the robust moments and the score of one feature, against rational numbers."""
    rng, row, now = random.Random(3), [0.0] * WIDTH, T0
    total, mean, variance = Fraction(0), Fraction(0), Fraction(0)
    for count in range(1, 200):
        gap_us = rng.randrange(1, 5_000_000)
        fills = rng.randrange(3) if count % 50 else 40
        now += gap_us
        window = Fraction(2_000_000)
        total = total * window / (window + (gap_us if count > 1 else now)) + fills
        gap, warm = total - mean, count > 5
        square = gap * gap / max(variance, Fraction(4))
        wanted = min(square, Fraction(100)) if warm and gap > 0 else Fraction(0)
        found, _ = _account_behaviour.judge_account(
            row, AccountObservations(True, 0.0, 0.0, 0.0, float(fills), 0.0, 0.0), float(now), RULE
        )
        assert found[2] == pytest.approx(float(wanted), rel=1e-9, abs=1e-12)
        rate = max(Fraction(1, count), Fraction(1, 512)) * (min(Fraction(1), 4 / square) if warm and square else 1)
        mean, variance = mean + rate * gap, (1 - rate) * (variance + rate * gap * gap)
        mean, variance, total = (Fraction(x).limit_denominator(10**30) for x in (mean, variance, total))
    assert row[_account_features.MEAN + 2] == pytest.approx(float(mean), rel=1e-9)


# --- through the core of risk -----------------------------------------------------------------------------------------


def reference(names: list[str]) -> list[Json]:
    rates = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
    found = [instrument(**rates), instrument("BTC-PERP", base="BTC", **rates)]
    found += [record for name in names for record in account(name)]
    found += [mark(T0, "100"), mark(T0, "100", "BTC-PERP")]
    return found + [transfer(T0 + 1, f"t-{name}", name, amount="100000") for name in names]


def trading(seconds: int, name: str = "a", first: int = 0, quantity: str = "1", each: int = 1) -> list[Json]:
    """Return fills that open and close again, ``each`` of them in every second."""
    return [
        fill(
            T0 + (first + second) * SECOND + 10 + at,
            f"{name}-{first + second}-{at}",
            name,
            side="buy" if second % 2 else "sell",
            quantity=quantity,
        )
        for second in range(seconds)
        for at in range(each)
    ]


def unusual(ran: PipelineRun) -> list[Json]:
    return [alert for alert in ran.topic("alerts") if alert["kind"] == "unusual_conduct"]


def watch(folder: Path, *records: Any, **settings: Any) -> PipelineRun:
    options: dict[str, Any] = {"limits": LIMITS, "playbook": PLAYBOOK, "conduct": {**SETTINGS, **settings}}
    ran = run_pipeline(folder, *sorted_by_time([r for part in records for r in part]), **options)
    assert not [record for audited in ran.audited for record in audited.records.get("rejects", [])]
    return ran


def sorted_by_time(records: list[Json]) -> list[Json]:
    return sorted(records, key=lambda record: record.get("event_time_us", -1))


def test_an_account_that_does_what_it_always_does_is_not_mentioned(tmp_path: Path) -> None:
    assert unusual(watch(tmp_path, reference(["a"]), trading(120))) == []


def test_a_burst_is_an_alert_that_says_what_is_unusual(tmp_path: Path) -> None:
    ran = watch(tmp_path, reference(["a", "b"]), trading(60), trading(5, first=60, each=40), trading(65, "b"))
    first = unusual(ran)[0]
    assert first["scope"] == "account:a"
    assert first["as_of_us"] <= T0 + 63 * SECOND
    assert 0.9 <= first["score"] <= 1.0
    assert max(first["contributions"], key=first["contributions"].get) == "fill_rate"
    assert sum(first["contributions"].values()) == pytest.approx(1.0)
    assert first["text"].startswith("a behaves unlike itself (score 0.9")
    assert "fills, usually" in first["text"]
    assert {alert["scope"] for alert in unusual(ran)} == {"account:a"}


def test_growth_of_exposure_and_of_utilisation_is_seen(tmp_path: Path) -> None:
    growing = [fill(T0 + (60 + at) * SECOND + 10, f"g{at}", quantity="4000") for at in range(4)]
    ran = watch(tmp_path, reference(["a"]), trading(60), growing)
    assert {"exposure_velocity", "utilisation_jump"} <= unusual(ran)[0]["contributions"].keys()


def test_a_warming_account_learns_and_says_nothing(tmp_path: Path) -> None:
    records = reference(["a"]), trading(15), trading(4, first=15, each=40)
    assert unusual(watch(tmp_path / "cold", *records)) == []
    assert unusual(watch(tmp_path / "warm", *records, warm_up=10))


def test_alerts_keep_their_distance_and_need_persistence(tmp_path: Path) -> None:
    records = reference(["a"]), trading(60), trading(10, first=60, each=40)
    often = unusual(watch(tmp_path / "often", *records, refractory_s=2))
    assert len(often) > len(unusual(watch(tmp_path / "rare", *records))) == 1
    gaps = [b["as_of_us"] - a["as_of_us"] for a, b in pairwise(often)]
    assert min(gaps) >= 2 * SECOND
    patient = unusual(watch(tmp_path / "patient", *records, persistence=6))
    assert patient == [] or patient[0]["as_of_us"] > often[0]["as_of_us"]


def test_orders_that_end_without_fills_count_as_cancelled(tmp_path: Path) -> None:
    def order(at_us: int, number: int, quantity: str) -> Json:
        body = {"account": "a", "instrument": "ETH-PERP", "side": "buy", "open_quantity": quantity}
        return {"type": "order", "event_time_us": at_us, "order_id": f"o{number}", **body}

    orders = [order(T0 + second * SECOND + 5, second, "1") for second in range(60)]
    orders += [order(T0 + (60 + at // 30) * SECOND + 5 + at, at, "0") for at in range(120)]
    alert = unusual(watch(tmp_path, reference(["a"]), orders))[0]
    assert list(alert["contributions"]) == ["cancel_rate"]
    assert "cancelled orders" in alert["text"]


def test_a_new_concentration_is_seen(tmp_path: Path) -> None:
    both = [
        fill(
            T0 + second * SECOND + 10 + at, f"{name}-{second}", instrument=name, quantity="5" if second < 1 else "0.01"
        )
        for second in range(60)
        for at, name in enumerate(("ETH-PERP", "BTC-PERP"))
    ]
    shift = [fill(T0 + 60 * SECOND + 5, "close", instrument="BTC-PERP", side="sell", quantity="5.59")]
    shift += [fill(T0 + second * SECOND + 9, f"e-{second}", quantity="0.01") for second in range(61, 66)]
    alert = unusual(watch(tmp_path, reference(["a"]), both, shift, level=0.5))[0]
    assert alert["contributions"]["concentration_change"] > 0.5


def call(at_us: int, status: str = "open") -> Json:
    body = {"from": "a", "to": "house", "asset": "USD", "amount": "10", "kind": "margin_call", "status": status}
    return {"type": "obligation", "event_time_us": at_us, "obligation_id": "m1", **body}


def test_collateral_that_does_not_come_is_an_alert_while_the_account_is_silent(tmp_path: Path) -> None:
    others = trading(1200, "b")[::10]
    late = unusual(watch(tmp_path / "late", reference(["a", "b"]), [call(T0 + 5)], others, refractory_s=1000))
    assert [alert["scope"] for alert in late] == ["account:a"]
    assert list(late[0]["contributions"]) == ["collateral_delay"]
    assert 880 * SECOND < late[0]["as_of_us"] - T0 < 930 * SECOND
    assert "s overdue, usually 0 s" in late[0]["text"]
    paid = [call(T0 + 5), call(T0 + 300 * SECOND, "paid")]
    assert unusual(watch(tmp_path / "paid", reference(["a", "b"]), paid, others)) == []


def test_an_alert_fires_rules_for_its_account_and_a_second_later_for_the_firm(tmp_path: Path) -> None:
    ran = watch(tmp_path, reference(["a"]), trading(60), trading(5, first=60, each=40))
    assert ran.commands() == [("REDUCE_ONLY", "account:a"), ("ENTER_DEGRADED_MODE", "firm")]
    evidence = json.loads(ran.records("commands")[0].value)["evidence"]["id"]
    assert evidence in [record.id for record in ran.records("alerts")]
    assert [body["id"] for body in ran.audits("alert")] == [record.id for record in ran.records("alerts")]


def test_ids_and_counts_go_on_from_the_alerts_of_the_exposure_operator(tmp_path: Path) -> None:
    report = {"type": "position_report", "account": "a", "instrument": "ETH-PERP", "quantity": "777"}
    reports = [{**report, "event_time_us": T0 + second * SECOND + 20} for second in range(58, 66)]
    ran = watch(tmp_path, reference(["a"]), trading(60), trading(5, first=60, each=40), reports, refractory_s=1)
    records = ran.records("alerts")
    kinds = [json.loads(record.value)["kind"] for record in records]
    assert {"report_mismatch", "unusual_conduct"} <= set(kinds)
    assert [record.n for record in records] == list(range(len(records)))
    for audited in ran.audited:
        found = audited.records.get("alerts", [])
        assert [record.id for record in found] == [f"0-{audited.moment.seq}-{at}" for at in range(len(found))]


def test_switched_off_the_watch_changes_nothing(tmp_path: Path) -> None:
    ran = watch(tmp_path, reference(["a"]), trading(60), trading(5, first=60, each=40), enabled=False)
    assert all(one.events.activity is None for one in ran.exposed)
    assert [one for one in ran.measured if one.measures.moment.key == "0"] == ran.exposed
    assert unusual(ran) == []


def test_numbers_that_are_not_finite_teach_nothing(tmp_path: Path) -> None:
    ran = watch(tmp_path, reference(["a"]), trading(30))
    state = AccountBehaviourState.restore(ran.conduct[0].snapshot())
    one = next(one for one in reversed(ran.exposed) if one.events.activity and len(one.events.activity.filled))
    measures, events, activity = one.measures, one.events, one.events.activity
    assert activity is not None
    table = measures.tables["account"]
    odd = table._replace(values=np.full_like(table.values, np.nan))
    before = state.snapshot()
    for filled in (np.zeros(1, dtype=np.int64), np.zeros(_account_behaviour.MANY_MIN, dtype=np.int64)):
        spoilt = measures._replace(tables={**measures.tables, "account": odd})
        done = events._replace(activity=activity._replace(filled=filled))
        state.step(one._replace(measures=spoilt, events=done))
    assert state.snapshot() == before


def test_open_calls_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_account_behaviour, "CALLS_MAX", 3)
    calls = [{**call(T0 + 5 + at), "obligation_id": f"m{at}"} for at in range(50)]
    sizes = {
        count: len(watch(tmp_path / str(count), reference(["a"]), calls[:count]).conduct[0].snapshot())
        for count in (5, 50)
    }
    assert sizes[50] < sizes[5] + 20


def test_a_feature_has_a_floor_a_name_and_a_clause() -> None:
    assert len(FEATURES) == len(_account_features.FLOORS) == len(set(FEATURES))
    row = [0.0] * WIDTH
    assert len({_account_features.feature_clause(feature, row, T0, 1.0) for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize(
    ("line", "words"), [("level = 2", "level"), ("levle = 0.5", "'level'"), ("enabled = 1", "enabled")]
)
def test_a_wrong_setting_is_refused_in_one_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text(f"[conduct]\n{line}\n")
    with pytest.raises(UsageError, match=words) as error:
        load_configuration(tmp_path / "desk.toml")
    assert "[conduct]" in str(error.value)
