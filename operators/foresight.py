"""``forecast_breaches``: frames in, frames with the probabilities that accounts will break their margin out."""

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state, one
from seawall.operators.core.foresight.foresight import ForesightState
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
