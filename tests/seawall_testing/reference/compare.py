"""Comparison of the model with the code on one stream: every difference beyond the tolerance, at second ends."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.reference.accounts import account_measures, asset_value, firm_deltas, party_net_notional
from seawall_testing.reference.book import Book, arrivals, balances, book_at
from seawall_testing.reference.credit import exposure
from seawall_testing.reference.distance import distance
from seawall_testing.reference.terms import LANDED, SECOND, Json, Rules, Terms, underlying

MONEY_TOLERANCE, RATIO_TOLERANCE = 1e-6, 1e-9
ACCOUNT = (
    "equity", "unrealised_pnl", "gross_notional", "net_notional", "initial_margin", "maintenance_margin",
    "margin_ratio", "leverage",
)  # fmt: skip
NETTING_SET = ("current_exposure", "collateral_held", "exposure_at_default", "margin_call")
DISTANCE = "distance_to_liquidation"
RATIOS = ("margin_ratio", "leverage", DISTANCE)
FAR = 1e30
LIMITS = [  # never reached; they make the code compute what is compared
    {"id": f"far-{measure}", "scope": f"{scope}:*", "measure": measure, "direction": "above", "hard": FAR}
    for scope, measure in (
        ("account", "margin_ratio"), ("netting_set", "exposure_at_default"), ("netting_set", "margin_call"),
        ("underlying", "delta"),
    )
]  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One number of the code that is not the model's."""

    at_us: int
    scope: str
    measure: str
    code: float
    model: float

    def __str__(self) -> str:
        return f"{self.at_us} {self.scope} {self.measure}: code {self.code!r}, model {self.model!r}"


def run_code(folder: Path, events: Sequence[Json], shards: int = 1) -> PipelineRun:
    """Run events through the real sequencer and the core of risk, in this process."""
    return run_pipeline(
        folder, list(events), limits=LIMITS, shards=shards, peg_return_s=LANDED.peg_return_us / SECOND
    )  # fmt: skip


def differences(
    run: PipelineRun, events: Sequence[Json], times: Sequence[int], rules: Rules, compared: Counter[str]
) -> Iterator[Difference]:
    """Yield every difference in the measures of ``compared``, at the last slice before some times of each scope.

    How often each was compared is added there: who compares nothing finds no difference.
    """
    books: dict[int, Book] = {}
    for at_us in times:
        terms = book_at(events, at_us, rules).terms
        for scope in scopes(terms):
            as_of_us, found = code_numbers(run, scope, at_us)
            if as_of_us not in books:
                books[as_of_us] = book_at(events, as_of_us, rules)
            right = model_numbers(books[as_of_us], scope, as_of_us, rules) if found else {}
            for measure in sorted(right.keys() & found.keys() & compared.keys()):
                if is_compared(terms, events, scope, measure, as_of_us, rules):
                    compared[measure] += 1
                    code, model = found[measure], float(right[measure])
                    if not agree(measure, code, model):
                        yield Difference(as_of_us, scope, measure, code, model)


def is_compared(terms: Terms, events: Sequence[Json], scope: str, measure: str, at_us: int, rules: Rules) -> bool:
    """Tell whether a measure has one definition by the rules: those of before had several for some."""
    recorded = scope.partition(":")[2] in terms.netting_sets
    if measure in ("margin_call", "collateral_held"):
        return recorded  # a set without a record calls nothing, and keeps no independent amounts apart
    return measure != "exposure_at_default" or rules.ead_follows or is_current(events, scope, at_us, rules)


def is_current(events: Sequence[Json], scope: str, at_us: int, rules: Rules) -> bool:
    """Tell that nothing moved since a set last traded: only then the code of before computed it anew."""
    name, accounts = scope.partition(":")[2], [event for event in events if event["type"] == "account"]
    of = {account["account"] for account in accounts if account.get("netting_set", account["account"]) == name}
    touched, moved, seen = 0, 0, set[str]()
    for taken_us, event in zip(arrivals(events), events, strict=True):
        known = event.get("fill_id", event.get("transfer_id"))
        if taken_us > at_us or known in seen:
            continue
        moved = taken_us
        if known is not None:
            seen.add(known)
            touched = taken_us if event["account"] in of else touched
    return moved // rules.slice_us == touched // rules.slice_us


def code_numbers(run: PipelineRun, scope: str, at_us: int) -> tuple[int, dict[str, float]]:
    """Return the code's last measures of a scope up to a time, and of when they are; none where it has no row."""
    try:
        return run.dated_measures(scope, at_us)
    except LookupError:
        return at_us, {}


def scopes(terms: Terms) -> list[str]:
    """Return what is compared: accounts, netting sets and underlyings."""
    sets = {account.get("netting_set", name) for name, account in terms.accounts.items()}
    factors = {underlying(item) for item in terms.instruments.values()}
    parties = terms.counterparties
    named = (("account", terms.accounts), ("netting_set", sets), ("counterparty", parties), ("underlying", factors))
    return [f"{kind}:{name}" for kind, names in named for name in sorted(names)]


def model_numbers(book: Book, scope: str, at_us: int, rules: Rules) -> dict[str, Fraction]:
    """Return the model's measures of a scope."""
    kind, _, name = scope.partition(":")
    if kind == "account":
        account = account_measures(book, name, at_us, rules)
        numbers = {measure: getattr(account, measure) for measure in ACCOUNT}
        # What accrues moves with its price too, by less than anybody would look for.
        exact = all(
            row.value.low == row.value.high
            and row.settlement.low == row.settlement.high
            and row.value.state != "unvalued"  # an inverse contract without a price has no bound, so no interval either
            for row in account.rows
        )
        venue = book.terms.accounts[name].get("venue")
        money = [asset_value(book, asset, at_us, rules, venue) for asset in balances(book, name, rules)]
        exact = exact and all(price.low == price.high for price in money)
        closed = exact and book.terms.accounts[name].get("margin_model") != "schedule" and not book.rates
        if closed and all(has_closed_distance(row.instrument, rules) for row in account.rows):
            numbers[DISTANCE] = distance(book, name, at_us, rules)
        return numbers
    if kind == "underlying":
        return {"delta": firm_deltas(book, at_us, rules).get(name, Fraction(0))}
    if kind == "counterparty":
        mine = {n: a.get("netting_set", n) for n, a in book.terms.accounts.items() if a["counterparty"] == name}
        costs = [exposure(book, one, at_us, rules).current_exposure for one in sorted(set(mine.values()))]
        net = party_net_notional(book, name, at_us, rules)
        return {"current_exposure": sum(costs, Fraction(0)), "net_notional": net}
    credit = exposure(book, name, at_us, rules)
    return {
        "current_exposure": credit.current_exposure, "collateral_held": credit.held,
        "exposure_at_default": credit.exposure_at_default, "margin_call": credit.margin_call,
    }  # fmt: skip


def has_closed_distance(item: Json, rules: Rules) -> bool:
    """Tell a contract whose distance is compared: before, a quanto contract's was a tangent, as that of options."""
    is_quanto = item["settlement"] not in (item["base"], item["quote"])
    return item["kind"] != "option" and (rules.standing_decays or not is_quanto)


def agree(measure: str, code: float, right: float) -> bool:
    """Tell numbers that differ by rounding alone: ratios relatively, money by 1e-12 of its size or a millionth."""
    if measure in RATIOS:
        return abs(code - right) <= RATIO_TOLERANCE * max(abs(right), 1.0)
    return abs(code - right) <= max(MONEY_TOLERANCE, 1e-12 * abs(right))
