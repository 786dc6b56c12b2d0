"""``watch_counterparties``: frames in, frames with the alerts of accounts that behave unlike themselves out."""

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state, one
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
    return keep_state("accounts", up, _make, ConductState.restore, one(ConductState.step))


def _make(frame: Frame) -> ConductState:
    return ConductState(frame.partition)
