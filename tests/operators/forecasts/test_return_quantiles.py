"""Quantiles of returns against EWMA(0.94) with Student-t(4) tails, through a real crash."""

import numpy as np

from seawall_testing.bench import benchmark
from seawall_testing.reference_data import shared


def test_the_quantiles_of_march_2020_lose_less_than_those_of_ewma_at_every_level_and_cover_what_they_say() -> None:
    module = benchmark("forecasts")
    bars = module.bench.read_grid(shared("data", "crash_mar_2020"), "*SPOT-1h*.gz", 3600)
    outcomes = module.forecast(bars, (3600,))[3600]
    returns, known = (np.array([getattr(one, field) for one in outcomes]) for field in ("returns", "known"))
    ours = np.array([one.quantiles for one in outcomes]).transpose(1, 0, 2)
    rival = np.sqrt(module.rivals(returns, known)[0])[None] * np.array(module.STUDENT_4_QUANTILES)[:, None, None]
    assert (module.pinball(returns[known], ours[:, known]) < module.pinball(returns[known], rival[:, known])).all()
    coverage = (returns <= ours)[:, known].mean(axis=1)
    assert (np.abs(coverage - np.array(module.QUANTILE_LEVELS)) <= np.array([0.008, 0.015, 0.015, 0.008])).all()
