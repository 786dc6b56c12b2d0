"""``seal_log``: audit records in, the Merkle log over them out: tiles, and checkpoints to sign."""

from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from seawall.operators._coat import logged
from seawall.operators.core.firm import KEY
from seawall.operators.core.sealing import Sealed, SealState, origin_of


class SealLogic(StatefulBatchLogic[bytes, Sealed, bytes]):
    """Runs the sealer of one partition, a batch at a time; the first record tells which partition it is."""

    def __init__(self, resume: bytes | None, issuer: str, environment: str, shards: int) -> None:
        self._state = None if resume is None else logged(SealState.restore, resume)
        self._issuer, self._environment, self._shards = issuer, environment, shards

    def on_batch(self, values: list[bytes]) -> tuple[list[Sealed], bool]:
        """Seal a batch; nothing comes out where it completed neither a tile nor a second."""
        if self._state is None:
            self._state = logged(self._begin, values[0])
        sealed = logged(self._state.step, values)
        return [sealed] if sealed.files or sealed.checkpoints else [], StatefulBatchLogic.RETAIN

    def _begin(self, value: bytes) -> SealState:
        shard: Any = msgspec.json.decode(value)["shard"]
        partition = self._shards if shard == KEY else int(shard)
        return SealState(origin_of(self._issuer, self._environment, partition), partition)

    def snapshot(self) -> bytes:
        """Return the state's own bytes."""
        assert self._state is not None
        data: bytes = self._state.snapshot()
        return data


@operator
def seal_log(step_id: str, up: KeyedStream[bytes], issuer: str, environment: str, shards: int) -> KeyedStream[Sealed]:
    """Build the RFC 6962 log over each partition of ``audit``.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, value)``: the records of the ``audit`` topic, in order per partition; one key per partition.
    issuer, environment
        They name the logs (`seawall.operators.core.sealing.origin_of`).
    shards
        The number of shards; the second operator's audit is the partition after theirs.

    Returns
    -------
    KeyedStream[Sealed]
        Tiles that became full and checkpoints that are due, for ``seawall.dataflows.seal.LogSink``.

    Raises
    ------
    Divergence
        A record is no audit record.
    """
    return op.stateful_batch("log", up, lambda resume: SealLogic(resume, issuer, environment, shards))
