"""``publish_state``: plans in, the same plans out, those of the second operator with signed state to publish."""

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state
from seawall.operators.core.desired import DesiredState, Told, tell
from seawall.operators.core.firm import KEY
from seawall.operators.core.frames import Planned


@operator
def publish_state(step_id: str, up: KeyedStream[Planned]) -> KeyedStream[Planned]:
    """Add state documents and heartbeats to the plans of the key ``all``, once per second.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Plans of ``plan_mitigation``, keyed by shard or ``all``.

    Returns
    -------
    KeyedStream[Planned]
        For ``sign_commands``, which signs both.
    """
    branches = op.branch("whose", up, lambda item: item[0] != KEY)
    told = op.flat_map("tell", branches.trues, _tell)
    joined = op.merge("join", told, branches.falses)
    wide = keep_state("desired", joined, _make, DesiredState.restore, DesiredState.step)
    return op.merge("planned", branches.trues, wide)


def _make(_: Told | Planned) -> DesiredState:
    return DesiredState()


def _tell(item: tuple[str, Planned]) -> list[tuple[str, Told]]:
    told = tell(item[1])
    return [] if told is None else [(KEY, told)]
