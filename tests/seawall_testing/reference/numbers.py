"""Exact numbers: decimal text to fractions, rounding without floats, and Black's formula to 50 digits."""

from decimal import Decimal
from fractions import Fraction
from math import floor

import mpmath  # type: ignore[import-untyped]

mpmath.mp.dps = 50
ZERO, ONE = Fraction(0), Fraction(1)
YEAR_US = 365 * 86_400 * 1_000_000  # a year of options is 365 days


def exact(value: object) -> Fraction:
    """Return a decimal text, or a number by its decimal text, as a fraction."""
    return value if isinstance(value, Fraction) else Fraction(Decimal(str(value)))


def down(value: Fraction, unit: Fraction) -> Fraction:
    """Return the largest multiple of ``unit`` that is not above a non-negative value; a unit of 0 rounds nothing."""
    return value if unit == 0 else floor(value / unit) * unit


def up(value: Fraction, unit: Fraction) -> Fraction:
    """Return the smallest multiple of ``unit`` that is not below a value; a unit of 0 rounds nothing."""
    return value if unit == 0 else -floor(-value / unit) * unit


def real(value: Fraction) -> mpmath.mpf:
    """Return a fraction as a number of 50 digits."""
    return mpmath.mpf(value.numerator) / mpmath.mpf(value.denominator)


def fraction(value: mpmath.mpf) -> Fraction:
    """Return a number of 50 digits as the fraction that it is."""
    sign, mantissa, exponent, _ = value._mpf_
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1 if sign else 1)


def root(value: Fraction) -> Fraction:
    """Return a square root."""
    return fraction(mpmath.sqrt(real(value)))


def exponential(value: Fraction) -> Fraction:
    """Return e to the power of a value."""
    return fraction(mpmath.exp(real(value)))


def normal(value: mpmath.mpf) -> mpmath.mpf:
    """Return the cumulative standard normal distribution."""
    return mpmath.ncdf(value)


def _d1(forward: Fraction, strike: Fraction, deviation: mpmath.mpf) -> mpmath.mpf:
    return (mpmath.log(real(forward) / real(strike)) + deviation**2 / 2) / deviation


def black(
    call: bool, forward: Fraction, strike: Fraction, years: Fraction, sigma: Fraction, rate: Fraction
) -> Fraction:
    """Return Black-76's price of a European option in units of the forward's quote; intrinsic value at expiry."""
    sign = 1 if call else -1
    if years <= 0 or sigma <= 0:
        return max(sign * (forward - strike), ZERO)
    deviation = real(sigma) * mpmath.sqrt(real(years))
    d1 = _d1(forward, strike, deviation)
    d2 = d1 - deviation
    undiscounted = sign * (real(forward) * normal(sign * d1) - real(strike) * normal(sign * d2))
    return fraction(mpmath.exp(-real(rate) * real(years)) * undiscounted)


def black_delta(
    call: bool, forward: Fraction, strike: Fraction, years: Fraction, sigma: Fraction, rate: Fraction
) -> Fraction:
    """Return the change of Black's price per unit of the forward."""
    sign = 1 if call else -1
    if years <= 0 or sigma <= 0:
        return Fraction(sign if sign * (forward - strike) > 0 else 0)
    deviation = real(sigma) * mpmath.sqrt(real(years))
    d1 = _d1(forward, strike, deviation)
    return fraction(sign * mpmath.exp(-real(rate) * real(years)) * normal(sign * d1))


def supervisory_delta(call: bool, price: Fraction, strike: Fraction, years: Fraction, sigma: Fraction) -> Fraction:
    """Return CRE52.40's delta of a bought option; a sold one has the negative of it."""
    sign = 1 if call else -1
    deviation = real(sigma) * mpmath.sqrt(real(years))
    return fraction(sign * normal(sign * _d1(price, strike, deviation)))
