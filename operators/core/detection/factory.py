"""The models that the dataflows use: a composite per key, started from its asset class, and its challenger.

models = make_models(("return z", "spread", "depth"))
score = models.observe(ModelKey(Scope.INSTRUMENT, "BTC-PERP", "perpetual"), Sample(time_us, values))
changes = models.drain()
state = models.snapshot()                # and in the next process: make_models(same arguments).restore(state)
"""

from seawall.operators.core.detection.composite import UNUSUAL_SCORE, Composite
from seawall.operators.core.detection.forest import SEED
from seawall.operators.core.detection.kinds import Kind, Separate
from seawall.operators.core.detection.lives import TERMS, Terms
from seawall.operators.core.detection.members import ClassTrees
from seawall.operators.core.detection.registry import Parameters, Registry


def make_models(
    columns: tuple[str, ...],
    keys_max: int = 100_000,
    terms: Terms = TERMS,
    challenger: bool = False,
    seed: int = SEED,
) -> Registry:
    """Make the usual models of keys that all have ``columns``.

    Parameters
    ----------
    columns
        Names of a sample's values. They must mean the same for every key of an asset class: returns, basis points,
        ratios or logarithms, and never a price.
    keys_max
        Models held at a time, 3 kB each at five columns; the least recently used one goes.
    terms
        How long trials last.
    challenger
        Whether each key's composite is challenged by half-space trees that its asset class shares: 1 kB more per key
        and about twice the cost per sample.
    seed
        Of the trees.
    """

    def kinds() -> tuple[Kind, ...]:
        champion = Separate(lambda: Composite(columns), UNUSUAL_SCORE)
        return (champion, ClassTrees(columns, seed)) if challenger else (champion,)

    described = ("composite against class trees: " if challenger else "composite: ") + ", ".join(columns)
    return Registry(kinds, Parameters(keys_max, terms, seed, described))
