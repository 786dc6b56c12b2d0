"""The models that the dataflows use: a composite per key, started from its asset class.

models = make_models(("return z", "spread", "depth"))
score = models.observe(ModelKey(Scope.INSTRUMENT, "BTC-PERP", "perpetual"), Sample(time_us, values))
state = models.snapshot()                # and in the next process: make_models(same arguments).restore(state)
"""

from seawall.operators.core.detection.composite import UNUSUAL_SCORE, Composite
from seawall.operators.core.detection.kinds import Separate
from seawall.operators.core.detection.lives import TERMS, Terms
from seawall.operators.core.detection.registry import Parameters, Registry


def make_models(columns: tuple[str, ...], keys_max: int = 100_000, terms: Terms = TERMS) -> Registry:
    """Make the usual models of keys that all have ``columns``.

    Parameters
    ----------
    columns
        Names of a sample's values. They must mean the same for every key of an asset class: returns, basis points,
        ratios or logarithms, and never a price.
    keys_max
        Models held at a time, 3 kB each; the least recently used one goes.
    terms
        How long trials last.
    """

    def kinds() -> tuple[Separate, ...]:
        return (Separate(lambda: Composite(columns), UNUSUAL_SCORE),)

    return Registry(kinds, Parameters(keys_max, terms, description="composite: " + ", ".join(columns)))
