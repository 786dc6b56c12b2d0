"""Exposures against a slow, obvious reference in exact fractions.

Netting happens within a set and nowhere else; the order of what is independent has no effect; a bust leaves no trace
and a correction only its new fill; a group is the sum of its members, wherever they are and whenever they joined; what
is ours as holder is theirs turned.
"""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.schemas.measures import COUNTERPARTY, PARTY_CREDIT
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

PRICES = {"LIN": Fraction(100), "INV": Fraction(20_000), "ALT": Fraction(5, 2)}
COIN = Fraction(20_000)
HAIRCUTS = {"USD": Fraction(0), "BTC": Fraction(1, 10)}
FACTOR = Fraction(2, 5)  # OSFI's for crypto assets
UNMARGINED, MARGINED = Fraction(1, 5), Fraction(3, 10)  # sqrt(10/250) and 1.5 sqrt(10/250)
ACCOUNTS = {"a1": "set-a", "a2": "set-a", "b1": "set-b", "c1": "set-c", "c2": "set-c2"}
PARTIES = {"set-a": "a", "set-b": "b", "set-c": "c", "set-c2": "c"}
INSTRUMENTS = [
    instrument("LIN", quantity_increment="0.01", contract_size="10"),
    instrument("INV", base="BTC", settlement="BTC", inverse=True, quantity_increment="1", contract_size="100"),
    instrument("ALT", base="ALT", quantity_increment="0.1"),
    instrument("BTC-USD", kind="spot", base="BTC", quantity_increment="0.0001"),
]
ASSETS: list[Json] = [
    {"type": "asset", "asset": "BTC", "class": "coin", "haircut": "0.1"},
    {"type": "asset", "asset": "USD", "class": "fiat"},
]
MARKS = [mark(T0 + 1, str(float(price)), name) for name, price in {**PRICES, "BTC-USD": COIN}.items()]


class Holding:
    """One account in fractions: units and cost per instrument at average cost, and balances per asset and kind."""

    def __init__(self) -> None:
        self.units: dict[str, Fraction] = dict.fromkeys(PRICES, Fraction(0))
        self.cost: dict[str, Fraction] = dict.fromkeys(PRICES, Fraction(0))
        self.cash: dict[tuple[str, bool, bool], Fraction] = {}

    def trade(self, name: str, quantity: Fraction, price: Fraction) -> None:
        held, value = self.units[name], unit(name, price)
        closing = max(-abs(held), min(abs(held), -quantity if held > 0 else quantity))
        closed = closing if held and (held > 0) != (quantity > 0) else Fraction(0)
        closed = min(abs(held), abs(quantity)) * (1 if held > 0 else -1) if closed else Fraction(0)
        if closed:
            released = self.cost[name] * closed / held
            self.pay("BTC" if name == "INV" else "USD", closed * value - released)
            self.cost[name] -= released
        self.units[name] += quantity
        self.cost[name] += (quantity + closed) * value

    def pay(self, asset: str, amount: Fraction, independent: bool = False, segregated: bool = False) -> None:
        key = (asset, independent, segregated)
        self.cash[key] = self.cash.get(key, Fraction(0)) + amount

    def unrealised(self) -> Fraction:
        worth = {name: (COIN if name == "INV" else Fraction(1)) for name in PRICES}
        return sum(((self.units[n] * unit(n, PRICES[n]) - self.cost[n]) * worth[n] for n in PRICES), Fraction(0))

    def signed(self, name: str) -> Fraction:
        """Return the signed notional in dollars."""
        size = self.units[name] * unit(name, PRICES[name])
        return -size * COIN if name == "INV" else size


def unit(name: str, price: Fraction) -> Fraction:
    """Return the value of one whole unit in its settlement asset."""
    return {"LIN": 10 * price, "INV": -100 / price, "ALT": price}[name]


class Reference:
    """What stands of everything that happened, held per account."""

    def __init__(self, holders: dict[str, str], terms: dict[str, Json]) -> None:
        self.holders, self.terms = holders, terms
        self.held = {name: Holding() for name in ACCOUNTS}

    def sign(self, name: str) -> int:
        return 1 if self.holders[name] == "house" else -1

    def collateral(self, netting_set: str) -> tuple[Fraction, Fraction, Fraction]:
        """Return C, NICA and what of it is theirs."""
        total = independent_total = theirs = Fraction(0)
        for name in members(netting_set):
            pieces: dict[tuple[str, bool, bool], Fraction] = self.held[name].cash
            for (asset, independent, segregated), amount in pieces.items():
                value = -self.sign(name) * amount * (COIN if asset == "BTC" else 1)
                haircut = HAIRCUTS[asset]
                received = value > 0 and self.sign(name) < 0  # a haircut is for what others gave us
                counted = value * (1 - haircut) if received else value
                theirs += counted if received else 0
                if value < 0 and segregated:
                    continue
                total += counted
                independent_total += counted if independent else 0
        return total, independent_total, theirs

    def measures(self, netting_set: str) -> dict[str, float]:
        terms = self.terms[netting_set]
        value = sum((self.sign(n) * self.held[n].unrealised() for n in members(netting_set)), Fraction(0))
        held, independent, theirs = self.collateral(netting_set)
        surplus = value - held
        uncalled = Fraction(terms["threshold"]) + Fraction(terms["minimum_transfer_amount"]) - independent
        margined = bool(terms["margined"] and terms["they_post"])
        cost = max(surplus, uncalled, Fraction(0)) if margined else max(surplus, Fraction(0))
        found = [self.default(netting_set, max(surplus, Fraction(0)), surplus, UNMARGINED)]
        if margined:
            found.append(self.default(netting_set, cost, surplus, MARGINED))
        return {
            "current_exposure": float(cost),
            "collateral_held": float(theirs),
            "potential_exposure": found[-1][0],
            "exposure_at_default": min(default for _, default in found),
        }

    def default(self, netting_set: str, cost: Fraction, surplus: Fraction, maturity: Fraction) -> tuple[float, float]:
        """Return potential exposure and exposure at default: the exponential is the only float."""
        nets = [
            sum((self.sign(n) * self.held[n].signed(name) for n in members(netting_set)), Fraction(0))
            for name in PRICES
        ]
        add_on = FACTOR * maturity * sum((abs(net) for net in nets), Fraction(0))
        multiplier = 1.0
        if surplus < 0:
            power = float(surplus / (2 * Fraction(95, 100) * add_on)) if add_on else -math.inf
            multiplier = min(1.0, 0.05 + 0.95 * math.exp(power))
        return multiplier * float(add_on), 1.4 * (float(cost) + multiplier * float(add_on))


def members(netting_set: str) -> list[str]:
    return [name for name, of in ACCOUNTS.items() if of == netting_set]


# --- what happens -----------------------------------------------------------------------------------------------------

TRADES = st.lists(
    st.tuples(
        st.sampled_from(sorted(ACCOUNTS)),
        st.sampled_from(sorted(PRICES)),
        st.integers(-300, 300).filter(bool),
        st.integers(50, 150),
        st.sampled_from(["new", "new", "new", "bust", "correct"]),
    ),
    min_size=1,
    max_size=30,
)
TRANSFERS = st.lists(
    st.tuples(
        st.sampled_from(sorted(ACCOUNTS)),
        st.sampled_from(["USD", "BTC"]),
        st.integers(-40, 200),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)
TERMS = st.fixed_dictionaries(
    {
        "margined": st.booleans(),
        "they_post": st.booleans(),
        "threshold": st.sampled_from(["0", "250", "4000"]),
        "minimum_transfer_amount": st.sampled_from(["0", "75"]),
    }
)
ALL_TERMS = st.fixed_dictionaries(dict.fromkeys(PARTIES, TERMS))
HOLDERS = st.fixed_dictionaries(dict.fromkeys(ACCOUNTS, st.sampled_from(["house", "counterparty"])))
STEP = {"LIN": Fraction(1, 100), "INV": Fraction(1), "ALT": Fraction(1, 10)}


def reference_records(holders: dict[str, str], terms: dict[str, Json], groups: dict[str, str]) -> list[Json]:
    parties = [{**account(name)[0], **({"group": groups[name]} if name in groups else {})} for name in "abc"]
    sets = [{"type": "netting_set", "netting_set": n, "counterparty": PARTIES[n], **terms[n]} for n in PARTIES]
    own = [
        {"type": "account", "account": n, "counterparty": PARTIES[s], "holder": holders[n], "netting_set": s}
        for n, s in ACCOUNTS.items()
    ]
    return [*ASSETS, *INSTRUMENTS, *parties, *sets, *own, *MARKS]


def body_of(at: int, name: str, instrument_name: str, steps: int, percent: int) -> Json:
    price = PRICES[instrument_name] * percent / 100
    return fill(
        T0 + 1000 + at * 40_000,
        f"f{at}",
        name,
        instrument=instrument_name,
        side="buy" if steps > 0 else "sell",
        quantity=f"{float(abs(steps) * STEP[instrument_name]):.2f}",
        price=f"{float(price):.4f}",
    )


def happened(trades: Iterable[Any], transfers: Iterable[Any], book: Reference) -> list[Json]:
    """Return the records, and let the reference hold what stands in the end, in the order in which it was taken."""
    records: list[Json] = []
    standing: dict[str, Json] = {}
    for at, (name, traded, steps, percent, action) in enumerate(trades):
        body = body_of(at, name, traded, steps, percent)
        old = next((b for b in standing.values() if b["account"] == name), None) if action != "new" else None
        if old is not None:
            key = next(k for k, b in standing.items() if b is old)
            same = {field: old[field] for field in ("instrument", "side", "quantity", "price")}
            body |= {"action": action, "ref_fill_id": key, **(same if action == "bust" else {})}
            if action == "correct":
                standing[key] = body  # in its place; later changes name the fill that was corrected
            else:
                del standing[key]
        else:
            standing[body["fill_id"]] = body
        records.append(body)
    for body in standing.values():
        quantity = Fraction(body["quantity"]) * (1 if body["side"] == "buy" else -1)
        book.held[body["account"]].trade(body["instrument"], quantity, Fraction(body["price"]))
    for at, (name, asset, amount, independent, segregated) in enumerate(transfers):
        size = Fraction(amount) if asset == "USD" else Fraction(amount, 1000)
        purpose = "independent_amount" if independent else "variation_margin"
        options = {"asset": asset, "amount": f"{float(size):.3f}", "purpose": purpose, "segregated": segregated}
        records.append(transfer(T0 + 2000 + at * 40_000, f"t{at}", name, **options))
        book.held[name].pay(asset, size, independent, segregated)
    return records


def close(found: dict[str, float], wanted: dict[str, float]) -> bool:
    return all(found[name] == pytest.approx(value, rel=1e-9, abs=1e-5) for name, value in wanted.items())


# --- the properties ---------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(TRADES, TRANSFERS, ALL_TERMS, HOLDERS)
def test_netting_sets_have_the_exposures_of_exact_fractions(
    tmp_path_factory: pytest.TempPathFactory, trades: Any, transfers: Any, terms: Any, holders: Any
) -> None:
    book = Reference(holders, terms)
    records = happened(trades, transfers, book)
    ran = run_pipeline(tmp_path_factory.mktemp("sets"), *reference_records(holders, terms, {}), *records)
    assert ran.topic("rejects") == []
    for name in PARTIES:
        assert close(ran.measures(f"netting_set:{name}"), book.measures(name)), name
    for party in "abc":
        sets = [book.measures(name) for name, owner in PARTIES.items() if owner == party]
        found = ran.measures(f"counterparty:{party}")
        assert close(found, {measure: sum(one[measure] for one in sets) for measure in sets[0]}), party


@settings(max_examples=5, deadline=None)
@given(TRADES, ALL_TERMS, HOLDERS, st.randoms(use_true_random=False))
def test_the_order_of_what_is_independent_and_the_number_of_shards_have_no_effect(
    tmp_path_factory: pytest.TempPathFactory, trades: Any, terms: Any, holders: Any, rng: Any
) -> None:
    """Accounts are independent of each other: any order that keeps each account's own gives the same exposures."""
    records = happened(trades, [], Reference(holders, terms))
    names = [record["account"] for record in records]
    rng.shuffle(names)
    queues = {name: [r for r in records if r["account"] == name] for name in ACCOUNTS}
    mixed = [{**queues[name].pop(0), "event_time_us": T0 + 1000 + at * 40_000} for at, name in enumerate(names)]
    start = reference_records(holders, terms, {"a": "g", "c": "g"})
    one = run_pipeline(tmp_path_factory.mktemp("one"), *start, *records)
    two = run_pipeline(tmp_path_factory.mktemp("two"), *start, *mixed, shards=3)
    for scope in ["firm", "group:g", *(f"netting_set:{n}" for n in PARTIES), *(f"counterparty:{n}" for n in "abc")]:
        assert close(two.measures(scope), one.measures(scope)), scope


@settings(max_examples=5, deadline=None)
@given(TRADES, ALL_TERMS, HOLDERS, st.sampled_from("abc"))
def test_a_group_is_the_sum_of_its_members_before_and_after_one_of_them_moves(
    tmp_path_factory: pytest.TempPathFactory, trades: Any, terms: Any, holders: Any, mover: str
) -> None:
    records = happened(trades, [], Reference(holders, terms))
    groups = {"a": "g", "b": "g", "c": "h"}
    other = "h" if groups[mover] == "g" else "g"
    moved = {**account(mover)[0], "group": other, "event_time_us": T0 + 3 * SECOND}
    start = reference_records(holders, terms, groups)
    ran = run_pipeline(tmp_path_factory.mktemp("groups"), *start, *records, moved, shards=2)
    for at_us, standing in ((T0 + 3 * SECOND, groups), (T0 + 9 * SECOND, {**groups, mover: other})):
        for group in "gh":
            parts = [ran.measures(f"counterparty:{n}", at_us) for n, of in standing.items() if of == group]
            found = ran.measures(f"group:{group}", at_us)
            wanted = {name: sum(part[name] for part in parts) for name in (*COUNTERPARTY, *PARTY_CREDIT[:4])}
            assert close(found, wanted), (group, at_us)


@settings(max_examples=5, deadline=None)
@given(TRADES, HOLDERS)
def test_what_is_ours_as_holder_is_theirs_turned(
    tmp_path_factory: pytest.TempPathFactory, trades: Any, holders: Any
) -> None:
    terms: dict[str, Json] = {
        name: {"margined": False, "they_post": True, "threshold": "0", "minimum_transfer_amount": "0"}
        for name in PARTIES
    }
    turned = {name: "house" if holder == "counterparty" else "counterparty" for name, holder in holders.items()}

    def at(who: dict[str, str], name: str) -> PipelineRun:
        records = happened(trades, [], Reference(who, terms))
        return run_pipeline(tmp_path_factory.mktemp(name), *reference_records(who, terms, {}), *records)

    one, two = at(holders, "as it is"), at(turned, "turned")
    for party in "abc":
        ours, theirs = one.measures(f"counterparty:{party}"), two.measures(f"counterparty:{party}")
        for measure in ("net_notional", "pnl"):
            assert ours[measure] == -theirs[measure]
        assert ours["gross_notional"] == theirs["gross_notional"]
    for name in ACCOUNTS:  # what a holder has does not depend on who that is
        assert one.measures(f"account:{name}") == two.measures(f"account:{name}")
