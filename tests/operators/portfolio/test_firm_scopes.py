"""Instruments, assets, issuers and strategies across shards, against a slow reference in exact fractions.

They are there where a limit names one of their kind and nowhere else; a strategy is what its fills made of nothing, in
whichever accounts and shards, and a bust leaves no trace in it.
"""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.operators.core.portfolio import _firm
from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

KINDS = ("instrument", "asset", "issuer", "strategy")
LIMITS = [{"id": kind, "scope": f"{kind}:*", "measure": "gross_notional", "hard": 1e15} for kind in KINDS]
PLURALS = ("groups", "underlyings", "venues", "instruments", "assets", "issuers", "strategies")
COVER = {"id": "cover", "scope": "account:*", "measure": "equity", "direction": "below", "hard": -1e15}
PRICES = {"P": Fraction(100), "Q": Fraction(5, 2)}
TOKEN = Fraction(20)  # of FTT, issued by b, to which WFTT is pegged
HOLDERS = {"h": (1, 1), "a": (-1, -1), "b": (-1, -1), "g": (-1, 0)}  # sign and stake
REFERENCE: list[Json] = [
    {"type": "asset", "asset": "FTT", "class": "token", "issuer": "b"},
    {"type": "asset", "asset": "WFTT", "class": "token", "peg": "FTT"},
    instrument("FTT-USD", kind="spot", base="FTT"),
    instrument("WFTT-USD", kind="spot", base="WFTT"),
    instrument("P", quantity_increment="0.01"),
    instrument("Q", base="FTT", quantity_increment="0.01"),
    *account("h", holder="house"),
    *account("a"),
    *account("b"),
    *account("g", capacity="agency"),
]
MARKS = [mark(T0 + 1, f"{float(price)}", name) for name, price in PRICES.items()]
MARKS += [mark(T0 + 1, "20", name) for name in ("FTT-USD", "WFTT-USD")]


class Trade(NamedTuple):
    """One fill, and whether it is busted afterwards."""

    holder: str
    name: str
    quantity: Fraction
    price: Fraction
    fee: Fraction
    strategy: str
    busted: bool


TRADES = st.lists(
    st.builds(
        Trade,
        st.sampled_from(sorted(HOLDERS)),
        st.sampled_from(sorted(PRICES)),
        st.integers(-500, 500).filter(bool).map(lambda n: Fraction(n, 100)),
        st.integers(1, 40_000).map(lambda n: Fraction(n, 100)),
        st.sampled_from([Fraction(0), Fraction(1, 4)]),
        st.sampled_from(["", "carry", "basis"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


def lines_of(trades: list[Trade]) -> list[Json]:
    found = []
    for at, trade in enumerate(trades):
        body: dict[str, Any] = {
            "instrument": trade.name,
            "side": "buy" if trade.quantity > 0 else "sell",
            "quantity": f"{float(abs(trade.quantity)):.2f}",
            "price": f"{float(trade.price):.2f}",
        }
        paid = {"fee": f"{float(trade.fee)}"} if trade.fee else {}
        named = {"strategy": trade.strategy} if trade.strategy else {}
        found.append(fill(T0 + 10, f"f{at}", trade.holder, **body, **paid, **named))
        if trade.busted:
            found.append(fill(T0 + SECOND, f"b{at}", trade.holder, **body, action="bust", ref_fill_id=f"f{at}"))
    return sorted(found, key=lambda record: int(record["event_time_us"]))


def run_scopes(folder: Path, *records: Any, limits: list[Json] = LIMITS) -> PipelineRun:
    end = mark(T0 + 2 * SECOND, "20", "FTT-USD")
    return run_pipeline(folder, REFERENCE, *MARKS, *records, end, limits=[COVER, *limits], shards=3)


def measured(found: PipelineRun, scope: str) -> dict[str, float]:
    try:
        return found.measures(scope)
    except LookupError:
        return {}


@settings(max_examples=30, deadline=None)
@given(TRADES)
def test_strategies_and_instruments_are_the_sums_of_their_fills_on_every_shard(
    tmp_path_factory: pytest.TempPathFactory, trades: list[Trade]
) -> None:
    found = run_scopes(tmp_path_factory.mktemp("wide"), *lines_of(trades))
    kept = [trade for trade in trades if not trade.busted]
    for strategy in ("carry", "basis"):
        counted = [t for t in kept if t.strategy == strategy and HOLDERS[t.holder][1]]
        units = {
            (h, n): sum((t.quantity for t in counted if (t.holder, t.name) == (h, n)), Fraction())
            for h in HOLDERS
            for n in PRICES
        }
        gross_notional = sum(abs(held) * PRICES[name] for (_, name), held in units.items())
        net = sum(HOLDERS[h][1] * held * PRICES[name] for (h, name), held in units.items())
        cash = sum((HOLDERS[t.holder][1] * (t.quantity * t.price + t.fee) for t in counted), Fraction())
        got = measured(found, f"strategy:{strategy}") or dict.fromkeys(("gross_notional", "net_notional", "pnl"), 0.0)
        assert got["gross_notional"] == pytest.approx(float(gross_notional))
        assert got["net_notional"] == pytest.approx(float(net), abs=1e-6)
        assert got["pnl"] == pytest.approx(float(net - cash), abs=1e-6)
    gross = {}
    for name, price in PRICES.items():
        held = {h: sum((t.quantity for t in kept if (t.holder, t.name) == (h, name)), Fraction()) for h in HOLDERS}
        gross[name] = sum(abs(units) * price for units in held.values())
        got = found.measures(f"instrument:{name}")
        assert got["gross_notional"] == pytest.approx(float(gross[name]))
        net = sum(HOLDERS[h][1] * units * price for h, units in held.items())
        assert got["net_notional"] == pytest.approx(float(net), abs=1e-6)
    total = sum(gross.values())
    share = found.measures("instrument:P")["concentration"]
    assert share == pytest.approx(float(gross["P"] / total) if total else 0.0)


def test_many_fills_at_once_make_of_a_strategy_what_they_make_one_by_one(tmp_path: Path) -> None:
    trades = [
        Trade("hab"[at % 3], "PQ"[at % 2], Fraction(7 * at % 11 - 5 or 1), Fraction(100 + at), Fraction(at % 4, 4),
              ("carry", "", "basis")[at % 5 % 3], False)
        for at in range(90)
    ]  # fmt: skip
    apart = [{**record, "event_time_us": T0 + 10 + at * 100 * MS} for at, record in enumerate(lines_of(trades))]
    together, one_by_one = (run_scopes(tmp_path / name, *r) for name, r in (("one", lines_of(trades)), ("many", apart)))
    for strategy in ("carry", "basis"):
        assert together.measures(f"strategy:{strategy}") == one_by_one.measures(f"strategy:{strategy}")


def test_a_correction_moves_a_strategy_to_what_it_says(tmp_path: Path) -> None:
    first = fill(T0 + 10, "f", "h", instrument="P", quantity="2", price="90", strategy="carry")
    second = fill(T0 + SECOND, "c", "h", instrument="P", quantity="3", price="95", strategy="basis", action="correct",
                  ref_fill_id="f")  # fmt: skip
    found = run_scopes(tmp_path, first, second)
    assert found.measures("strategy:carry") == {"gross_notional": 0.0, "net_notional": 0.0, "pnl": 0.0}
    assert found.measures("strategy:basis") == {"gross_notional": 300.0, "net_notional": 300.0, "pnl": 15.0}


def test_an_expired_contract_becomes_cash_of_its_strategy(tmp_path: Path) -> None:
    future = instrument("F", kind="future", expiry_us=T0 + SECOND)
    bought = fill(T0 + 10, "f", "h", instrument="F", quantity="2", price="90", strategy="carry")
    settled = mark(T0 + SECOND, "101", "F", kind="settlement")
    found = run_scopes(tmp_path, future, mark(T0 + 1, "100", "F"), bought, settled)
    assert found.measures("strategy:carry") == {"gross_notional": 0.0, "net_notional": 0.0, "pnl": 22.0}


def test_assets_and_issuers_say_what_is_held_and_given_and_how_much_of_it_is_one(tmp_path: Path) -> None:
    found = run_scopes(
        tmp_path,
        transfer(T0 + 5, "t1", "a", asset="FTT", amount="10"),
        transfer(T0 + 5, "t2", "h", asset="WFTT", amount="5"),
        transfer(T0 + 5, "t3", "h", asset="USD", amount="700"),
        fill(T0 + 6, "f", "h", instrument="Q", quantity="40", price="2.5"),
    )
    coin, pegged = found.measures("asset:FTT"), found.measures("asset:WFTT")
    assert coin == {"gross_notional": 200.0, "net_notional": -200.0, "collateral_held": 200.0, "concentration": 0.2}
    assert pegged == {"gross_notional": 100.0, "net_notional": 100.0, "collateral_held": 0.0, "concentration": 0.1}
    issued = found.measures("issuer:b")  # both, and a contract on one of them worth 100
    assert issued == {"gross_notional": 400.0, "net_notional": 0.0, "collateral_held": 200.0, "concentration": 1.0}


def test_a_limit_on_such_a_scope_breaks_and_names_it_and_its_rows_are_written(tmp_path: Path) -> None:
    limit = {"id": "one-name", "scope": "issuer:*", "measure": "collateral_held", "soft": 100, "hard": 150}
    found = run_scopes(tmp_path, transfer(T0 + 5, "t", "a", asset="FTT", amount="10"), limits=[limit])
    assert found.breaches("one-name") == [("issuer:b", "none", "hard")]
    rows = [value["issuers"] for value in found.topic("exposures") if value["shard"] == "all" and value["issuers"]]
    assert rows[0][0]["issuer"] == "b"


def test_scopes_that_no_limit_names_are_neither_computed_nor_written(tmp_path: Path) -> None:
    found = run_scopes(tmp_path, fill(T0 + 6, "f", "h", instrument="Q", strategy="carry"), limits=[])
    assert not [kind for one in found.measured for kind in one.measures.tables if kind in KINDS]
    assert not [value for value in found.topic("exposures") if "instruments" in value or "strategies" in value]


def test_exposures_that_are_too_large_for_one_record_go_on_in_others_with_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fills = [fill(T0 + 6 + at, f"f{at}", "h", instrument="PQ"[at % 2], strategy=f"s-{at}") for at in range(40)]
    found = {}
    for name, size in (("one", _firm.PIECE_BYTES_MAX), ("several", 2_000)):
        monkeypatch.setattr(_firm, "PIECE_BYTES_MAX", size)
        wide = [record for record in run_scopes(tmp_path / name, *fills).records("exposures") if record.key == "all"]
        assert max(len(record.value) for record in wide) <= max(size, 900)
        assert [record.n for record in wide] == list(range(len(wide)))
        values = [json.loads(record.value) for record in wide]
        rows = [(plural, row) for value in values for plural in PLURALS for row in value[plural]]
        found[name] = len(wide), [value["firm"] for value in values if value["firm"]], sorted(rows, key=str)
    assert found["one"][1:] == found["several"][1:]
    assert found["one"][0] < found["several"][0]


def test_a_share_that_moves_by_a_hundredth_and_more_is_told_whatever_changes_are_worth_telling(tmp_path: Path) -> None:
    both = [fill(T0 + 2, f"f-{name}", "a", instrument=name, quantity="1", price="100") for name in ("P", "S")]
    more = fill(T0 + 2 * SECOND, "g", "a", instrument="P", quantity="0.06", price="100")
    other = [instrument("S", base="ETH", quantity_increment="0.01"), mark(T0 + 1, "100", "S")]
    limits = [{"id": "share", "scope": "underlying:*", "measure": "concentration", "hard": 2}]
    ran = run_pipeline(
        tmp_path,
        instrument("P", base="BTC", quantity_increment="0.01"),
        account("a"),
        other,
        mark(T0 + 1, "100", "P"),
        *both,
        more,
        limits=limits,
        exposure_change_min=0.02,
    )
    rows = [row for record in ran.topic("exposures") for row in record.get("underlyings", ())]
    shares = [round(row["concentration"], 4) for row in rows if row["underlying"] == "ETH"]
    assert shares == [0.5, 0.4854]


def test_a_venue_that_is_first_named_by_a_mark_has_nothing_of_accounts_without_one(tmp_path: Path) -> None:
    events = [mark(T0, "100", "P"), fill(T0 + 1, "f1", instrument="P"), mark(T0 + SECOND, "100", "P", venue="new")]
    limit = {"id": "venues", "scope": "venue:*", "measure": "gross_notional", "hard": 1e15}
    venue = {"type": "counterparty", "counterparty": "new", "name": "new", "role": "venue"}
    reference = [venue, instrument("P", quantity_increment="0.01"), *account("a")]
    found = run_pipeline(tmp_path, *reference, *events, mark(T0 + 3 * SECOND, "100", "P"), limits=[limit])
    assert found.measures("account:a")["gross_notional"] == 150
    assert found.measures("venue:new")["gross_notional"] == 0
