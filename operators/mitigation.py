"""``plan_mitigation``: breaches and news in, commands out, by the playbook."""

from typing import Any

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state, one
from seawall.operators.core.frames import Enforced, Planned
from seawall.operators.core.mitigation import MitigationState


@operator
def plan_mitigation(
    step_id: str, up: KeyedStream[Enforced], playbook: dict[str, Any] | None = None
) -> KeyedStream[Planned]:
    """Turn breaches, venue states, notices and alerts into commands.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Enforced frames, keyed by shard or ``all``.
    playbook
        ``{"version", "sha256", "rules"}`` to use instead of the one in the journal, for trying a playbook out; what it
        decides is then no longer a function of the journal alone and ``replay`` will differ.

    Returns
    -------
    KeyedStream[Planned]
        Each frame with its commands: payload bytes, targets and ids, not signed yet.
    """

    def make(enforced: Enforced) -> MitigationState:
        return MitigationState(enforced.frame.key, enforced.frame.partition, playbook)

    def restore(data: bytes) -> MitigationState:
        return MitigationState.restore(data, playbook)

    return keep_state("plan", up, make, restore, one(MitigationState.step))
