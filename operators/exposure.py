"""``aggregate_exposure``: slices of the journal in, frames of measures out, one per slice and one per second."""

import hashlib
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state
from seawall.operators.conduct import watch_counterparties
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.firm import KEY, FirmState
from seawall.operators.core.frames import Frame
from seawall.operators.foresight import forecast_breaches, forecast_systemic
from seawall.schemas.slices import decode_slice


@operator
def aggregate_exposure(step_id: str, up: KeyedStream[bytes]) -> KeyedStream[Frame]:
    """Aggregate slices into exposures of accounts, netting sets, counterparties and, once per second, of the firm.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, value)``: the records of the ``journal`` topic, in order per shard; any key that is one per shard.

    Returns
    -------
    KeyedStream[Frame]
        One frame per slice, keyed by its shard, and one per second that all shards have passed, keyed ``all``. A frame
        holds the tables of measures and the records of ``exposures``, ``alerts`` and ``rejects``.

    Raises
    ------
    InvariantError
        A slice is missing or comes twice: the state and the journal do not join.
    VersionMismatch
        Another version of Seawall decides on a slice.
    """
    slices = keep_state("shard", up, _make, ExposureState.restore, _step)
    frames = forecast_breaches("forecast", watch_counterparties("conduct", slices))
    partials = op.flat_map("partial", frames, _partial)
    wide = keep_state("firm", partials, _firm, FirmState.restore, FirmState.step)
    return op.merge("frames", frames, forecast_systemic("systemic", wide))


def _make(value: bytes) -> ExposureState:
    return ExposureState(decode_slice(value).shard)


def _step(state: ExposureState, value: bytes) -> list[Frame]:
    piece = decode_slice(value)
    state.check_version(piece)
    return [state.step(piece, hashlib.sha256(value).hexdigest())]


def _partial(item: tuple[str, Frame]) -> list[tuple[str, dict[str, Any]]]:
    return [] if item[1].partial is None else [(KEY, item[1].partial)]


def _firm(_: dict[str, Any]) -> FirmState:
    return FirmState()
