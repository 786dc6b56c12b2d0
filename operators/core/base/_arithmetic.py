"""Reproducible arithmetic: exp, log, power and the normal distribution with the same bits on every host.

The C library's and numpy's functions differ in the last place between hosts, versions and vector widths, and measures
must not (architecture.md, "Same bits"). What is here uses only operations that IEEE 754 defines exactly. NaN in gives
NaN out; nothing raises and nothing warns.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Exp, log and power that give the same bits on every host, library version and engine.
#
# ``np.exp``, ``np.log`` and ``np.power`` return other bytes with and without AVX-512, and scipy's ``erf`` follows the
# compiler. What stands behind the journal may not (architecture.md, "Same bits"), so exp, log and power are built here,
# and erf and the normal distribution below on top of them, from ``+ - * / sqrt`` in a fixed order, with exact
# scaling by powers of two (frexp, ldexp). Each of those steps is a ufunc call of its own, rounded once as IEEE 754
# prescribes: no step can be fused into another.
#
# Rules it keeps
# --------------
# - A scalar and the same value inside an array give the same bits.
# - NaN in gives NaN out; nothing raises and nothing warns. A value outside a function's domain gives NaN.
#
# Accuracy against references of 50 and more digits, in units of the last place (largest of 1,300 to 20,000 points):
# exp 0.82, log 0.80, power 0.82. Results below 2.3e-308 lose bits as every subnormal number does.
#
# References
# ----------
# FDLIBM 5.3 (Sun Microsystems, 1993): e_exp.c and e_log.c, for reductions and coefficients. T. J. Dekker, "A
# floating-point technique for extending the available precision", Numer. Math. 18 (1971), for products and quotients in
# two parts.

F8 = NDArray[np.float64]

LN2_HIGH = 6.93147180369123816490e-01  # its last 32 bits are 0: k * LN2_HIGH is exact for every exponent k
LN2_LOW = 1.90821492927058770002e-10
ONE_OVER_LN2 = 1.44269504088896338700e00
EXP_OVERFLOW = 7.09782712893383973096e02
EXP_UNDERFLOW = -7.45133219101941108420e02
SQRT_HALF = 7.07106781186547524401e-01
THIRD_HIGH = 3.33333333333333314830e-01
THIRD_LOW = 1.85037170770859423404e-17  # 1/3 - THIRD_HIGH
SPLITTER = 134217729.0  # 2^27 + 1: halves a float64 into two of 26 bits

_EXP = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
# log((1+s)/(1-s)) = 2s (1 + s^2/3 + s^4 (1/5 + s^2/7 + ...)); |s| <= 0.1716, so 11 terms reach 2^-64
_ATANH = tuple(1.0 / (2 * term + 5) for term in range(11))


def exp(x: ArrayLike) -> F8:
    """Return e to the power of ``x``; 0 below -745.13, infinity above 709.78.

    Examples
    --------
    >>> float(exp(1.0))
    2.7182818284590455
    """
    values = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        bounded = np.minimum(np.maximum(values, EXP_UNDERFLOW - 1.0), EXP_OVERFLOW + 1.0)
        result = _exp_parts(bounded, np.zeros_like(bounded))
        result = np.where(values > EXP_OVERFLOW, np.inf, np.where(values < EXP_UNDERFLOW, 0.0, result))
    return as_scalar_or_array(np.where(np.isnan(values), values, result))


def log(x: ArrayLike) -> F8:
    """Return the natural logarithm of ``x``; minus infinity at 0, NaN below.

    Examples
    --------
    >>> float(log(10.0))
    2.302585092994046
    """
    values = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        fraction, exponent = _reduced(values)
        f = fraction - 1.0
        s = f / (2.0 + f)
        z = s * s
        half_square = 0.5 * f * f
        rest = z * polynomial(_LOG, z)
        result = exponent * LN2_HIGH - ((half_square - (s * (half_square + rest) + exponent * LN2_LOW)) - f)
        result = np.where(values > 0, result, np.where(values == 0, -np.inf, np.nan))
    return as_scalar_or_array(np.where(np.isposinf(values), np.inf, result))


def power(x: ArrayLike, y: ArrayLike) -> F8:
    """Return ``x`` to the power of ``y`` for ``x >= 0``; NaN for negative ``x``, 1 where ``y`` is 0 or ``x`` is 1.

    Examples
    --------
    >>> float(power(2.0, 10.0)), float(power(0.0, 2.0))
    (1024.0, 0.0)
    """
    base, exponent = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
    with np.errstate(all="ignore"):
        usable = (base > 0) & np.isfinite(base) & np.isfinite(exponent)
        high, low = _log_parts(np.where(usable, base, 1.0))
        # from 1e19 on every result is 0, 1 or infinity: the bound only keeps the products finite
        factor = np.where(usable, np.minimum(np.maximum(exponent, -1e19), 1e19), 0.0)
        main, error = exact_product(high, factor)
        error = error + low * factor
        total = main + error
        bounded = np.minimum(np.maximum(total, EXP_UNDERFLOW - 1.0), EXP_OVERFLOW + 1.0)
        result = _exp_parts(bounded, np.where(bounded == total, (main - total) + error, 0.0))
        result = np.where(total > EXP_OVERFLOW, np.inf, np.where(total < EXP_UNDERFLOW, 0.0, result))
        # what remains has an infinite, zero, negative or NaN argument
        large = (base > 1) == (exponent > 0)
        edge = np.where((base < 0) | np.isnan(base) | np.isnan(exponent), np.nan, np.where(large, np.inf, 0.0))
        result = np.where(usable, result, edge)
    return as_scalar_or_array(np.where((exponent == 0) | (base == 1), 1.0, result))


def as_scalar_or_array(result: F8) -> F8:
    """Turn a 0-d array into a scalar, as numpy's own functions do."""
    scalar: F8 = result[()]
    return scalar


def polynomial(coefficients: Sequence[float], x: F8) -> F8:
    """Evaluate by Horner's rule, constant term first in ``coefficients``."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += coefficient
    return total


def _exp_parts(x: F8, extra: F8) -> F8:
    """Return exp(x + extra) for ``x`` inside the finite range and ``extra`` at most a few ulp of it."""
    steps = np.rint(x * ONE_OVER_LN2)
    high = x - steps * LN2_HIGH
    low = steps * LN2_LOW - extra
    r = high - low
    t = r * r
    c = r - t * polynomial(_EXP, t)
    y = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    return np.ldexp(y, np.where(np.isnan(steps), 0.0, steps).astype(np.int32))


def _reduced(x: F8) -> tuple[F8, F8]:
    """Return ``(m, k)`` with ``x = m * 2^k`` and m in [sqrt(1/2), sqrt(2))."""
    fraction, exponent = np.frexp(x)
    below = fraction < SQRT_HALF
    return np.where(below, fraction * 2.0, fraction), exponent.astype(np.float64) - below


def _log_parts(x: F8) -> tuple[F8, F8]:
    """Return the logarithm of a positive finite ``x`` as an unevaluated sum of two float64."""
    fraction, exponent = _reduced(x)
    f = fraction - 1.0  # exact
    below = 2.0 + f
    below_low = f - (below - 2.0)
    s = f / below
    back, back_low = exact_product(s, below)
    s_low = (((f - back) - back_low) - s * below_low) / below
    z, z_low = exact_product(s, s)
    z_low = z_low + 2.0 * s * s_low
    third, third_low = exact_product(z, THIRD_HIGH)
    third_low = third_low + z * THIRD_LOW + z_low * THIRD_HIGH + z * z * polynomial(_ATANH, z)
    part, part_low = exact_product(2.0 * s, third)
    part_low = part_low + 2.0 * (s * third_low + s_low * third)
    high, low = _sum(2.0 * s, part)
    low = low + part_low + 2.0 * s_low
    total, total_low = _sum(exponent * LN2_HIGH, high)
    return _sum(total, total_low + low + exponent * LN2_LOW)


def _sum(a: F8, b: F8) -> tuple[F8, F8]:
    """Return a + b and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def exact_product(a: F8, b: F8 | float) -> tuple[F8, F8]:
    """Return a * b and its rounding error (Dekker); finite below 1e300."""
    total = a * b
    a_high = a * SPLITTER - (a * SPLITTER - a)
    b_high = b * SPLITTER - (b * SPLITTER - b)
    a_low, b_low = a - a_high, b - b_high
    return total, ((a_high * b_high - total) + a_high * b_low + a_low * b_high) + a_low * b_low


# The error function and the normal distribution, built of the operations above alone.
#
# The same bits on every host; NaN in gives NaN out; nothing raises and nothing warns.
#
# Accuracy against references of 50 and more digits, in units of the last place (largest of 1,300 to 5,000 points): erf
# 0.65, erfc 2.2, normal_cdf 3.0 (scipy 1.17: 1,672 in the left tail), normal_density 2.7.
#
# References
# ----------
# FDLIBM 5.3 (Sun Microsystems, 1993), s_erf.c: regions and coefficients.

SQRT_HALF_LOW = -4.83364665672645672553e-17  # 1/sqrt(2) - SQRT_HALF
ONE_OVER_SQRT_TWO_PI = 3.98942280401432677940e-01
FOUR_OVER_PI = 1.27323954473516268615e00

# s_erf.c: erf(x) = x + x P(x^2)/Q(x^2) below 0.84375, ERX + P/Q around 1, and exp(-x^2) tails R/S beyond 1.25
_REGIONS = np.array([0.84375, 1.25, 1.0 / 0.35])
_ERX = 8.45062911510467529297e-01
_PP = (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
       -5.77027029648944159157e-03, -2.37630166566501626084e-05)  # fmt: skip
_QQ = (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
       1.32494738004321644526e-04, -3.96022827877536812320e-06)  # fmt: skip
_PA = (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01, 3.18346619901161753674e-01,
       -1.10894694282396677476e-01, 3.54783043256182359371e-02, -2.16637559486879084300e-03)  # fmt: skip
_QA = (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
       1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02)  # fmt: skip
_RA = (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e01, -6.23753324503260060396e01,
       -1.62396669462573470355e02, -1.84605092906711035994e02, -8.12874355063065934246e01,
       -9.81432934416914548592e00)  # fmt: skip
_SA = (1.0, 1.96512716674392571292e01, 1.37657754143519042600e02, 4.34565877475229228821e02, 6.45387271733267880336e02,
       4.29008140027567833386e02, 1.08635005541779435134e02, 6.57024977031928170135e00,
       -6.04244152148580987438e-02)  # fmt: skip
_RB = (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e01, -1.60636384855821916062e02,
       -6.37566443368389627722e02, -1.02509513161107724954e03, -4.83519191608651397019e02)  # fmt: skip
_SB = (1.0, 3.03380607434824582924e01, 3.25792512996573918826e02, 1.53672958608443695994e03, 3.19985821950859553908e03,
       2.55305040643316442583e03, 4.74528541206955367215e02, -2.24409524465858183362e01)  # fmt: skip

# The four ratios in one array, so that each element goes through Horner's rule of its region: by term (the highest
# first, 0 where there is none), above and below, by region.
_RATIOS = (
    np.array(
        [[np.pad(c, (0, 9 - len(c)))[::-1] for c in part] for part in ((_PP, _PA, _RA, _RB), (_QQ, _QA, _SA, _SB))]
    )
    .transpose(2, 0, 1)
    .copy()
)


@np.errstate(all="ignore")
def erf(x: ArrayLike) -> F8:
    """Return the error function of ``x``.

    Examples
    --------
    >>> float(erf(0.5))
    0.5204998778130465
    """
    v, size, region, ratio = _by_region(x)
    found = np.where(region == 0, v + v * ratio, np.copysign(_ERX + ratio, v))
    at = (region > 1).nonzero()[0]
    found[at] = np.copysign(1.0 - _tail(size[at], ratio[at]), v[at])
    return as_scalar_or_array(found.reshape(np.shape(x)))


@np.errstate(all="ignore")
def erfc(x: ArrayLike) -> F8:
    """Return ``1 - erf(x)`` with full relative accuracy in the right tail (to ``x`` = 26.5).

    Examples
    --------
    >>> float(erfc(5.0))
    1.5374597944280351e-12
    """
    v, size, region, ratio = _by_region(x)
    product = v * ratio
    centre = np.where(v < 0.25, 1.0 - (v + product), 0.5 - (product + (v - 0.5)))
    found = np.where(region == 0, centre, np.where(v < 0, 1.0 + (_ERX + ratio), (1.0 - _ERX) - ratio))
    at = (region > 1).nonzero()[0]
    tail = _tail(size[at], ratio[at])
    found[at] = np.where(v[at] < 0, 2.0 - tail, tail)
    return as_scalar_or_array(found.reshape(np.shape(x)))


def normal_cdf(x: ArrayLike) -> F8:
    """Return the probability that a standard normal variable is at most ``x``.

    Examples
    --------
    >>> float(normal_cdf(0.0)), float(normal_cdf(-10.0))
    (0.5, 7.619853024160527e-24)
    """
    values = np.minimum(np.maximum(np.asarray(x, np.float64), -40.0), 40.0)  # 0 and 1 from there on
    with np.errstate(all="ignore"):
        z, error = exact_product(values, -SQRT_HALF)
        error = error - values * SQRT_HALF_LOW
        # erfc(z + error): its derivative over itself is close to z + sqrt(z^2 + 4/pi), which the tail needs
        slope = z + np.sqrt(z * z + FOUR_OVER_PI)
        result = 0.5 * np.asarray(erfc(z)) * (1.0 - np.where(z > 0, error * slope, 0.0))
    return as_scalar_or_array(result)


def normal_density(x: ArrayLike) -> F8:
    """Return the density of a standard normal variable at ``x``.

    Examples
    --------
    >>> float(normal_density(0.0))
    0.3989422804014327
    """
    values = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        square, error = exact_product(values, values)
        error = np.where(np.isfinite(error), error, 0.0)
        result = ONE_OVER_SQRT_TWO_PI * np.asarray(exp(-0.5 * square)) * (1.0 - 0.5 * error)
    return as_scalar_or_array(result)


def _by_region(x: ArrayLike) -> tuple[F8, F8, NDArray[np.int64], F8]:
    r"""Return flat: the values, \|x\| up to 28, the region of each, and its P/Q or R/S there."""
    values = np.asarray(x, np.float64).reshape(-1)
    size = np.minimum(np.abs(values), 28.0)
    region = np.searchsorted(_REGIONS, size, side="right")
    at = np.where(region == 0, values * values, np.where(region == 1, size - 1.0, 1.0 / (size * size)))
    both = _RATIOS[0].take(region, axis=1)
    for coefficients in _RATIOS[1:]:
        both *= at
        both += coefficients.take(region, axis=1)
    return values, size, region, both[0] / both[1]


def _tail(size: F8, ratio: F8) -> F8:
    r"""Return erfc(\|x\|) beyond 1.25 of ``size``, which is \|x\| up to 28; 0 beyond 27.3."""
    z = np.ldexp(np.rint(np.ldexp(size, 21)), -21)  # so few bits that z * z is exact
    square, rest = np.asarray(exp(np.stack([-z * z - 0.5625, (z - size) * (z + size) + ratio])))
    tail: F8 = square * rest / size
    return tail
