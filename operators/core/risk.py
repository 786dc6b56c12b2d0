"""Risk in one piece: the steps of all operators in a row, without an engine.

The Bytewax operators run the same states one by one; replay, tests, benchmarks and other engines run them here. Same
slices, same bytes.
"""

import hashlib
from collections.abc import Iterator
from typing import Protocol

from seawall.operators.core.audit import AuditState
from seawall.operators.core.conduct import ConductState
from seawall.operators.core.desired import DesiredState, tell
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.firm import KEY, FirmState
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.wide import WideForesightState
from seawall.operators.core.frames import Audited, Frame, Planned, Signed
from seawall.operators.core.limits import LimitsState
from seawall.operators.core.mitigation import MitigationState
from seawall.schemas.evidence.documents import COMMAND, state_type
from seawall.schemas.records import Record
from seawall.schemas.slices import decode_slice


class CommandSigner(Protocol):
    """Adds a signature to a command or state document; ``topic`` and ``partition`` tell where it will stand."""

    def sign(self, topic: str, payload_type: str, partition: int, record: Record) -> Record:
        """Return the record with its ``dsse`` envelope."""


class Unsigned:
    """Leaves commands unsigned: for replay, which compares everything but signatures."""

    def sign(self, topic: str, payload_type: str, partition: int, record: Record) -> Record:
        """Return the record as it is."""
        return record


def sign_commands(planned: Planned, signer: CommandSigner) -> Signed:
    """Sign the commands and state documents of one plan."""
    partition = planned.enforced.frame.partition
    commands = [signer.sign("commands", COMMAND, partition, command) for command in planned.commands]
    state = [signer.sign("state", state_type(record.value), partition, record) for record in planned.state]
    return Signed(planned, commands, state)


class Decider:
    """What follows a frame, for one key: limits, mitigation, signature, audit."""

    def __init__(self, key: str, partition: int, signer: CommandSigner) -> None:
        self.limits = LimitsState(key, partition)
        self.mitigation = MitigationState(key, partition)
        self.audit = AuditState(key, partition)
        self._signer = signer

    def plan(self, frame: Frame) -> Planned:
        """Return what is decided for one frame."""
        return self.mitigation.step(self.limits.step(frame))

    def finish(self, planned: Planned) -> Audited:
        """Return all records of one plan."""
        return self.audit.step(sign_commands(planned, self._signer))

    def step(self, frame: Frame) -> Audited:
        """Return all records of one frame, without state documents."""
        return self.finish(self.plan(frame))


class Risk:
    """All shards and the second operator: ``step(value) -> records``."""

    def __init__(self, shards: int, signer: CommandSigner | None = None) -> None:
        signer = signer or Unsigned()
        self._exposure = [ExposureState(shard) for shard in range(shards)]
        self._conduct = [ConductState(shard) for shard in range(shards)]
        self._foresight = [ForesightState(shard) for shard in range(shards)]
        self._deciders = [Decider(str(shard), shard, signer) for shard in range(shards)]
        self._firm, self._systemic, self._desired = FirmState(), WideForesightState(shards), DesiredState()
        self._firm_decider = Decider(KEY, shards, signer)

    def step(self, value: bytes) -> Iterator[Audited]:
        """Apply one journal value; yield the records of its slice, and of the seconds that it completes."""
        piece = decode_slice(value)
        frame = self._exposure[piece.shard].step(piece, hashlib.sha256(value).hexdigest())
        frame = self._foresight[piece.shard].step(self._conduct[piece.shard].step(frame))
        planned = self._deciders[piece.shard].plan(frame)
        yield self._deciders[piece.shard].finish(planned)
        told = tell(planned)
        complete = [] if told is None else self._desired.step(told)
        for wide in self._firm.step(frame.partial) if frame.partial is not None else ():
            complete += self._desired.step(self._firm_decider.plan(self._systemic.step(wide)))
        yield from map(self._firm_decider.finish, complete)
