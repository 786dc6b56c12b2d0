"""What a stranger tries first with the files of a desk: wrong records, another order, two files, corrections.

A record that cannot be accepted is kept with its file and line, its field and the rule; nothing else changes. What
means the same gives the same numbers.
"""

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from seawall_testing.desk import SECOND, T0, Json, fill, mark
from seawall_testing.desk_files import DeskRun, read_records, run_desk

DESKS = ("cash_and_carry", "basis", "client_book")
EXPIRY_US = 1_703_836_800_000_000  # 29 December 2023, 8:00 UTC
# Ratios and money of every account and above; what realised and unrealised profit are together is in equity.
SAME = (
    "equity", "gross_notional", "net_notional", "maintenance_margin", "margin_ratio", "leverage", "delta",
    "distance_to_liquidation", "current_exposure", "collateral_held", "exposure_at_default", "margin_call",
)  # fmt: skip


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DeskRun]:
    return {desk: run_desk(tmp_path_factory.mktemp("desks") / desk, desk) for desk in DESKS}


def means_the_same(run: DeskRun, base: DeskRun) -> None:
    """Hold that a run ends where another did, and that neither commanded anything."""
    assert (run.commands(), run.topic("rejects")) == ([], [])
    found, wanted = run.last(), base.last()
    assert set(found) == set(wanted)
    for scope, row in wanted.items():
        for name in set(SAME) & set(row):
            assert found[scope][name] == pytest.approx(row[name], rel=1e-9, abs=1e-6), (scope, name)


def with_more(desk: str, *more: Json) -> list[Json]:
    """Return a desk's records and some more, each behind those of its time."""
    records = read_records(desk)
    references = [one for one in records if "event_time_us" not in one]
    timed = [one for one in records if "event_time_us" in one]
    return references + sorted([*timed, *more], key=lambda one: one["event_time_us"])


def at(second: float) -> int:
    return T0 + round(second * SECOND)


# --- wrong records ----------------------------------------------------------------------------------------------------


def left_out(field: str) -> Callable[[Json], Json]:
    return lambda record: {name: value for name, value in record.items() if name != field}


def put(**fields: object) -> Callable[[Json], Json]:
    return lambda record: {**record, **fields}


WRONG = [
    *[("fill", left_out(field), "FIELD_MUST_BE_PRESENT", f"fill needs {field}")
      for field in ("price", "side", "quantity", "account", "instrument", "fill_id", "event_time_us")],
    ("fill", put(instrument="BTC-PERP"), "INSTRUMENT_MUST_BE_KNOWN", "BTC-PERP"),
    ("fill", put(account="nobody"), "ACCOUNT_MUST_BE_KNOWN", "nobody"),
    ("fill", put(qty="10"), "FIELD_MUST_BE_KNOWN", "fill has no field 'qty'"),
    ("fill", put(side="SELL"), "FIELD_MUST_HAVE_A_KNOWN_VALUE", "side"),
    ("fill", put(quantity="-10"), "QUANTITY_MUST_BE_POSITIVE", "quantity is -10"),
    ("fill", put(quantity="10.0000001"), "QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT", "10.0000001"),
    ("fill", put(price="0"), "PRICE_MUST_BE_POSITIVE", "price is 0"),
    ("fill", put(event_time_us=1_700_000_002), "FIELD_MUST_BE_IN_ITS_RANGE", "in seconds: give 1700000002000000"),
    ("collateral", left_out("asset"), "FIELD_MUST_BE_PRESENT", "collateral needs asset"),
    ("collateral", put(amount="4e"), "DECIMAL_MUST_BE_WELL_FORMED", "amount"),
    ("mark", put(instrument="BTC-2023"), "INSTRUMENT_MUST_BE_KNOWN", "BTC-2023"),
    ("mark", left_out("price"), "FIELD_MUST_BE_PRESENT", "mark needs price"),
    ("account", left_out("holder"), "FIELD_MUST_BE_PRESENT", "account needs holder"),
    ("account", put(counterparty="nobody"), "COUNTERPARTY_MUST_BE_KNOWN", "nobody"),
    ("instrument", left_out("quantity_increment"), "FIELD_MUST_BE_PRESENT", "instrument needs quantity_increment"),
]  # fmt: skip


@pytest.mark.parametrize("desk", DESKS)
def test_wrong_records_among_right_ones_are_named_and_change_nothing(
    tmp_path: Path, bases: dict[str, DeskRun], desk: str
) -> None:
    """Beside the last right record of each type stand wrong copies of it, under ids of their own."""
    records = read_records(desk)
    for number, (kind, make, _, _) in enumerate(WRONG):
        last = max(place for place, one in enumerate(read_records(desk)) if one["type"] == kind)
        name = {"fill": "fill_id", "collateral": "transfer_id", "mark": "venue"}.get(kind, kind)
        right = read_records(desk)[last]
        records.insert(records.index(right) + 1, make({**right, name: f"wrong{number}"}))
    run = run_desk(tmp_path / "desk", desk, records)
    found = {(one["source"]["line"], one["reason"]): one for one in run.topic("rejects")}
    assert len(found) == len(WRONG)
    for (line, _), one in found.items():
        assert one["source"]["file"] == "events.jsonl"
        assert one["original"] == (run.folder / "events.jsonl").read_text().splitlines()[line - 1]
    for _, _, reason, detail in WRONG:
        assert any(one["reason"] == reason and detail in one["detail"] for one in found.values()), (reason, detail)
    for topic in ("exposures", "breaches", "commands"):
        assert run.topic(topic) == bases[desk].topic(topic)


@pytest.mark.parametrize(("per_s", "unit"), [(1, "seconds"), (10**3, "milliseconds"), (10**9, "nanoseconds")])
def test_an_expiry_in_another_unit_is_named_with_the_right_one_and_the_rest_counts(
    tmp_path: Path, per_s: int, unit: str
) -> None:
    expiry = EXPIRY_US * per_s // SECOND
    records = [{**one, "expiry_us": expiry} if one.get("kind") == "future" else one for one in read_records("basis")]
    run = run_desk(tmp_path / "desk", "basis", records)
    first, *others = run.topic("rejects")
    assert (first["reason"], first["source"]) == ("FIELD_MUST_BE_IN_ITS_RANGE", {"file": "events.jsonl", "line": 4})
    assert f"expiry_us is {expiry}" in first["detail"]
    assert f"in {unit}: give {EXPIRY_US}" in first["detail"]
    assert {one["reason"] for one in others} == {"INSTRUMENT_MUST_BE_KNOWN"}
    assert all("BTC-29DEC23" in one["original"] for one in others)
    # 4 BTC and a perpetual of 260,000 bought at 60,000 are left, at 54,000 and 54,027.
    coins = 4 + 260_000 * (Fraction(1, 60_000) - Fraction(1, 54_027))
    assert run.last()["account:basis"]["equity"] == pytest.approx(float(coins * 54_000))


def test_what_is_held_of_a_spot_instrument_is_a_balance_and_no_position(
    tmp_path: Path, bases: dict[str, DeskRun]
) -> None:
    held = {"type": "position_report", "event_time_us": at(0.5), "account": "carry", "instrument": "BTC/USDT"}
    reports = [{**held, "quantity": "10", "kind": kind} for kind in ("opening", "venue")]
    run = run_desk(tmp_path / "desk", "cash_and_carry", with_more("cash_and_carry", *reports))
    assert [one["reason"] for one in run.topic("rejects")] == ["FIELD_MUST_HAVE_A_KNOWN_VALUE"] * 2
    assert all("balance_report" in one["detail"] for one in run.topic("rejects"))
    assert run.topic("exposures") == bases["cash_and_carry"].topic("exposures")


# --- the same in other words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("desk", DESKS)
def test_order_within_a_time_and_the_split_into_files_change_nothing(
    tmp_path: Path, bases: dict[str, DeskRun], desk: str
) -> None:
    drawn = random.Random(desk)
    references = [one for one in read_records(desk) if "event_time_us" not in one]
    timed = [one for one in read_records(desk) if "event_time_us" in one]
    drawn.shuffle(timed)
    ordered = sorted(timed, key=lambda one: one["event_time_us"])
    means_the_same(run_desk(tmp_path / "shuffled", desk, references + ordered), bases[desk])
    halves = [[one for n, one in enumerate(ordered) if n % 2 == half] for half in (0, 1)]
    means_the_same(run_desk(tmp_path / "split", desk, references + halves[0], halves[1]), bases[desk])
    means_the_same(run_desk(tmp_path / "turned", desk, ordered, references), bases[desk])
    means_the_same(run_desk(tmp_path / "twice", desk, references + ordered, references + ordered), bases[desk])


@pytest.mark.parametrize("settings", ["shards = 1\n", "shards = 7\n", "slice_ms = 10\n", "slice_ms = 1000\n"])
def test_shards_and_slices_change_nothing(tmp_path: Path, bases: dict[str, DeskRun], settings: str) -> None:
    for desk in DESKS:
        means_the_same(run_desk(tmp_path / desk, desk, read_records(desk), settings=settings), bases[desk])


def test_what_is_busted_leaves_nothing_on_a_desk(tmp_path: Path, bases: dict[str, DeskRun]) -> None:
    """The fee of a fill that is undone comes back too."""
    spot = {"instrument": "BTC/USDT", "side": "buy", "quantity": "0.3", "price": "39000"}
    wrong = fill(at(3), "x", "carry", **spot, fee="5", fee_asset="USDT")
    bust = fill(at(5401), "y", "carry", **spot, action="bust", ref_fill_id="x")
    run = run_desk(tmp_path / "carry", "cash_and_carry", with_more("cash_and_carry", wrong, bust))
    means_the_same(run, bases["cash_and_carry"])
    dated = {"instrument": "BTC-29DEC23", "side": "sell", "quantity": "400", "price": "59000"}
    wrong = fill(at(3), "x", "basis", **dated)
    bust = fill(at(31), "y", "basis", **dated, action="bust", ref_fill_id="x")
    means_the_same(run_desk(tmp_path / "basis", "basis", with_more("basis", wrong, bust)), bases["basis"])


def test_what_is_corrected_is_as_if_it_had_been_right(tmp_path: Path, bases: dict[str, DeskRun]) -> None:
    """Twice: with a wrong size and price, then with a wrong side, and right at last; the second names the first."""
    right = fill(at(2.09), "z", "basis", instrument="BTC-29DEC23", side="sell", quantity="51000", price="61200")
    once = {**right, "fill_id": "y", "event_time_us": at(2.05), "side": "buy", "action": "correct", "ref_fill_id": "f1"}
    records = with_more("basis", once, {**right, "action": "correct", "ref_fill_id": "y"})
    records = [{**one, "quantity": "50", "price": "61"} if one.get("fill_id") == "f1" else one for one in records]
    means_the_same(run_desk(tmp_path / "desk", "basis", records), bases["basis"])


def test_opening_reports_stand_for_the_fills_before_them(tmp_path: Path, bases: dict[str, DeskRun]) -> None:
    report = {"type": "position_report", "event_time_us": at(2), "account": "basis", "kind": "opening"}
    records = [one for one in read_records("basis") if one["type"] not in ("fill", "collateral")]
    at_two = next(place for place, one in enumerate(records) if one.get("event_time_us", 0) > at(2))
    records[at_two:at_two] = [
        {**report, "instrument": "BTC-29DEC23", "quantity": "-51000", "entry_price": "61200"},
        {**report, "instrument": "BTC-PERPETUAL", "quantity": "26000", "entry_price": "60000"},
        {**report, "type": "balance_report", "asset": "BTC", "amount": "4"},
    ]
    means_the_same(run_desk(tmp_path / "desk", "basis", records), bases["basis"])


@pytest.mark.parametrize(
    ("second", "named"),
    [(1, True), (3599, True), (3600, True), (5000, True), (3599, False), (3600, False), (3700, False)],
)
def test_funding_is_paid_once_whenever_the_payment_comes(
    tmp_path: Path, bases: dict[str, DeskRun], second: int, named: bool
) -> None:
    records = read_records("cash_and_carry")
    payment = next(one for one in records if one.get("transfer_id") == "t2")
    if not named:
        payment = {name: value for name, value in payment.items() if name not in ("instrument", "interval_end_us")}
    records = [one for one in records if one.get("transfer_id") != "t2"]
    timed = sorted([*records, {**payment, "event_time_us": at(second)}], key=lambda one: one.get("event_time_us", 0))
    means_the_same(run_desk(tmp_path / "desk", "cash_and_carry", timed), bases["cash_and_carry"])


# --- other events -----------------------------------------------------------------------------------------------------


def test_an_instrument_that_is_closed_under_a_position_is_told_and_still_counts(
    tmp_path: Path, bases: dict[str, DeskRun]
) -> None:
    future = next(one for one in read_records("basis") if one.get("kind") == "future")
    closed = {**future, "event_time_us": at(10), "status": "closed"}
    run = run_desk(tmp_path / "desk", "basis", with_more("basis", closed))
    means_the_same(run, bases["basis"])
    assert ("closed_with_positions", "instrument:BTC-29DEC23") in {
        (one["kind"], one["scope"]) for one in run.topic("alerts")
    }


def test_the_future_of_a_basis_desk_becomes_cash_at_its_expiry(tmp_path: Path) -> None:
    """Settled at 54,050: the coins are realised, the perpetual alone is margined, and 9.4 BTC are no longer hedged."""
    quoted = [mark(at(59), price, name) for name, price in (("BTC-29DEC23", "54100"), ("BTC-PERPETUAL", "54000"))]
    settled = mark(at(65), "54050", "BTC-29DEC23", kind="settlement")
    later = [mark(at(second), "54000", "BTC-PERPETUAL", venue="deribit") for second in (70, 72)]
    records = with_more("basis", *[{**one, "venue": "deribit"} for one in (*quoted, settled)], *later)
    records = [{**one, "expiry_us": at(60)} if one.get("kind") == "future" else one for one in records]
    found = run_desk(tmp_path / "desk", "basis", records).last()
    longs = Fraction(260_000, 54_000)
    coins = (
        4
        + 260_000 * (Fraction(1, 60_000) - Fraction(1, 54_000))
        - 510_000 * (Fraction(1, 61_200) - Fraction(1, 54_050))
    )
    assert found["account:basis"]["equity"] == pytest.approx(float(coins * 54_000))
    assert found["account:basis"]["maintenance_margin"] == pytest.approx(float(longs * 54_000 * 3 / 100))
    assert found["underlying:BTC"]["delta"] == pytest.approx(float((coins + longs) * 54_000))


def test_a_second_venue_margins_by_its_own_marks_and_the_firm_by_both(tmp_path: Path) -> None:
    """Spot lies at kraken, whose price is 42,010, the perpetual at binance; across venues the middle counts."""
    records: list[Json] = []
    for one in read_records("cash_and_carry"):
        records.append({**one, "account": "spot"} if one.get("fill_id") == "f1" else one)
        if one["type"] == "account":
            records += [
                {"type": "counterparty", "counterparty": "kraken", "name": "Kraken", "role": "venue"},
                {**one, "account": "spot", "counterparty": "kraken", "venue": "kraken"},
            ]
        if one.get("transfer_id") == "t1":
            records[-1:] = [
                {**one, "amount": "49960"},
                {**one, "account": "spot", "transfer_id": "t3", "amount": "400040"},
            ]
        if one.get("event_time_us") == at(5400) and one["type"] == "mark" and one["instrument"] == "BTC/USDT":
            records += [{**one, "venue": "kraken", "price": "42010"}]
    found = run_desk(tmp_path / "desk", "cash_and_carry", records).last()
    usd, middle = Fraction("0.9985"), Fraction(42_005)
    assert found["account:spot"]["equity"] == pytest.approx(float(10 * 42_010 * usd * Fraction("0.95")))
    assert found["counterparty:kraken"]["current_exposure"] == pytest.approx(float(10 * middle * usd))
    assert found["account:carry"]["maintenance_margin"] == pytest.approx(float(10 * 42_050 * usd / 20))
    assert found["underlying:BTC"]["delta"] == pytest.approx(float(10 * (middle - 42_050) * usd))
