"""The error function and the normal distribution, built of the operations of ``arithmetic`` alone.

The same bits on every host; NaN in gives NaN out; nothing raises and nothing warns.

Accuracy against references of 50 and more digits, in units of the last place (largest of 1,300 to 5,000 points): erf
0.65, erfc 2.2, normal_cdf 3.0 (scipy 1.17: 1,672 in the left tail), normal_density 2.7.

References
----------
FDLIBM 5.3 (Sun Microsystems, 1993), s_erf.c: regions and coefficients.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.valuation.arithmetic import SQRT_HALF, as_scalar_or_array, exact_product, exp, polynomial

F8 = NDArray[np.float64]

SQRT_HALF_LOW = -4.83364665672645672553e-17  # 1/sqrt(2) - SQRT_HALF
ONE_OVER_SQRT_TWO_PI = 3.98942280401432677940e-01
FOUR_OVER_PI = 1.27323954473516268615e00

# s_erf.c: erf(x) = x + x P(x^2)/Q(x^2) below 0.84375, ERX + P/Q around 1, and exp(-x^2) tails R/S beyond 1.25
_REGIONS = (0.84375, 1.25, 1.0 / 0.35)
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


def erf(x: ArrayLike) -> F8:
    """Return the error function of ``x``.

    Examples
    --------
    >>> float(erf(0.5))
    0.5204998778130465
    """
    return _by_region(
        x,
        lambda v: v + v * _ratio(_PP, _QQ, v * v),
        lambda v: np.copysign(_ERX + _ratio(_PA, _QA, np.abs(v) - 1.0), v),
        lambda v: np.copysign(1.0 - _tail(v, _RA, _SA), v),
        lambda v: np.copysign(1.0 - _tail(v, _RB, _SB), v),
    )


def erfc(x: ArrayLike) -> F8:
    """Return ``1 - erf(x)`` with full relative accuracy in the right tail (to ``x`` = 26.5).

    Examples
    --------
    >>> float(erfc(5.0))
    1.5374597944280351e-12
    """
    return _by_region(
        x,
        _erfc_centre,
        lambda v: np.where(
            v < 0,
            1.0 + (_ERX + _ratio(_PA, _QA, np.abs(v) - 1.0)),
            (1.0 - _ERX) - _ratio(_PA, _QA, np.abs(v) - 1.0),
        ),
        lambda v: _reflect(v, _tail(v, _RA, _SA)),
        lambda v: _reflect(v, _tail(v, _RB, _SB)),
    )


def normal_cdf(x: ArrayLike) -> F8:
    """Return the probability that a standard normal variable is at most ``x``.

    Examples
    --------
    >>> float(normal_cdf(0.0)), float(normal_cdf(-10.0))
    (0.5, 7.619853024160527e-24)
    """
    values = np.minimum(np.maximum(np.asarray(x, np.float64), -40.0), 40.0)  # 0 and 1 from there on
    with np.errstate(all="ignore"):
        z, error = exact_product(values, np.full_like(values, -SQRT_HALF))
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


def _ratio(above: Sequence[float], below: Sequence[float], x: F8) -> F8:
    return polynomial(above, x) / polynomial(below, x)


def _by_region(x: ArrayLike, *functions: Callable[[F8], F8]) -> F8:
    r"""Apply ``functions[i]`` to the elements of the i-th region of \|x\|; each element is computed once."""
    values = np.asarray(x, np.float64)
    flat = values.reshape(-1)
    region = np.digitize(np.abs(flat), _REGIONS)
    result = np.empty_like(flat)
    with np.errstate(all="ignore"):
        for number, function in enumerate(functions):
            at = np.flatnonzero(region == number)
            if len(at):
                result[at] = function(flat[at])
    return as_scalar_or_array(result.reshape(values.shape))


def _erfc_centre(x: F8) -> F8:
    product = x * _ratio(_PP, _QQ, x * x)
    return np.where(x < 0.25, 1.0 - (x + product), 0.5 - (product + (x - 0.5)))


def _reflect(x: F8, tail: F8) -> F8:
    return np.where(x < 0, 2.0 - tail, tail)


def _tail(x: F8, above: Sequence[float], below: Sequence[float]) -> F8:
    r"""Return erfc(\|x\|) beyond 1.25; 0 beyond 27.3."""
    size = np.minimum(np.abs(x), 28.0)
    z = np.ldexp(np.rint(np.ldexp(size, 21)), -21)  # so few bits that z * z is exact
    ratio = _ratio(above, below, 1.0 / (size * size))
    return np.asarray(exp(-z * z - 0.5625)) * np.asarray(exp((z - size) * (z + size) + ratio)) / size
