"""``watch_counterparties``: frames in, frames with the alerts of accounts that behave unlike themselves out."""

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import StepLogic
from seawall.operators.core.conduct import ConductState
from seawall.operators.core.frames import Frame


@operator
def watch_counterparties(step_id: str, up: KeyedStream[Frame]) -> KeyedStream[Frame]:
    """Compare what every touched account does with what is usual for it; alert where it differs and why.

    ``aggregate_exposure`` has this step inside, between a shard's frames and the sums across shards: what it finds must
    reach both, and a playbook rule may address the firm. Its thresholds are ``[conduct]`` of the configuration, which
    arrives with the journal; ``enabled = false`` leaves every frame as it is.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Frames of shards, keyed by shard.

    Returns
    -------
    KeyedStream[Frame]
        The same frames; those with alerts hold their records (``alerts``, kind ``unusual_conduct``) and their news.
    """
    return op.stateful_batch("accounts", up, lambda resume: StepLogic(resume, _make, ConductState.restore, _step))


def _make(frame: Frame) -> ConductState:
    return ConductState(frame.partition)


def _step(state: ConductState, frame: Frame) -> list[Frame]:
    return [state.step(frame)]
