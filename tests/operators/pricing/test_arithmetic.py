"""exp, log, power, erf and the normal distribution: right to a few last places, and the same bits everywhere."""

import hashlib
import math
import os
import subprocess
import sys
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.operators.core.base import _arithmetic, ordered_sums
from seawall_testing.paths import TESTS

ITEMS = 25_000
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")

FUNCTIONS = {
    "exp": lambda x: _arithmetic.exp(x * 50.0),
    "log": lambda x: _arithmetic.log(np.abs(x)),
    "power": lambda x: _arithmetic.power(np.abs(x), x * 3.0),
    "erf": _arithmetic.erf,
    "erfc": lambda x: _arithmetic.erfc(x * 2.0),
    "normal_cdf": lambda x: _arithmetic.normal_cdf(x * 3.0),
    "normal_density": lambda x: _arithmetic.normal_density(x * 3.0),
}

WORKER = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np
from test_arithmetic import digest
print(digest())
"""


def arguments() -> np.ndarray:
    """25,000 numbers in (-12, 12) made of exact operations only, so that both processes start from the same bits."""
    step = np.arange(ITEMS, dtype=np.float64)
    return (step - ITEMS / 2) / (ITEMS / 2) * 12.0 + 1.0 / 7.0


def digest() -> str:
    x = arguments()
    text = [
        f"{name} {hashlib.sha256(np.ascontiguousarray(f(x)).tobytes()).hexdigest()}" for name, f in FUNCTIONS.items()
    ]
    return "\n".join(text)


def error_in_last_places(value: float, reference: Decimal) -> float:
    return abs(float((Decimal(value) - reference) / Decimal(math.ulp(float(reference)))))


def erfc_reference(x: Decimal) -> Decimal:
    """1 - erf(x) by its Taylor series, with digits enough for the cancellation; good to 90 digits below x = 9."""
    with localcontext() as context:
        context.prec = 190
        term, total, n = x, x, 0
        while abs(term) > Decimal(10) ** -180:
            n += 1
            term = -term * x * x / n
            total += term / (2 * n + 1)
        return 1 - 2 * total / PI.sqrt()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (_arithmetic.exp(0.0), 1.0),
        (_arithmetic.exp(-0.0), 1.0),
        (_arithmetic.exp(-np.inf), 0.0),
        (_arithmetic.exp(709.782712893384), 1.7976931348622732e308),
        (_arithmetic.exp(709.8), np.inf),
        (_arithmetic.exp(-746.0), 0.0),
        (_arithmetic.exp(-745.0), 5e-324),
        (_arithmetic.log(1.0), 0.0),
        (_arithmetic.log(0.0), -np.inf),
        (_arithmetic.log(-1.0), np.nan),
        (_arithmetic.log(np.inf), np.inf),
        (_arithmetic.log(5e-324), -744.4400719213812),
        (_arithmetic.power(0.0, 0.0), 1.0),
        (_arithmetic.power(0.0, 2.0), 0.0),
        (_arithmetic.power(0.0, -1.0), np.inf),
        (_arithmetic.power(-1.0, 2.0), np.nan),
        (_arithmetic.power(1.0, np.nan), 1.0),
        (_arithmetic.power(2.0, 10.0), 1024.0),
        (_arithmetic.power(2.0, -1074.0), 5e-324),
        (_arithmetic.power(10.0, 308.0), 1e308),
        (_arithmetic.power(2.0, 1e300), np.inf),
        (_arithmetic.power(0.5, np.inf), 0.0),
        (_arithmetic.power(np.inf, -1.0), 0.0),
        (_arithmetic.erf(np.inf), 1.0),
        (_arithmetic.erf(-30.0), -1.0),
        (_arithmetic.erfc(-np.inf), 2.0),
        (_arithmetic.erfc(30.0), 0.0),
        (_arithmetic.normal_cdf(0.0), 0.5),
        (_arithmetic.normal_cdf(-1e200), 0.0),
        (_arithmetic.normal_cdf(np.inf), 1.0),
        (_arithmetic.normal_density(1e200), 0.0),
    ],
)
def test_edges_are_those_of_the_functions(value: float, expected: float) -> None:
    assert np.array_equal(value, expected, equal_nan=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_nan_and_infinities_do_not_warn(name: str) -> None:
    with np.errstate(all="raise"):
        result = FUNCTIONS[name](np.array([np.nan, 1.0]))
    assert math.isnan(result[0]) and math.isfinite(result[1])


@given(st.floats(-700.0, 700.0))
def test_exp_is_within_one_unit_of_the_last_place(x: float) -> None:
    with localcontext() as context:
        context.prec = 50
        assert error_in_last_places(float(_arithmetic.exp(x)), Decimal(x).exp()) < 1.0


@given(st.floats(1e-300, 1e300))
def test_log_is_within_one_unit_of_the_last_place(x: float) -> None:
    with localcontext() as context:
        context.prec = 50
        reference = Decimal(x).ln()
        assert x == 1.0 or error_in_last_places(float(_arithmetic.log(x)), reference) < 1.0


@given(st.floats(1e-8, 1e8), st.floats(-35.0, 35.0))
def test_power_is_within_one_unit_of_the_last_place(x: float, y: float) -> None:
    with localcontext() as context:
        context.prec = 50
        reference = (Decimal(x).ln() * Decimal(y)).exp()
        assert error_in_last_places(float(_arithmetic.power(x, y)), reference) < 1.0


@given(st.floats(-6.0, 8.0))
def test_erf_erfc_and_the_normal_distribution_keep_relative_accuracy_in_the_tail(x: float) -> None:
    with localcontext() as context:
        context.prec = 60
        assert error_in_last_places(float(_arithmetic.erfc(x)), erfc_reference(Decimal(x))) < 3.0
        assert (
            error_in_last_places(float(_arithmetic.normal_cdf(x)), erfc_reference(-Decimal(x) / Decimal(2).sqrt()) / 2)
            < 4.0
        )
        if abs(x) > 1e-300:
            assert (
                error_in_last_places(float(_arithmetic.erf(x)), 1 - erfc_reference(Decimal(x))) < 1.0 or abs(x) < 1e-30
            )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_scalar_gives_the_bits_of_the_same_value_inside_an_array(name: str) -> None:
    x = arguments()[::997]
    assert [float(FUNCTIONS[name](value)) for value in x] == FUNCTIONS[name](x).tolist()


@pytest.mark.parametrize("disabled", ["every optional feature", "AVX512 only"])
def test_the_bits_do_not_depend_on_the_features_of_the_processor(disabled: str) -> None:
    found = np._core._multiarray_umath.__cpu_features__
    optional = np._core._multiarray_umath.__cpu_dispatch__
    names = [n for n in optional if found.get(n) and (disabled != "AVX512 only" or "512" in n or "V4" in n)]
    here = [str(Path(__file__).parent), str(TESTS)]
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(names)}
    run = subprocess.run(
        [sys.executable, "-c", WORKER, *here], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == digest()


def test_totals_add_first_to_last_and_give_back_no_rounding() -> None:
    """The built-in ``sum`` of Python 3.12 says 1.0 here, and that of 3.11 says 0.0."""
    assert ordered_sums(np.array([1e16, 1.0, -1e16])) == 0.0
    assert ordered_sums(np.array([[1e16, 1.0, -1e16], [1.0, 2.0, 3.0]])).tolist() == [0.0, 6.0]
    assert ordered_sums(np.zeros((2, 0))).tolist() == [0.0, 0.0]
