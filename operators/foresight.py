"""``forecast_breaches`` and ``forecast_systemic``: frames in, frames with what may come out.

The first forecasts the accounts of a shard, the second, behind the sums of all shards, what a fall would set off.
"""

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state, one
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.wide import WideForesightState
from seawall.operators.core.frames import Frame


@operator
def forecast_breaches(step_id: str, up: KeyedStream[Frame]) -> KeyedStream[Frame]:
    """Forecast for every account how likely it comes to its margin level within a minute, ten, an hour and a day.

    ``aggregate_exposure`` has this step inside. It does nothing unless the journal's configuration has ``[forecasts]
    enabled = true``; then frames carry their book once a second, and it adds records of the topic ``forecasts`` and,
    where limits are on them, measures.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Frames of shards, keyed by shard.

    Returns
    -------
    KeyedStream[Frame]
        The same frames, those with forecasts with their records and measures.
    """
    return keep_state("books", up, _make, ForesightState.restore, one(ForesightState.step))


def _make(frame: Frame) -> ForesightState:
    return ForesightState(frame.partition)


@operator
def forecast_systemic(step_id: str, up: KeyedStream[Frame]) -> KeyedStream[Frame]:
    """Forecast once a minute of event time what moves of prices would force all books to, and what would follow.

    ``aggregate_exposure`` has this step inside. It does nothing unless the journal's configuration has ``[forecasts]
    enabled = true``.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Frames across shards, keyed ``all``, of frames that have passed ``forecast_breaches``.

    Returns
    -------
    KeyedStream[Frame]
        The same frames with measures of the firm and of underlyings, once a minute with records of ``forecasts``.
    """
    return keep_state("firm", up, _make_wide, WideForesightState.restore, one(WideForesightState.step))


def _make_wide(frame: Frame) -> WideForesightState:
    return WideForesightState(frame.partition)
