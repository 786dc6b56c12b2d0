"""Decimal strings: their accepted form and their value (contract.md, "Encoding").

A decimal string is ``-?[0-9]{1,20}(\\.[0-9]{1,18})?``. Prices, rates and amounts become float64; quantities become
exact integers of the instrument's quantity increment, without passing through a float.
"""

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import NamedTuple

from seawall.schemas.errors import Reason, Rejected

PATTERN = r"-?[0-9]{1,20}(\.[0-9]{1,18})?"
QUANTITIES_MAX = 1 << 15  # remembered: most come again
UNITS_MAX = 1 << 62  # a position of this many increments still fits 64 bits with a sign to spare

_matches = re.compile(PATTERN).fullmatch
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})


class Scale(NamedTuple):
    """A quantity increment: ``units`` times ten to the power of minus ``places``."""

    places: int
    units: int


def parse_decimal(text: str) -> float:
    """Return the float64 nearest to a decimal string.

    Raises
    ------
    Rejected
        ``NUMBER_MUST_BE_FINITE`` or ``DECIMAL_MUST_BE_WELL_FORMED``.

    Examples
    --------
    >>> parse_decimal("-12.50")
    -12.5
    """
    if _matches(text) is None:
        raise malformed(text)
    return float(text)


def parse_scale(increment: str) -> Scale:
    """Return the scale of an increment.

    Examples
    --------
    >>> parse_scale("0.0250")
    Scale(places=3, units=25)
    >>> parse_scale("10")
    Scale(places=0, units=10)
    """
    whole, _, fraction = increment.partition(".")
    fraction = fraction.rstrip("0")
    return Scale(len(fraction), int(whole + fraction))


@lru_cache(QUANTITIES_MAX)
def parse_quantity(text: str, scale: Scale) -> int:
    """Return a quantity as a number of increments, exactly.

    Raises
    ------
    Rejected
        The text is no decimal, no multiple of the increment, or too large for a position.

    Examples
    --------
    >>> parse_quantity("0.075", parse_scale("0.025"))
    3
    """
    if _matches(text) is None:
        raise malformed(text)
    places, units = scale
    whole, _, fraction = text.partition(".")
    if len(fraction) > places:
        if fraction[places:].strip("0"):
            raise Rejected(Reason.QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT, f"{text} has more than {places} places")
        fraction = fraction[:places]
    number = int(whole + fraction.ljust(places, "0"))
    if units != 1:
        number, rest = divmod(number, units)
        if rest:
            raise Rejected(Reason.QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT, f"{text} is not a multiple")
    if not -UNITS_MAX < number < UNITS_MAX:
        raise Rejected(Reason.QUANTITY_MUST_FIT_IN_64_BITS, f"{text} is {number} increments")
    return number


def number_text(text: str) -> str:
    """Return the decimal string of a JSON number, exponent written out.

    Raises
    ------
    Rejected
        The number is outside the range of decimal strings.

    Examples
    --------
    >>> number_text("1.5e3"), number_text("2E-3"), number_text("7.10")
    ('1500', '0.002', '7.10')
    """
    if _matches(text):
        return str(text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise malformed(text) from None
    digits = number.as_tuple()
    exponent = digits.exponent
    if isinstance(exponent, int) and -60 < exponent < 60 and len(digits.digits) < 60:
        plain = format(number, "f")
        if "." in plain:
            plain = plain.rstrip("0").removesuffix(".")
        if _matches(plain):
            return plain
    raise malformed(text)


def malformed(text: str) -> Rejected:
    """Return the rejection of a text that is no decimal string."""
    if text.strip().lstrip("+-").lower() in _NOT_FINITE:
        return Rejected(Reason.NUMBER_MUST_BE_FINITE, f"{_shown(text)} is not finite")
    return Rejected(Reason.DECIMAL_MUST_BE_WELL_FORMED, f"{_shown(text)} does not match {PATTERN}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
