"""The book against a slow, obvious reference: exact fractions, one fill after the other.

Positions are exact integers; equity is collateral + realised + unrealised - fees; nothing counts twice.
"""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.operators.core.base import pack, unpack
from seawall.operators.core.holdings import VECTOR_MIN, Balances, FillMemory, Positions
from seawall.operators.core.holdings._positions import ROUNDS_MAX
from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

# --- positions --------------------------------------------------------------------------------------------------------


def positions(count: int = 4) -> Positions:
    found = Positions()
    found.classify(np.zeros(count, dtype=np.int64), 1)
    for number in range(count):
        found.slot(0, number, 0)
    return found


@pytest.mark.parametrize(
    ("fills", "units", "cost", "realised"),
    [
        ([(10, 2.0)], 10, 20.0, 0.0),
        ([(10, 2.0), (10, 4.0)], 20, 60.0, 0.0),
        ([(10, 2.0), (-4, 5.0)], 6, 12.0, 12.0),
        ([(10, 2.0), (-10, 5.0)], 0, 0.0, 30.0),
        ([(10, 2.0), (-15, 5.0)], -5, -25.0, 30.0),
        ([(-10, 2.0), (4, 1.0)], -6, -12.0, 4.0),
        ([(-10, 2.0), (25, 1.0)], 15, 15.0, 10.0),
        ([(10, 2.0), (10, 4.0), (-5, 4.0), (-15, 2.0)], 0, 0.0, -10.0),
    ],
    ids=["open", "add", "reduce", "close", "flip", "reduce short", "flip short", "average"],
)
def test_a_fill_moves_units_entry_cost_and_what_is_realised(
    fills: list[tuple[int, float]], units: int, cost: float, realised: float
) -> None:
    book = positions()
    total = sum(book.fill(0, quantity, value) for quantity, value in fills)
    assert (int(book.rows["units"][0]), float(book.rows["cost"][0]), total) == (units, cost, realised)


MOVES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(-(10**12), 10**12).filter(bool) | st.integers(-3, 3).filter(bool),
        st.floats(1e-9, 1e9) | st.sampled_from([1.0, 2.0, 0.1]),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(MOVES)
def test_the_vector_path_gives_the_bits_of_the_scalar_path(moves: list[tuple[int, int, float, bool]]) -> None:
    one, many = positions(), positions()
    slots = np.array([slot for slot, *_ in moves])
    units = np.array([quantity for _, quantity, *_ in moves])
    values = np.array([-1 / value if inverse else value for *_, value, inverse in moves])
    held = [int(one.rows["units"][slot]) for slot in range(4)]
    realised, opened = [], []
    for slot, quantity, value in zip(slots.tolist(), units.tolist(), values.tolist(), strict=True):
        realised.append(one.fill(slot, quantity, value))
        opened.append((held[slot] + quantity != 0) - (held[slot] != 0))
        held[slot] += quantity
    found, counted = many.fill_many(slots, units, values)
    assert found.tobytes() == np.array(realised).tobytes()
    assert counted.tolist() == opened
    for name in ("units", "cost", "size"):
        assert many.rows[name].tobytes() == one.rows[name].tobytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1e9, 1e9)), min_size=1, max_size=50))
def test_balances_added_together_have_the_bits_of_those_added_one_by_one(adds: list[tuple[int, float]]) -> None:
    one, many = Balances(), Balances()
    for key, amount in adds:
        one.add(key << 20 | 1, amount)
    many.add_many(np.array([key << 20 | 1 for key, _ in adds]), np.array([amount for _, amount in adds]))
    assert many.rows["amount"].tobytes() == one.rows["amount"].tobytes()
    assert many.rows["account"].tolist() == one.rows["account"].tolist()
    assert many.amount(77 << 20) == 0.0


def test_more_rounds_than_the_vector_path_takes_end_in_the_scalar_one() -> None:
    one, many = positions(1), positions(1)
    count = ROUNDS_MAX + 5
    wanted = [one.fill(0, 1 if at % 2 else -2, 1.1 * (at + 1)) for at in range(count)]
    units = np.array([1 if at % 2 else -2 for at in range(count)])
    found, _ = many.fill_many(np.zeros(count, dtype=np.int64), units, 1.1 * np.arange(1, count + 1))
    assert found.tolist() == wanted


# --- equity against fractions -----------------------------------------------------------------------------------------

PRICES = {"LIN": "101.5", "INV": "20000", "ETH-USD": "101.5", "BTC-USD": "20000", "FUT": "99"}
INSTRUMENTS = [
    instrument("LIN", quantity_increment="0.001", contract_size="10"),
    instrument("INV", base="BTC", settlement="BTC", inverse=True, quantity_increment="1", contract_size="100"),
    instrument("ETH-USD", kind="spot", quantity_increment="0.0001"),
    instrument("BTC-USD", kind="spot", base="BTC", quantity_increment="0.0001"),
    instrument("FUT", kind="future", quantity_increment="0.01", expiry_us=T0 + 2 * SECOND),
]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["LIN", "INV", "ETH-USD", "FUT"]),
        st.sampled_from(["buy", "sell"]),
        st.integers(1, 400),
        st.integers(1, 30_000),
        st.integers(-5, 30),
        st.sampled_from(["new", "new", "new", "bust", "correct", "again"]),
    ),
    min_size=1,
    max_size=40,
)


class Reference:
    """A book of one account in exact fractions: cash flows and units, in no particular style but an obvious one."""

    def __init__(self) -> None:
        self.cash: dict[str, Fraction] = {"USD": Fraction(0), "BTC": Fraction(0), "ETH": Fraction(0)}
        self.units: dict[str, Fraction] = dict.fromkeys(("LIN", "INV", "FUT"), Fraction(0))

    def move(self, name: str, quantity: Fraction, price: Fraction, fee: Fraction, times: int = 1) -> None:
        quantity *= times
        if name == "ETH-USD":
            self.cash["ETH"] += quantity
            self.cash["USD"] -= quantity * price + times * fee
        else:
            self.units[name] += quantity
            self.cash["BTC" if name == "INV" else "USD"] -= self.worth(name, quantity, price) + times * fee

    @staticmethod
    def worth(name: str, quantity: Fraction, price: Fraction) -> Fraction:
        return {"LIN": 10 * quantity * price, "FUT": quantity * price, "INV": -100 * quantity / price}[name]

    def equity(self, prices: dict[str, str]) -> Fraction:
        at = {name: Fraction(price) for name, price in prices.items()}
        coins = dict(self.cash)
        for name, quantity in self.units.items():
            coins["BTC" if name == "INV" else "USD"] += self.worth(name, quantity, at[name])
        return coins["USD"] + coins["BTC"] * at["BTC-USD"] + coins["ETH"] * at["ETH-USD"]


def amend(records: list[Json], known: list[Json], body: Json, action: str, at: int) -> tuple[list[Json], list[Json]]:
    """Return the records of one action, and the fills that stand undone by it."""
    if action == "again" and known:
        return [known[-1]], []
    if action in ("bust", "correct") and known:
        old = known.pop(at % len(known))
        same = {key: old[key] for key in ("instrument", "side", "quantity", "price")}
        return [{**body, **(same if action == "bust" else {}), "action": action, "ref_fill_id": old["fill_id"]}], [old]
    known.append(body)
    return [body], []


def book(actions: list[Any]) -> tuple[list[Json], Reference]:
    """Return fills, repetitions, busts and corrections, and the reference that took them."""
    records: list[Json] = []
    known: list[Json] = []
    reference = Reference()
    scale = {"LIN": Fraction(1, 1000), "INV": Fraction(1), "ETH-USD": Fraction(1, 100), "FUT": Fraction(1, 100)}
    for at, (name, side, size, price, fee, action) in enumerate(actions):
        quantity = f"{float(size * scale[name]):.4f}".rstrip("0").rstrip(".")
        body = fill(T0 + 1000 + at * 10_000, f"f{at}", instrument=name, side=side, quantity=quantity)
        body |= {"price": f"{price}.25", "fee": f"{fee / 1000:.3f}"}
        more, undone = amend(records, known, body, action, at)
        records += more
        for old in undone:
            reference.move(*exact(old), -1)
        if more[0]["fill_id"] == body["fill_id"] and more[0].get("action") != "bust":
            reference.move(*exact(more[0]))
            if more[0] is not body:  # later ones name the correction, or what it corrected
                known.append({**more[0], "fill_id": more[0]["fill_id" if at % 2 else "ref_fill_id"]})
    return records, reference


def exact(body: Json) -> tuple[str, Fraction, Fraction, Fraction]:
    sign = 1 if body["side"] == "buy" else -1
    return body["instrument"], sign * Fraction(body["quantity"]), Fraction(body["price"]), Fraction(body["fee"])


def marks(at_us: int, prices: dict[str, str] = PRICES) -> list[Json]:
    return [mark(at_us, price, name) for name, price in prices.items()]


@settings(max_examples=25, deadline=None)
@given(ACTIONS, st.booleans())
def test_equity_is_that_of_exact_fractions(
    tmp_path_factory: pytest.TempPathFactory, actions: list[Any], dense: bool
) -> None:
    records, reference = book(actions)
    if dense:  # all in one slice, so that the vector path takes those without corrections
        records = [{**record, "event_time_us": T0 + 1000} for record in records]
    folder = tmp_path_factory.mktemp("book")
    ran = run_pipeline(folder, INSTRUMENTS, account("a"), *marks(T0 + 1), *records)
    wanted = reference.equity(PRICES)
    scale = max(abs(wanted), 10**7)
    assert abs(Fraction(ran.measures("account:a")["equity"]) - wanted) < scale * Fraction(1, 10**9)
    state = ran.exposures[0].ledger
    assert state is not None
    held = {
        state.directory.instrument_records[number].instrument: units
        for number, units in zip(*(state.positions.rows[c].tolist() for c in ("instrument", "units")), strict=True)
    }
    size = {"LIN": 1000, "INV": 1, "FUT": 100}
    assert {n: held.get(n, 0) for n in size} == {n: int(q * size[n]) for n, q in reference.units.items()}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-9, 9).filter(bool), st.integers(1, 999)), min_size=30))
def test_one_slice_of_many_fills_ends_as_many_slices_of_one(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int, int]]
) -> None:
    names = ["LIN", "INV", "FUT"]

    def run(step_us: int) -> dict[str, float]:
        records = [
            fill(
                T0 + 1000 + at * step_us,
                f"f{at}",
                instrument=names[name],
                side="buy" if quantity > 0 else "sell",
                quantity=str(abs(quantity)),
                price=str(price),
                fee="0.1",
            )
            for at, (name, quantity, price) in enumerate(moves)
        ]
        folder = tmp_path_factory.mktemp("split")
        prices = marks(T0 + 1)
        return run_pipeline(
            folder, INSTRUMENTS[:4], INSTRUMENTS[4] | {"expiry_us": T0 + 99 * SECOND}, account("a"), prices, *records
        ).measures("account:a")

    assert len(moves) >= VECTOR_MIN
    assert run(0) == run(100_000)  # bit for bit


def run_one_account(folder: Path, *records: Any, **options: Any) -> PipelineRun:
    return run_pipeline(folder, instrument(), account("a"), mark(T0 + 1, "100"), *records, **options)


def test_an_expired_future_becomes_cash_at_its_settlement_mark_and_not_before(tmp_path: Path) -> None:
    future = instrument(
        "F", kind="future", expiry_us=T0 + SECOND, quantity_increment="1", maintenance_margin_rate="0.1"
    )
    ran = run_pipeline(
        tmp_path,
        future,
        account("a"),
        mark(T0 + 1, "100", "F"),
        fill(T0 + 2, "f", instrument="F", quantity="2", price="90"),
        mark(T0 + 3 * SECOND, "110", "F"),
        mark(T0 + 4 * SECOND, "105", "F", kind="settlement"),
        mark(T0 + 5 * SECOND, "500", "F"),
    )
    assert ran.measures("account:a", T0 + 3 * SECOND + 100 * MS)["unrealised_pnl"] == 40.0
    assert ran.audits("settled") == [{"instrument": "F", "price": 105.0}]
    last = ran.measures("account:a")
    assert (last["equity"], last["unrealised_pnl"], last["gross_notional"], last["margin_ratio"]) == (
        30.0,
        0.0,
        0.0,
        0.0,
    )


FUTURE = {"kind": "future", "quantity_increment": "1", "maintenance_margin_rate": "0.1"}
HOUR = 3600 * SECOND


def held(folder: Path, *records: Any, expiry_us: int, **options: Any) -> PipelineRun:
    """Run an account that bought 2 of a future at 90."""
    future, bought = instrument("F", expiry_us=expiry_us, **FUTURE), fill(T0 + 2, "f", instrument="F", quantity="2")
    return run_pipeline(folder, future, account("a"), mark(T0 + 1, "100", "F"), {**bought, "price": "90"}, *records)


def test_a_settlement_mark_of_another_day_settles_no_expiry_and_one_that_is_a_moment_early_does(tmp_path: Path) -> None:
    expiry_us = T0 + 24 * HOUR
    daily, later = mark(T0 + HOUR, "97", "F", kind="settlement"), mark(expiry_us + SECOND, "110", "F")
    unsettled = held(tmp_path / "unsettled", daily, later, expiry_us=expiry_us)
    assert unsettled.audits("settled") == []
    assert unsettled.measures("account:a")["unrealised_pnl"] == 40.0
    assert "unsettled_expiry" in [alert["kind"] for alert in unsettled.topic("alerts")]
    for name, at_us in (("early", expiry_us - HOUR // 2), ("on time", expiry_us), ("late", expiry_us + 2 * SECOND)):
        final = mark(at_us, "105", "F", kind="settlement")
        last = mark(expiry_us + 4 * SECOND, "500", "F")
        records = sorted([daily, final, later, last], key=lambda record: int(record["event_time_us"]))
        ran = held(tmp_path / name, *records, expiry_us=expiry_us)
        assert ran.audits("settled") == [{"instrument": "F", "price": 105.0}]
        found = ran.measures("account:a")
        assert (found["equity"], found["unrealised_pnl"], found["gross_notional"]) == (30.0, 0.0, 0.0)


@pytest.mark.parametrize("action", ["new", "bust", "correct"])
def test_what_is_traded_or_undone_after_the_settlement_is_settled_as_well(tmp_path: Path, action: str) -> None:
    expiry_us = T0 + SECOND
    late = fill(T0 + 3 * SECOND, "g", instrument="F", quantity="5", price="95", action=action)
    late |= {} if action == "new" else {"ref_fill_id": "f"}
    late |= {"quantity": "2", "price": "90"} if action == "bust" else {}
    final = mark(T0 + 2 * SECOND, "105", "F", kind="settlement")
    ran = held(tmp_path, final, late, mark(T0 + 5 * SECOND, "500", "F"), expiry_us=expiry_us)
    last = ran.measures("account:a")
    wanted = {"new": 2 * 15.0 + 5 * 10.0, "bust": 0.0, "correct": 5 * 10.0}[action]
    assert (last["equity"], last["unrealised_pnl"], last["gross_notional"]) == (wanted, 0.0, 0.0)
    assert ran.topic("rejects") == ran.topic("alerts") == []


def test_a_settlement_mark_that_comes_late_takes_no_later_ones_place(tmp_path: Path) -> None:
    expiry_us = T0 + 24 * HOUR
    final = mark(expiry_us, "105", "F", kind="settlement")
    daily = mark(T0 + HOUR, "97", "F", kind="settlement")
    late = fill(expiry_us + 3 * SECOND, "g", instrument="F", quantity="5", price="95")
    ran = held(tmp_path, final, mark(expiry_us + SECOND, "110", "F"), daily, late, expiry_us=expiry_us)
    last = ran.measures("account:a")
    assert (last["equity"], last["gross_notional"]) == (2 * 15.0 + 5 * 10.0, 0.0)


def test_an_instrument_that_expires_later_than_it_did_is_not_settled(tmp_path: Path) -> None:
    again = {**instrument("F", expiry_us=T0 + 3 * HOUR, **FUTURE), "event_time_us": T0 + SECOND // 2}
    final = mark(T0 + 2 * SECOND, "105", "F", kind="settlement")
    ran = held(tmp_path, again, final, expiry_us=T0 + SECOND)
    assert ran.audits("settled") == []
    assert ran.measures("account:a")["unrealised_pnl"] == 20.0


# --- ids --------------------------------------------------------------------------------------------------------------


def test_a_repetition_changes_nothing_and_is_audited(tmp_path: Path) -> None:
    one = fill(T0 + 2, "f", quantity="3")
    ran = run_one_account(
        tmp_path,
        one,
        {**one, "event_time_us": T0 + SECOND},
        transfer(T0 + 2 * SECOND, "t"),
        transfer(T0 + 3 * SECOND, "t"),
    )
    assert ran.measures("account:a")["gross_notional"] == 300.0
    assert ran.measures("account:a")["equity"] == 5.0
    assert ran.audits("repeated") == [
        {"record": "fill", "id": "f", "rule": "REPEATED"},
        {"record": "transfer", "id": "t", "rule": "REPEATED"},
    ]
    assert ran.topic("rejects") == []


@pytest.mark.parametrize(
    "change",
    [{"quantity": "4"}, {"price": "101"}, {"side": "sell"}, {"fee": "1"}, {"fee_asset": "EUR", "fee": "1"}],
    ids=lambda change: next(iter(change)),
)
def test_a_used_id_with_other_content_is_rejected_with_its_original(tmp_path: Path, change: Json) -> None:
    again = {**fill(T0 + SECOND, "f", quantity="3"), **change}
    ran = run_one_account(tmp_path, fill(T0 + 2, "f", quantity="3"), again)
    (reject,) = ran.topic("rejects")
    assert (reject["reason"], json.loads(reject["original"])) == ("ID_MUST_NOT_BE_REUSED", again)
    assert ran.measures("account:a")["gross_notional"] == 300.0


def test_a_used_transfer_id_with_other_content_is_rejected_with_its_original(tmp_path: Path) -> None:
    again = transfer(T0 + SECOND, "t", amount="6")
    ran = run_one_account(tmp_path, transfer(T0 + 2, "t"), again)
    (reject,) = ran.topic("rejects")
    assert (reject["reason"], json.loads(reject["original"])) == ("ID_MUST_NOT_BE_REUSED", again)
    assert ran.measures("account:a")["equity"] == 5.0


@pytest.mark.parametrize("action", ["bust", "correct"])
def test_a_bust_or_correction_of_an_unknown_fill_is_rejected_with_its_original(tmp_path: Path, action: str) -> None:
    wrong = fill(T0 + SECOND, "b", action=action, ref_fill_id="nothing")
    ran = run_one_account(tmp_path, wrong, fill(T0 + 2 * SECOND, "b", quantity="1"))
    (reject,) = ran.topic("rejects")
    assert (reject["reason"], json.loads(reject["original"])) == ("FILL_MUST_BE_KNOWN", wrong)
    assert ran.measures("account:a")["gross_notional"] == 100.0  # the id was not used up


def test_a_busted_fill_cannot_be_busted_again(tmp_path: Path) -> None:
    busts = [fill(T0 + at * SECOND, f"b{at}", action="bust", ref_fill_id="f") for at in (1, 2)]
    ran = run_one_account(tmp_path, fill(T0 + 2, "f"), *busts)
    assert [reject["reason"] for reject in ran.topic("rejects")] == ["FILL_MUST_BE_KNOWN"]
    assert ran.audits("bust") == [{"id": "b1", "ref": "f"}]
    assert ran.measures("account:a")["gross_notional"] == 0.0


@pytest.mark.parametrize("action", ["bust", "correct"])
def test_a_bust_is_no_fill_that_can_be_undone(tmp_path: Path, action: str) -> None:
    busts = [fill(T0 + SECOND, "b", action="bust", ref_fill_id="f")]
    busts += [fill(T0 + 2 * SECOND, "c", action=action, ref_fill_id="b")]
    ran = run_one_account(tmp_path, fill(T0 + 2, "f"), *busts)
    assert [reject["reason"] for reject in ran.topic("rejects")] == ["FILL_MUST_BE_KNOWN"]
    assert ran.measures("account:a")["gross_notional"] == 0.0


@pytest.mark.parametrize("names", [("f", "c"), ("c", "f"), ("c", "c"), ("f", "f")])
def test_a_corrected_fill_is_undone_once_whichever_of_its_ids_is_named(tmp_path: Path, names: tuple[str, str]) -> None:
    corrected = fill(T0 + SECOND, "c", quantity="2", action="correct", ref_fill_id="f")
    bust = {"quantity": "2", "action": "bust"}
    busts = [fill(T0 + at * SECOND, f"b{at}", ref_fill_id=name, **bust) for at, name in enumerate(names, 2)]
    ran = run_one_account(tmp_path, fill(T0 + 2, "f", quantity="1"), corrected, *busts)
    assert [reject["reason"] for reject in ran.topic("rejects")] == ["FILL_MUST_BE_KNOWN"]
    assert ran.audits("bust") == [{"id": "b2", "ref": names[0]}]
    assert (ran.measures("account:a")["gross_notional"], ran.measures("account:a")["equity"]) == (0.0, 0.0)


def test_a_bust_that_does_not_repeat_its_fill_is_rejected(tmp_path: Path) -> None:
    ran = run_one_account(
        tmp_path, fill(T0 + 2, "f"), fill(T0 + SECOND, "b", action="bust", ref_fill_id="f", price="99")
    )
    assert [reject["reason"] for reject in ran.topic("rejects")] == ["FIELDS_MUST_GO_TOGETHER"]
    assert ran.measures("account:a")["gross_notional"] == 150.0


def test_the_memory_knows_at_least_the_last_ids_and_forgets_older_ones(tmp_path: Path) -> None:
    count, memory = 9000, 1000
    fills = [fill(T0 + 1000 + at * 1000, f"f{at}", quantity="0.01") for at in range(count)]
    late = T0 + 20 * SECOND
    again = [fill(late + at, f"f{count - back}", quantity="0.01") for at, back in enumerate((1, 10, memory))]
    old = fill(late + SECOND, "f0", quantity="7")
    ran = run_one_account(tmp_path, *fills, *again, old, fill_memory=memory)
    assert [body["id"] for body in ran.audits("repeated")] == [f"f{count - back}" for back in (1, 10, memory)]
    assert ran.topic("rejects") == []  # f0 was forgotten, so it is new
    assert ran.measures("account:a")["gross_notional"] == pytest.approx(count * 1 + 700)


@pytest.mark.parametrize("per_slice", [100, 1500, 6000], ids=lambda n: f"{n} a slice")
def test_every_reject_of_a_used_id_has_its_original_bytes(tmp_path: Path, per_slice: int) -> None:
    """However large the slices are: what risk still remembers the sequencer does too."""
    count, memory = 12_000, 1000
    fills = [fill(T0 + 1000 + at // per_slice * 100_000, f"f{at}", quantity="0.01") for at in range(count)]
    late = T0 + 1000 + (count // per_slice + 2) * 100_000
    again = [fill(late + at, f"f{count - back}", quantity="9") for at, back in enumerate(range(1, count, 97))]
    ran = run_one_account(tmp_path, *fills, *again, fill_memory=memory)
    found = ran.topic("rejects")
    assert len(found) >= memory // 97
    assert [reject for reject in found if not reject["original"]] == []


NAMES = st.lists(st.integers(0, 300), min_size=1, max_size=400)


@settings(max_examples=40, deadline=None)
@given(NAMES, st.integers(0, 50))
def test_a_memory_remembers_what_a_dict_would_and_says_what_came_first(numbers: list[int], size_max: int) -> None:
    memory, first = FillMemory(size_max, ("", 0)), dict[str, tuple[str, int]]()
    for at, number in enumerate(numbers):
        name = f"n{number}"
        if name not in memory:
            memory.add(name, (name.upper(), at))
            first.pop(name, None)  # it was forgotten, and is now the youngest
            first[name] = (name.upper(), at)
    order = list(first)
    for name in order[-size_max:] if size_max else []:
        assert memory.original(name) == first[name]
    assert "never" not in memory
    twin = restored(memory, FillMemory(size_max, ("", 0)))
    assert [twin.content(name) for name in order] == [memory.content(name) for name in order]


def restored(memory: FillMemory, twin: FillMemory) -> FillMemory:
    """Return ``twin`` with the state of a memory, which went through bytes; its own state has the same ones."""
    data = pack("memory/1", memory.snapshot())
    twin.restore(unpack("memory/1", data))
    assert pack("memory/1", twin.snapshot()) == data
    return twin


def test_full_chunks_say_after_a_restore_what_they_said_before() -> None:
    """One after the other, and whole slices of them; numbers, texts, and columns that say nothing."""
    memory, said = FillMemory(10_000, ("", 0, 0.0, "")), dict[str, Any]()
    for at in range(2500):
        said[f"n{at}"] = "x" * (at % 3), at * 10**9, at / 8, ""
        memory.add(f"n{at}", said[f"n{at}"])
    names = [f"m{at}" for at in range(100)]
    assert memory.add_new(names, (names, np.arange(100), None, None))
    said |= {name: (name, at, 0.0, "") for at, name in enumerate(names)}
    memory.amend("n7", ("y", 1, 2.0, "z"))
    twin = restored(memory, FillMemory(10_000, ("", 0, 0.0, "")))
    for known in (memory, twin):
        assert {name: known.original(name) for name in said} == said
        assert known.content("n7") == ("y", 1, 2.0, "z")
        assert {type(value) for name in said for value in known.original(name) or ()} == {str, int, float}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.integers(1, 1500), st.booleans())
def test_a_memory_takes_batches_of_any_size_as_it_takes_one_after_the_other(
    sizes: list[int], size_max: int, arrays: bool
) -> None:
    batched, single, said = FillMemory(size_max, ("", 0, None)), FillMemory(size_max, ("", 0, None)), dict[str, Any]()
    for size in sizes:
        at = np.arange(len(said), len(said) + size)
        names = [f"n{number}" for number in at]
        assert batched.add_new(names, ([name.upper() for name in names], at if arrays else at.tolist(), None))
        for name, number in zip(names, at.tolist(), strict=True):
            said[name] = name.upper(), number, None
            single.add(name, said[name])
    for name in list(said)[-size_max:]:
        assert batched.original(name) == single.original(name) == said[name]
    assert sum(name in batched for name in said) == sum(name in single for name in said) == min(size_max, len(said))
    last = names[-1]
    assert not batched.add_new(["new", last], (["", ""], None, None))
    assert "new" not in batched


# --- marks and assets -------------------------------------------------------------------------------------------------


def stale(ran: PipelineRun) -> list[list[str]]:
    return [record.get("stale", []) for record in ran.topic("exposures") if record["shard"] != "all"]


def test_a_stale_mark_is_used_and_flagged(tmp_path: Path) -> None:
    ran = run_one_account(tmp_path, fill(T0 + 2, "f"), transfer(T0 + 61 * SECOND, "t"), mark(T0 + 62 * SECOND, "101"))
    assert stale(ran) == [[], ["ETH-PERP"], []]
    assert ran.measures("account:a", T0 + 61 * SECOND + 100 * MS)["gross_notional"] == 150.0


def at_venue(name: str = "h", **fields: Any) -> list[Json]:
    party = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
    body = {"type": "account", "account": name, "counterparty": "hub", "holder": "house", "venue": "hub"}
    return [party, {**body, **fields}]


def test_a_venues_account_is_margined_at_its_venues_mark_and_exposed_at_the_one_across(tmp_path: Path) -> None:
    ran = run_pipeline(
        tmp_path,
        instrument(),
        account("a"),
        at_venue(),
        mark(T0 + 1, "90", venue="hub"),
        mark(T0 + 2, "100"),
        fill(T0 + 3, "f", "h", quantity="1", price="80"),
        fill(T0 + 3, "g", "a", quantity="1", price="80"),
    )
    assert ran.measures("account:h")["unrealised_pnl"] == 10.0
    assert ran.measures("account:a")["unrealised_pnl"] == 20.0
    assert ran.measures("counterparty:hub")["gross_notional"] == 100.0
    assert ran.measures("underlying:ETH")["gross_notional"] == 200.0


def test_a_venue_without_marks_of_its_own_uses_those_across_and_is_not_stale(tmp_path: Path) -> None:
    ran = run_pipeline(tmp_path, instrument(), at_venue(), mark(T0 + 1, "100"), fill(T0 + 3, "f", "h", quantity="1"))
    assert ran.measures("account:h")["gross_notional"] == 100.0
    assert stale(ran) == [[]]


@pytest.mark.parametrize("instruments", [1, 12], ids=["one by one", "as arrays"])
def test_a_late_mark_does_not_replace_a_newer_one(tmp_path: Path, instruments: int) -> None:
    names = ["ETH-PERP", *(f"X{at}-PERP" for at in range(instruments - 1))]
    known = [instrument(name) for name in names]
    new = [mark(T0 + 5, "100", name) for name in names]
    late = [mark(T0 + 3, "90", name) for name in names]
    ran = run_pipeline(tmp_path, *known, account("a"), *new, fill(T0 + 200_000, "f", quantity="1"), *late)
    assert ran.measures("account:a")["gross_notional"] == 100.0


def test_a_better_mark_is_not_replaced_by_a_lesser_one(tmp_path: Path) -> None:
    kinds = [
        ("last", "90"),
        ("index", "91"),
        ("mid", "92"),
        ("index", "93"),
        ("mark", "94"),
        ("last", "95"),
        ("mid", "96"),
    ]
    marks = [mark(T0 + SECOND * at, price, kind=kind) for at, (kind, price) in enumerate(kinds, 1)]
    ran = run_pipeline(tmp_path, instrument(), account("a"), fill(T0 + 1, "f", quantity="1"), *marks)
    seen = [ran.measures("account:a", T0 + SECOND * at + 100 * MS)["gross_notional"] for at in range(1, 8)]
    assert seen == [90.0, 91.0, 91.0, 93.0, 94.0, 94.0, 94.0]


def test_an_instrument_without_a_mark_counts_three_times_what_was_paid_until_it_has_one(tmp_path: Path) -> None:
    ran = run_pipeline(tmp_path, instrument(), account("a"), fill(T0 + 1, "f", quantity="1"), mark(T0 + SECOND, "110"))
    assert ran.measures("account:a", T0 + 500 * MS)["gross_notional"] == 300.0
    assert ran.measures("account:a")["unrealised_pnl"] == pytest.approx(10.0)


SPOT = {"kind": "spot", "quantity_increment": "0.01"}


@pytest.mark.parametrize(
    ("instruments", "prices", "worth"),
    [
        ([], {}, 0.0),
        ([("X-USD", "X", "USD")], {}, 0.0),
        ([("X-USD", "X", "USD")], {"X-USD": "4"}, 8.0),
        ([("USD-X", "USD", "X")], {"USD-X": "0.25"}, 8.0),
        ([("X-Y", "X", "Y"), ("Y-USD", "Y", "USD")], {"X-Y": "2", "Y-USD": "3"}, 12.0),
        (
            [("X-Y", "X", "Y"), ("Y-USD", "Y", "USD"), ("X-USD", "X", "USD")],
            {"X-Y": "2", "Y-USD": "3", "X-USD": "5"},
            10.0,
        ),
        ([("X-Y", "X", "Y"), ("Y-Z", "Y", "Z"), ("Z-USD", "Z", "USD")], {"X-Y": "2", "Y-Z": "3", "Z-USD": "5"}, 60.0),
    ],
    ids=["unknown", "no price", "direct", "inverse", "through one", "direct before through", "through two"],
)
def test_an_asset_is_priced_directly_by_its_inverse_or_by_the_shortest_path_and_else_counts_zero(
    tmp_path: Path, instruments: list[tuple[str, str, str]], prices: dict[str, str], worth: float
) -> None:
    spot = [instrument(name, base=base, quote=quote, settlement=quote, **SPOT) for name, base, quote in instruments]
    known = [mark(T0 + 1, price, name) for name, price in prices.items()]
    ran = run_pipeline(tmp_path, spot, account("a"), *known, transfer(T0 + 2, "t", asset="X", amount="2"))
    assert ran.measures("account:a")["equity"] == worth


def test_a_stablecoin_without_a_market_counts_a_haircut_below_its_peg_and_one_without_a_peg_nothing(
    tmp_path: Path,
) -> None:
    coin = {"type": "asset", "asset": "USDX", "class": "stablecoin", "peg": "USD"}
    pegged = run_pipeline(tmp_path / "peg", coin, account("a"), transfer(T0 + 2, "t", asset="USDX", amount="2"))
    assert pegged.measures("account:a")["equity"] == pytest.approx(2.0 * 0.98)
    del coin["peg"]
    ran = run_pipeline(tmp_path / "none", coin, account("a"), transfer(T0 + 2, "t", asset="USDX", amount="2"))
    assert ran.measures("account:a")["equity"] == 0.0


def test_a_haircut_lessens_what_is_held_and_not_what_is_owed(tmp_path: Path) -> None:
    coin = {"type": "asset", "asset": "X", "class": "coin", "haircut": "0.25"}
    spot = instrument("X-USD", base="X", **SPOT)
    ran = run_pipeline(
        tmp_path,
        coin,
        spot,
        account("a"),
        account("b"),
        mark(T0 + 1, "10", "X-USD"),
        transfer(T0 + 2, "t", "a", asset="X", amount="4"),
        transfer(T0 + 2, "u", "b", asset="X", amount="-4"),
    )
    assert (ran.measures("account:a")["equity"], ran.measures("account:b")["equity"]) == (30.0, -40.0)


@pytest.mark.parametrize("count", [1, 2 * VECTOR_MIN], ids=["one fill", "a vector of fills"])
def test_a_fee_in_an_asset_that_nothing_named_before_is_taken(tmp_path: Path, count: int) -> None:
    fills = [fill(T0 + 300 * MS, f"f{at}", fee="1", fee_asset="NEW") for at in range(count)]
    spot = {**instrument("NEW-USD", base="NEW", **SPOT), "event_time_us": T0 + SECOND}
    ran = run_one_account(
        tmp_path, transfer(T0 + 2, "t", amount="0"), *fills, spot, mark(T0 + 2 * SECOND, "3", "NEW-USD")
    )
    assert ran.measures("account:a", T0 + 500 * MS)["equity"] == 0.0
    assert ran.measures("account:a")["equity"] == -3.0 * count


# --- accounts and what is above them ----------------------------------------------------------------------------------


def test_house_accounts_count_as_they_are_and_clients_turned(tmp_path: Path) -> None:
    ran = run_pipeline(
        tmp_path,
        instrument(maintenance_margin_rate="0.1"),
        account("a"),
        at_venue(),
        mark(T0 + 1, "100"),
        transfer(T0 + 2, "t", "h", amount="100"),
        transfer(T0 + 2, "u", "a", amount="-30"),
        fill(T0 + 3, "f", "h", quantity="2", price="90"),
        fill(T0 + 3, "g", "a", quantity="1", price="95"),
    )
    house, client = ran.measures("counterparty:hub"), ran.measures("counterparty:a")
    assert (house["current_exposure"], house["net_notional"], house["pnl"]) == (120.0, 200.0, 20.0)
    assert (client["current_exposure"], client["net_notional"], client["pnl"]) == (25.0, -100.0, -5.0)
    assert client["collateral_held"] == 0.0  # a debt is none
    firm = ran.measures("firm")
    assert firm == {"gross_notional": 300.0, "net_notional": 100.0, "pnl": 15.0, "current_exposure": 145.0}


def test_an_agency_account_stays_out_of_our_pnl_and_its_shortfall_in_our_exposure(tmp_path: Path) -> None:
    ran = run_pipeline(
        tmp_path,
        instrument(),
        account("a", capacity="agency"),
        mark(T0 + 1, "100"),
        fill(T0 + 3, "g", "a", quantity="1", price="130"),
    )
    assert ran.measures("account:a")["equity"] == -30.0
    assert ran.measures("counterparty:a")["current_exposure"] == 30.0
    assert (ran.measures("counterparty:a")["pnl"], ran.measures("firm")["pnl"]) == (0.0, 0.0)


def test_what_an_agency_account_holds_is_in_the_gross_notional_of_wider_scopes_and_not_in_the_net(
    tmp_path: Path,
) -> None:
    ran = run_pipeline(
        tmp_path,
        instrument(),
        account("a", capacity="agency"),
        account("p"),
        mark(T0 + 1, "100"),
        fill(T0 + 3, "g", "a", quantity="1", price="100"),
        fill(T0 + 3, "h", "p", quantity="2", price="100"),
    )
    assert ran.measures("account:a")["net_notional"] == 100.0
    assert ran.measures("counterparty:a")["net_notional"] == 0.0
    for scope in ("firm", "underlying:ETH"):
        measures = ran.measures(scope)
        assert (measures["gross_notional"], measures["net_notional"]) == (300.0, -200.0)  # the principal's alone


@pytest.mark.parametrize(("enforceable", "exposure"), [(True, 30.0), (False, 100.0)])
def test_a_netting_set_nets_only_where_that_is_enforceable(tmp_path: Path, enforceable: bool, exposure: float) -> None:
    terms = {"type": "netting_set", "netting_set": "n", "counterparty": "hub", "enforceable": enforceable}
    ran = run_pipeline(
        tmp_path,
        at_venue("h1", netting_set="n"),
        terms,
        at_venue("h2", netting_set="n")[1],
        transfer(T0 + 2, "t", "h1", amount="100"),
        transfer(T0 + 2, "u", "h2", amount="-70"),
    )
    assert ran.measures("netting_set:n")["current_exposure"] == exposure
    assert ran.measures("counterparty:hub")["current_exposure"] == exposure


def test_netting_sets_of_one_counterparty_do_not_net_with_each_other(tmp_path: Path) -> None:
    ran = run_pipeline(
        tmp_path,
        at_venue("h1"),
        at_venue("h2")[1],
        transfer(T0 + 2, "t", "h1", amount="100"),
        transfer(T0 + 2, "u", "h2", amount="-70"),
    )
    assert ran.measures("counterparty:hub")["current_exposure"] == 100.0


@pytest.mark.parametrize(
    ("amount", "ratio", "leverage"),
    [("100", 0.1, 1.0), ("5", 2.0, 20.0), ("0", 1e6, 1e6), ("-1", 1e6, 1e6), ("0.000001", 1e6, 1e6)],
)
def test_the_margin_ratio_is_maintenance_margin_over_equity_and_a_million_without_equity(
    tmp_path: Path, amount: str, ratio: float, leverage: float
) -> None:
    perpetual = instrument(maintenance_margin_rate="0.1", initial_margin_rate="0.2")
    ran = run_pipeline(
        tmp_path,
        perpetual,
        account("a"),
        account("flat"),
        mark(T0 + 1, "100"),
        transfer(T0 + 2, "t", amount=amount),
        fill(T0 + 3, "f", quantity="1", price="100"),
    )
    found = ran.measures("account:a")
    assert (found["margin_ratio"], found["leverage"]) == (ratio, leverage)
    assert (found["maintenance_margin"], found["initial_margin"]) == (10.0, 20.0)
    assert (ran.measures("account:flat")["margin_ratio"], ran.measures("account:flat")["leverage"]) == (0.0, 0.0)


def report(at_us: int, quantity: str, **fields: Any) -> Json:
    body = {"account": "a", "instrument": "ETH-PERP", "quantity": quantity}
    return {"type": "position_report", "event_time_us": at_us, **body, **fields}


def balance(at_us: int, amount: str, **fields: Any) -> Json:
    return {
        "type": "balance_report",
        "event_time_us": at_us,
        "account": "a",
        "asset": "USD",
        "amount": amount,
        **fields,
    }


def test_an_opening_sets_position_and_balance_and_is_no_profit(tmp_path: Path) -> None:
    ran = run_one_account(
        tmp_path,
        report(T0 + 2, "-2", kind="opening", entry_price="90"),
        balance(T0 + 2, "500", kind="opening"),
        fill(T0 + SECOND, "f", quantity="1", price="100"),
    )
    found = ran.measures("account:a")
    assert (found["equity"], found["net_notional"], found["unrealised_pnl"]) == (480.0, -100.0, -10.0)
    assert ran.measures("counterparty:a", T0 + 500 * MS)["pnl"] == 20.0
    assert ran.topic("alerts") == []


def test_an_opening_after_the_first_fill_is_not_applied_and_alerted(tmp_path: Path) -> None:
    ran = run_one_account(
        tmp_path, fill(T0 + 2, "f", quantity="1"), report(T0 + SECOND, "7", kind="opening", entry_price="1")
    )
    assert [alert["kind"] for alert in ran.topic("alerts")] == ["late_opening"]
    assert ran.measures("account:a")["gross_notional"] == 100.0


def test_a_venues_report_that_agrees_is_silent_and_one_that_differs_is_alerted_and_changes_nothing(
    tmp_path: Path,
) -> None:
    ran = run_one_account(
        tmp_path,
        fill(T0 + 2, "f", quantity="1"),
        transfer(T0 + 2, "t"),
        report(T0 + SECOND, "1"),
        balance(T0 + SECOND, "5"),
        report(T0 + 2 * SECOND, "1.01"),
        balance(T0 + 3 * SECOND, "5.01"),
    )
    assert [(a["kind"], a["scope"]) for a in ran.topic("alerts")] == [("report_mismatch", "account:a")] * 2
    assert [alert["text"] for alert in ran.topic("alerts")] == [
        "the venue reports a position of 1.01 in ETH-PERP for a, our book has 1",
        "the venue reports a balance of 5.01 in USD for a, our book has 5.0",
    ]
    assert ran.measures("account:a")["equity"] == 5.0


@pytest.mark.parametrize("kind", ["opening", "deposit"])
def test_what_comes_in_an_asset_without_a_price_is_no_profit_when_it_has_one(tmp_path: Path, kind: str) -> None:
    coin = instrument("BTC-USD", kind="spot", base="BTC")
    came = balance(T0 + 2, "3", asset="BTC", kind="opening")
    came = came if kind == "opening" else transfer(T0 + 2, "t", amount="3", asset="BTC")
    ran = run_pipeline(
        tmp_path,
        coin,
        account("a"),
        came,
        mark(T0 + SECOND, "100", "BTC-USD"),
        mark(T0 + 2 * SECOND, "110", "BTC-USD"),
    )
    at = [ran.measures("counterparty:a", T0 + SECOND * at + 100 * MS)["pnl"] for at in (0, 1, 2)]
    assert at == [0.0, 0.0, -30.0]  # a client's profit, from our side
    assert ran.measures("account:a")["equity"] == 330.0


@pytest.mark.parametrize("kind", ["account", "counterparty", "instrument"])
def test_closing_what_still_has_positions_is_accepted_and_alerted(tmp_path: Path, kind: str) -> None:
    party, own = account("a")
    record = {"account": own, "counterparty": party, "instrument": instrument()}[kind]
    closed = {**record, "status": "closed", "event_time_us": T0 + SECOND}
    ran = run_one_account(tmp_path, fill(T0 + 2, "f", quantity="1"), closed)
    name = record[kind]
    assert [(a["kind"], a["scope"]) for a in ran.topic("alerts")] == [("closed_with_positions", f"{kind}:{name}")]
    assert ran.measures("account:a")["gross_notional"] == 100.0
    flat = run_one_account(tmp_path / "flat", closed)
    assert flat.topic("alerts") == []


def test_settled_funding_is_booked_for_accounts_that_book_it_and_longs_pay(tmp_path: Path) -> None:
    ran = run_pipeline(
        tmp_path,
        instrument(),
        account("a", books_funding=True),
        account("b"),
        mark(T0 + 1, "100"),
        fill(T0 + 2, "f", "a", quantity="2", price="100"),
        fill(T0 + 2, "g", "b", quantity="2", price="100"),
        {
            "type": "funding",
            "event_time_us": T0 + SECOND,
            "venue": "v",
            "instrument": "ETH-PERP",
            "rate": "0.01",
            "interval_us": 8 * 3600 * SECOND,
        },
    )
    assert ran.measures("account:a")["equity"] == -2.0
    assert ran.measures("account:b")["equity"] == pytest.approx(-2.0, abs=1e-4)  # accrued, and the next has begun


def test_an_opening_balance_in_an_asset_that_nothing_named_before_counts_zero(tmp_path: Path) -> None:
    opening = {"type": "balance_report", "account": "b", "asset": "NEW", "amount": "5", "kind": "opening"}
    late = {**opening, "event_time_us": T0 + 300_000}
    dollars = transfer(T0 + 300_001, "u", "b", amount="7")
    ran = run_pipeline(tmp_path, instrument(), account("a"), account("b"), transfer(T0 + 2, "t"), late, dollars)
    assert ran.measures("account:b")["equity"] == 7.0


def test_rows_of_many_positions_are_those_of_one_after_another() -> None:
    """Pairs that stand twice, that are new and that were there; rows come in the order of the first of each."""
    many, single, rng = Positions(), Positions(), np.random.default_rng(3)
    for book in (many, single):
        book.classify(np.arange(30) % 4, 4)
    for count in (1, 40, 300):
        accounts, instruments, marks = (rng.integers(0, size, count) for size in (9, 30, 100))
        found = many.slots(accounts, instruments, marks)
        rows = np.stack([accounts, instruments, marks], axis=1).tolist()
        one_by_one = [single.slot(*row) for row in rows]
        assert found.tolist() == one_by_one
    assert all(np.array_equal(many.rows[name], single.rows[name]) for name in single.rows)
