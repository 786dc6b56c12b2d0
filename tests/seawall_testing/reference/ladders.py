"""Ladders of prices: of the latest mark on each rung, the one that stands for valuation or for margin at a venue."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from seawall_testing.reference.numbers import exact
from seawall_testing.reference.terms import Json, Rules

VALUATION = ("robust", "mark", "index", "mid", "last")
MARGIN = ("mark", "index", "robust", "mid", "last")  # the first two of the venue itself
LADDER_BEFORE = ("robust", "mark", "mid", "index", "last")


@dataclass(frozen=True)
class Price:
    """A price as an interval with its state: ``fresh``, ``stale``, ``pegged`` or ``unvalued``."""

    low: Fraction
    high: Fraction
    state: str = "fresh"

    def worse(self, amount: Fraction) -> Fraction:
        """Return the value of an amount at the end that is worse for who holds it."""
        return amount * (self.low if amount >= 0 else self.high)


def exactly(value: Fraction, state: str = "fresh") -> Price:
    """Return a price without width."""
    return Price(value, value, state)


def latest(marks: Iterable[Json]) -> Json | None:
    """Return the latest mark by event time; of equals the one that came last."""
    found = None
    for mark in marks:
        if found is None or mark["event_time_us"] >= found["event_time_us"]:
            found = mark
    return found


def ladder_price(
    known_marks: Iterable[Json], name: str, as_of_us: int, rules: Rules, venue: str | None = None
) -> Price | None:
    """Return the price of an instrument for valuation, or for margin at a venue; none if nothing was ever heard."""
    marks = [mark for mark in known_marks if mark["instrument"] == name and mark.get("kind", "mark") != "settlement"]
    if venue is not None and any(mark.get("venue") == venue for mark in marks):
        marks = [m for m in marks if m.get("venue") == venue or (rules.standing_decays and not _venues_own(m))]
        order = MARGIN
    else:
        order = VALUATION
    if not rules.standing_decays:
        order = LADDER_BEFORE
    rungs = [latest(m for m in marks if m.get("kind", "mark") == kind) for kind in order]
    known = [mark for mark in rungs if mark is not None]
    if not known:
        return None
    fresh = [mark for mark in known if as_of_us - mark["event_time_us"] <= rules.mark_max_age_us]
    if not rules.standing_decays:
        return exactly(exact(known[0]["price"]), "fresh" if known[0] in fresh else "stale")
    return _standing(known, fresh, marks, as_of_us, rules)


def _venues_own(mark: Json) -> bool:
    return mark.get("kind", "mark") in ("mark", "index")


def _standing(
    known: list[Json], fresh: list[Json], marks: list[Json], as_of_us: int, rules: Rules
) -> Price | None:  # fmt: skip
    """Choose from the latest of each rung, best first.

    A fresh rung stands, unless it is an unconfirmed `mid` or `last` below a rung that has been known: then the older
    price stands as stale, and by the rules of intervals what lies between the two. Of `mid` and `last` without a higher
    rung the newest counts. With nothing fresh the newest stands as stale, until it ends.
    """
    newest = max(known, key=lambda mark: mark["event_time_us"])
    if known[0].get("kind") in ("mid", "last") and fresh:
        return exactly(exact(newest["price"]))
    if fresh:
        best = fresh[0]
        if best.get("kind") in ("mid", "last") and not _confirmed(best, fresh, marks, rules):
            ends = sorted((exact(best["price"]), exact(known[0]["price"])))
            return Price(ends[0], ends[1], "stale") if rules.intervals else exactly(exact(known[0]["price"]), "stale")
        return exactly(exact(best["price"]))
    if rules.price_max_age_us is not None and as_of_us - newest["event_time_us"] > rules.price_max_age_us:
        return None
    return exactly(exact(newest["price"]), "stale")


def _confirmed(best: Json, fresh: list[Json], marks: list[Json], rules: Rules) -> bool:
    """Tell a second source that is close, or a level that was held for long enough."""
    price = exact(best["price"])
    others = [m for m in fresh if m is not best and m.get("venue") != best.get("venue")]
    if any(abs(exact(m["price"]) / price - 1) <= rules.confirm_tolerance for m in others):
        return True
    level, since, last = price, 0, 0
    for mark in (m for m in marks if m.get("kind", "mark") == best["kind"]):
        if mark["event_time_us"] < last:
            continue
        last = mark["event_time_us"]
        if not since or abs(exact(mark["price"]) / level - 1) > rules.confirm_tolerance:
            level, since = exact(mark["price"]), last
    return best["event_time_us"] - since >= rules.confirm_us
