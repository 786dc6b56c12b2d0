"""``watch_market``: raw venue records by instrument group in, signals out, one per group and interval."""

from collections.abc import Iterable
from typing import Any

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state
from seawall.operators.core.market.group import GroupState
from seawall.operators.core.market.models import Factory
from seawall.schemas.markets import MarketTerms
from seawall.schemas.records import Record


@operator
def watch_market(
    step_id: str, up: KeyedStream[Any], terms: MarketTerms, make_models: Factory | None = None
) -> KeyedStream[list[Record]]:
    """Mark, score and judge instruments, group by group.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, (group, item))``: what a ``Cutter`` gives, in order per group; any key that is one per group.
    terms
        How to cut, score and judge.
    make_models
        Makes the models of a family of features, such as ``RegisteredModels`` around any River estimator
        (``seawall.operators.core.market.registered``); composites with lives where it is None.

    Returns
    -------
    KeyedStream[list[Record]]
        The records of the topic ``signals``, per interval and group; nothing where nothing happened.
    """

    def make(value: tuple[int, Any]) -> GroupState:
        return GroupState(value[0], terms, make_models)

    def restore(data: bytes) -> GroupState:
        return GroupState.restore(data, terms, make_models)

    return keep_state("group", up, make, restore, _step)


def _step(state: GroupState, value: tuple[int, Any]) -> Iterable[list[Record]]:
    records = state.step(value[1])
    return [records] if records else []
