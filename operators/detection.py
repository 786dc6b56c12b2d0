"""``detect``: anomaly scores and alerts for any keyed stream of numbers (a module of that name would hide it)."""

from collections.abc import Callable
from typing import Any

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state, one
from seawall.operators.core.detection.alarms import AlarmRule
from seawall.operators.core.detection.composite import ALERT_SCORE, UNUSUAL_SCORE, Composite
from seawall.operators.core.detection.gates import Gated
from seawall.operators.core.detection.samples import Detector
from seawall.operators.core.market.lone import Detected, LoneDetector

RULE = AlarmRule(level=ALERT_SCORE)


@operator
def detect(
    step_id: str,
    up: KeyedStream[Any],
    columns: tuple[str, ...],
    rule: AlarmRule = RULE,
    make: Callable[[], Detector] | None = None,
) -> KeyedStream[Detected]:
    """Score each sample of each key, then learn it; alert rarely, early and with a reason.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, (time_us, values))``: event time in microseconds or None, and one number per column. NaN, infinities and
        numbers whose square overflows are answered with the state ``invalid`` and leave no trace.
    columns
        Names of the values, for explanations.
    rule
        When a score is an alert.
    make
        Makes the detector of a new key; anything that keeps the protocol ``Detector``, such as ``RiverDetector`` around
        a River estimator. Default: the gated composite of `seawall detect`.

    Returns
    -------
    KeyedStream[Detected]
        One answer per sample, in order.

    Notes
    -----
    State: about 0.5 kB per column and 0.6 kB per key, however long it runs; nothing is ever evicted, so give it keys
    that are bounded. A restart continues bit for bit.

    Examples
    --------
    >>> import bytewax.operators as op
    >>> from bytewax.dataflow import Dataflow
    >>> from bytewax.testing import TestingSink, TestingSource, run_main
    >>> import seawall.operators as sw
    >>> rows = [("pump-1", (None, (20.0 + row % 7,))) for row in range(600)] + [("pump-1", (None, (90.0,)))]
    >>> found = []
    >>> flow = Dataflow("pumps")
    >>> samples = op.input("samples", flow, TestingSource(rows))
    >>> op.output("found", sw.detect("detect", samples, ("pressure",)), TestingSink(found))
    >>> run_main(flow)
    >>> [(key, answer.alert) for key, answer in found if answer.alert][-1][1].startswith("score 0.8")
    True
    """
    build = make or (lambda: Gated(Composite(columns), level=UNUSUAL_SCORE, hold=False))

    def begin(_: Any) -> LoneDetector:
        return LoneDetector(build(), rule)

    def restore(data: bytes) -> LoneDetector:
        return LoneDetector.restore(data, build, rule)

    return keep_state("key", up, begin, restore, one(LoneDetector.step))
