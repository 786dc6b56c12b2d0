"""Distance to liquidation of an account: the smallest move of all that is not money at which equity is its margin.

The book is valued again after the move: the marks of what moves against what stands still are scaled.
 Currencies stand still, and stablecoins with them. Without options and tiers equity less margin is at most a
square in the move (a quanto contract pays in a coin that moves too), so three valuations give it exactly.
"""

from dataclasses import replace
from fractions import Fraction

from seawall_testing.reference.accounts import RATIO_MAX, account_measures
from seawall_testing.reference.book import Book
from seawall_testing.reference.numbers import ONE, ZERO, exact, root
from seawall_testing.reference.terms import Rules, underlying

HALF = Fraction(1, 2)


def moves(book: Book, asset: str, rules: Rules) -> bool:
    """Tell an asset that moves from money."""
    default = "fiat" if asset == rules.reporting else "coin"
    return book.terms.assets.get(asset, {}).get("class", default) not in ("fiat", "stablecoin")


def moved(book: Book, move: Fraction, rules: Rules) -> Book:
    """Return the book after a move of everything that is not money."""
    marks = []
    for mark in book.marks:
        item = book.terms.instruments[mark["instrument"]]
        factor = (underlying(item), item["quote"])
        power = moves(book, factor[0], rules) - moves(book, factor[1], rules)
        scaled = exact(mark["price"]) * (ONE + move) ** power
        marks.append({**mark, "price": scaled})
    return replace(book, marks=marks)


def surplus(book: Book, account: str, move: Fraction, as_of_us: int, rules: Rules) -> Fraction:
    """Return equity less maintenance margin after a move."""
    found = account_measures(moved(book, move, rules), account, as_of_us, rules)
    return found.equity - found.maintenance_margin


def distance(book: Book, account: str, as_of_us: int, rules: Rules) -> Fraction:
    """Return the distance of an account without options and tiers: 0 beyond it, the largest where there is no move."""
    if account_measures(book, account, as_of_us, rules).maintenance_margin == 0:
        return RATIO_MAX
    now, half, whole = (surplus(book, account, move, as_of_us, rules) for move in (ZERO, HALF, ONE))
    if now <= 0:
        return ZERO
    square = 2 * (whole - 2 * half + now)
    slope = whole - now - square
    found = [move for move in _roots(square, slope, now) if move > -1]
    return min((abs(move) for move in found), default=RATIO_MAX)


def _roots(square: Fraction, slope: Fraction, constant: Fraction) -> list[Fraction]:
    if square == 0:
        return [] if slope == 0 else [-constant / slope]
    inside = slope**2 - 4 * square * constant
    if inside < 0:
        return []
    return [(-slope + sign * root(inside)) / (2 * square) for sign in (1, -1)]
