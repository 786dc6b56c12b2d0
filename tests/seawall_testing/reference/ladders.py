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
    older: Fraction | None = None  # which of the two stands, where they are those of a price that is not confirmed

    @property
    def stands(self) -> Fraction:
        """The price that stands; a promise or an unknown price stands at its high end."""
        return self.high if self.older is None else self.older

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
    every, order = marks, VALUATION
    if venue is not None and any(mark.get("venue") == venue and _venues_own(mark) for mark in marks):
        marks = [m for m in marks if not _venues_own(m) or m.get("venue") == venue]
        order = MARGIN
    if not rules.standing_decays:
        order = LADDER_BEFORE
    rungs = [latest(m for m in marks if m.get("kind", "mark") == kind) for kind in order]
    known = [mark for mark in rungs if mark is not None]
    if not known:
        return None
    fresh = [mark for mark in known if as_of_us - mark["event_time_us"] <= rules.mark_max_age_us]
    if not rules.standing_decays:
        return exactly(exact(known[0]["price"]), "fresh" if known[0] in fresh else "stale")
    return _standing(known, fresh, every, as_of_us, rules)


def _venues_own(mark: Json) -> bool:
    return mark.get("kind", "mark") in ("mark", "index")


def _standing(
    known: list[Json], fresh: list[Json], marks: list[Json], as_of_us: int, rules: Rules
) -> Price | None:  # fmt: skip
    """Choose from the latest of each rung, best first.

    Of `mid` and `last` without a higher rung the newest counts. Below a rung that has been known they take part once
    they are confirmed: until then one of the others stands, and by the rules of intervals what lies between the two.
    The highest that is fresh stands; with nothing fresh the newest stands as stale.
    """
    low = ("mid", "last")
    if known[0].get("kind") in low:
        return exactly(exact(_newest(known)["price"]), "fresh" if fresh else "stale")
    allowed = [m for m in known if m.get("kind", "mark") not in low or _confirmed(m, marks, rules)]
    standing = next((mark for mark in allowed if mark in fresh), None)
    price = exact((standing or _newest(allowed))["price"])
    if rules.intervals and fresh and standing is None:
        ends = sorted((exact(fresh[0]["price"]), price))
        return Price(ends[0], ends[1], "stale", price)
    return exactly(price, "stale" if standing is None else "fresh")


def _newest(marks: list[Json]) -> Json:
    return max(marks, key=lambda mark: mark["event_time_us"])


def _confirmed(one: Json, marks: list[Json], rules: Rules) -> bool:
    """Tell a second source that is close in its time, or a level that was held for long enough without a gap."""
    price, age_us, tolerance = exact(one["price"]), rules.mark_max_age_us, rules.confirm_tolerance
    latest_of: dict[tuple[str, str], Json] = {}
    level, since, last = price, 0, 0
    for mark in marks:
        source = (mark.get("venue", ""), mark.get("kind", "mark"))
        if source not in latest_of or mark["event_time_us"] >= latest_of[source]["event_time_us"]:
            latest_of[source] = mark
        if source[1] != one["kind"] or mark["event_time_us"] < last:
            continue
        gap = mark["event_time_us"] - last > age_us
        last = mark["event_time_us"]
        if not since or gap or abs(exact(mark["price"]) / level - 1) > tolerance:
            level, since = exact(mark["price"]), last
    if one["event_time_us"] - since >= rules.confirm_us:
        return True
    others = [mark for (venue, _), mark in latest_of.items() if venue != one.get("venue", "")]
    return any(
        mark["event_time_us"] >= one["event_time_us"] - age_us and abs(exact(mark["price"]) / price - 1) <= tolerance
        for mark in others
    )
