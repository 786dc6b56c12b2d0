"""Risk in one piece: the steps of all operators in a row, without an engine.

The Bytewax operators run the same states one by one; replay, tests, benchmarks and other engines run them here. Same
slices, same bytes.
"""

import hashlib
from collections.abc import Iterator
from typing import Protocol

from seawall.operators.core.audit import AuditState
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.firm import KEY, FirmState
from seawall.operators.core.frames import Audited, Frame, Planned, Signed
from seawall.operators.core.limits import LimitsState
from seawall.operators.core.mitigation import MitigationState
from seawall.schemas.records import Record
from seawall.schemas.slices import decode_slice


class CommandSigner(Protocol):
    """Adds a signature to a command; ``partition`` tells where its record will stand."""

    def sign(self, partition: int, record: Record) -> Record:
        """Return the record with its ``dsse`` envelope."""


class Unsigned:
    """Leaves commands unsigned: for replay, which compares everything but signatures."""

    def sign(self, partition: int, record: Record) -> Record:
        """Return the record as it is."""
        return record


def sign_commands(planned: Planned, signer: CommandSigner) -> Signed:
    """Sign the commands of one plan."""
    partition = planned.enforced.frame.partition
    return Signed(planned, [signer.sign(partition, command) for command in planned.commands])


class Decider:
    """What follows a frame, for one key: limits, mitigation, signature, audit."""

    def __init__(self, key: str, partition: int, signer: CommandSigner) -> None:
        self.limits = LimitsState(key, partition)
        self.mitigation = MitigationState(key, partition)
        self.audit = AuditState(key, partition)
        self._signer = signer

    def step(self, frame: Frame) -> Audited:
        """Return all records of one frame."""
        return self.audit.step(sign_commands(self.mitigation.step(self.limits.step(frame)), self._signer))


class Risk:
    """All shards and the second operator: ``step(value) -> records``."""

    def __init__(self, shards: int, signer: CommandSigner | None = None) -> None:
        signer = signer or Unsigned()
        self._exposure = [ExposureState(shard) for shard in range(shards)]
        self._deciders = [Decider(str(shard), shard, signer) for shard in range(shards)]
        self._firm = FirmState()
        self._firm_decider = Decider(KEY, shards, signer)

    def step(self, value: bytes) -> Iterator[Audited]:
        """Apply one journal value; yield the records of its slice, and of the seconds that it completes."""
        piece = decode_slice(value)
        frame = self._exposure[piece.shard].step(piece, hashlib.sha256(value).hexdigest())
        yield self._deciders[piece.shard].step(frame)
        if frame.partial is not None:
            for wide in self._firm.step(frame.partial):
                yield self._firm_decider.step(wide)
