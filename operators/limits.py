"""``enforce_limits``: frames in, frames with their breaches out."""

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state, one
from seawall.operators.core.frames import Enforced, Frame
from seawall.operators.core.limit_report import peaks
from seawall.operators.core.limits import LimitsState


@operator
def enforce_limits(step_id: str, up: KeyedStream[Frame]) -> KeyedStream[Enforced]:
    """Compare every measure with its limits, once per frame; report each change of level.

    Limits arrive with the journal's ``configuration`` events, inside the frames.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Frames of ``aggregate_exposure``, keyed by shard or ``all``.

    Returns
    -------
    KeyedStream[Enforced]
        Each frame with its breaches, as values and as records of the ``breaches`` topic.
    """
    return keep_state("levels", up, _make, LimitsState.restore, one(LimitsState.step), look=_look)


def _make(frame: Frame) -> LimitsState:
    return LimitsState(frame.key, frame.partition)


def _look(state: LimitsState, enforced: Enforced) -> tuple[str, dict[str, float]]:
    return state.key, peaks(state, enforced.frame)
