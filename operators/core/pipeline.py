"""Pipeline: the steps of all operators in a row, without an engine.

`Pipeline` runs all shards and the firm in one piece: replay, tests and benchmarks use it. `ShardPipeline` and
`FirmPipeline` keep one key's state each, for an engine that carries bytes from step to step. The Bytewax operators run
the same states one by one. Same slices, same bytes.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import msgspec

from seawall.operators.core.audit import AuditState
from seawall.operators.core.base import Audited, Frame, Planned, Signed, pack, unpack
from seawall.operators.core.detection import AccountBehaviourState
from seawall.operators.core.forecasts import FirmForecastState, ForecastState
from seawall.operators.core.limits import LimitsState
from seawall.operators.core.mitigation import DesiredState, MitigationState, ShardCommands, shard_commands
from seawall.operators.core.portfolio import FIRM_KEY, ExposureState, FirmState
from seawall.schemas.errors import SnapshotError, invariant
from seawall.schemas.evidence import COMMAND, state_type
from seawall.schemas.records import Record, decode_slice

# Risk in one piece: the steps of all operators in a row, without an engine.
#
# The Bytewax operators run the same states one by one; replay, tests, benchmarks and other engines run them here. Same
# slices, same bytes.


class CommandSigner(Protocol):
    """Adds a signature to a command or state document; ``topic`` and ``partition`` tell where it will stand."""

    def sign(self, topic: str, payload_type: str, partition: int, record: Record) -> Record:
        """Return the record with its ``dsse`` envelope."""


class UnsignedCommands:
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


class Pipeline:
    """All shards and the second operator: ``step(value) -> records``."""

    def __init__(self, shards: int, signer: CommandSigner | None = None) -> None:
        signer = signer or UnsignedCommands()
        self._exposure = [ExposureState(shard) for shard in range(shards)]
        self._conduct = [AccountBehaviourState(shard) for shard in range(shards)]
        self._foresight = [ForecastState(shard) for shard in range(shards)]
        self._deciders = [Decider(str(shard), shard, signer) for shard in range(shards)]
        self._firm, self._systemic, self._desired = FirmState(), FirmForecastState(shards), DesiredState()
        self._firm_decider = Decider(FIRM_KEY, shards, signer)

    def step(self, value: bytes) -> Iterator[Audited]:
        """Apply one journal value; yield the records of its slice, and of the seconds that it completes."""
        piece = decode_slice(value)
        frame = self._exposure[piece.shard].step(piece, hashlib.sha256(value).hexdigest())
        frame = self._foresight[piece.shard].step(self._conduct[piece.shard].step(frame))
        planned = self._deciders[piece.shard].plan(frame)
        yield self._deciders[piece.shard].finish(planned)
        told = shard_commands(planned)
        complete = [] if told is None else self._desired.step(told)
        for wide in self._firm.step(frame.partial) if frame.partial is not None else ():
            complete += self._desired.step(self._firm_decider.plan(self._systemic.step(wide)))
        yield from map(self._firm_decider.finish, complete)


# Risk as two steps that each keep one key's state: what an engine needs that carries bytes from step to step.
#
# `ShardPipeline` takes the slices of one shard; what it has to tell the second operator it gives as bytes, for
# `FirmPipeline`. The states inside are those of the Bytewax operators, one for one, so that either engine can go on
# from the other's.
#
# Each message names the one before it, so a second operator that lost its state, or is behind, stops instead of adding
# up half a second.

SHARD, FIRM, MESSAGE = "shard-risk/1", "firm-risk/1", "shard-told/1"


class StepResult(NamedTuple):
    """What one value gave: items for the sink, a message for the next step or none, whether a bounded run ends here."""

    items: list[Any]
    message: bytes | None
    end: bool


class _SlicePosition(msgspec.Struct):
    """Of a journal value, where it belongs."""

    seq: int


class ShardPipeline:
    """The risk of one shard: ``step(value) -> StepResult``, values being journal records in order.

    Parameters
    ----------
    shard
        Whose slices come.
    signer
        Signs commands; never part of the state.
    """

    def __init__(self, shard: int, signer: CommandSigner) -> None:
        self.exposure, self.conduct, self.foresight = (
            ExposureState(shard),
            AccountBehaviourState(shard),
            ForecastState(shard),
        )
        self.decider = Decider(str(shard), shard, signer)
        self.told = -1  # the last slice of which the second operator was told

    @property
    def seq(self) -> int:
        """The last slice taken, -1 before the first."""
        return self.exposure.seq

    @staticmethod
    def place(value: bytes) -> int:
        """Return the number of a journal value in its shard."""
        return msgspec.json.decode(value, type=_SlicePosition).seq

    def step(self, value: bytes) -> StepResult:
        """Apply one journal value.

        Raises
        ------
        InvariantError
            It is not the next one of this shard.
        VersionMismatch
            Another version of Seawall decides there.
        """
        piece = decode_slice(value)
        self.exposure.check_version(piece)
        frame = self.exposure.step(piece, hashlib.sha256(value).hexdigest())
        frame = self.foresight.step(self.conduct.step(frame))
        planned = self.decider.plan(frame)
        audited, told = self.decider.finish(planned), shard_commands(planned)
        if told is None and frame.partial is None:
            return StepResult([audited], None, frame.end)
        message = {"shard": frame.partition, "seq": frame.seq, "after": self.told, "told": told and list(told)}
        self.told = frame.seq
        return StepResult([audited], pack(MESSAGE, {**message, "partial": frame.partial}), frame.end)

    def parts(self) -> dict[str, bytes]:
        """Return the state of each operator inside, by the names of the Bytewax steps."""
        return {
            "shard": self.exposure.snapshot(),
            "conduct": self.conduct.snapshot(),
            "forecast": self.foresight.snapshot(),
            **_decider_parts(self.decider),
        }

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pack(SHARD, {"told": self.told, "parts": self.parts()})

    @classmethod
    def of(cls, parts: dict[str, bytes], told: int, signer: CommandSigner) -> "ShardPipeline":
        """Return the state that the operators inside make up."""
        exposure = ExposureState.restore(parts["shard"])
        self = cls(exposure.shard, signer)
        self.exposure, self.told = exposure, told
        self.conduct = AccountBehaviourState.restore(parts["conduct"])
        self.foresight = ForecastState.restore(parts["forecast"])
        _restore_decider(self.decider, parts)
        return self

    @classmethod
    def restore(cls, data: bytes, signer: CommandSigner) -> "ShardPipeline":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SHARD, data)
        return cls.of(state["parts"], state["told"], signer)


class FirmPipeline:
    """The firm: ``step(message) -> StepResult``, messages being those of `ShardPipeline`, in order per shard.

    Parameters
    ----------
    shards
        Their number, which is also the partition that this operator writes.
    signer
        Signs commands and state documents; never part of the state.
    """

    def __init__(self, shards: int, signer: CommandSigner) -> None:
        self.firm, self.systemic, self.desired = FirmState(), FirmForecastState(shards), DesiredState()
        self.decider = Decider(FIRM_KEY, shards, signer)
        self.heard = [-1] * shards  # by shard: the slice of the last message taken

    @property
    def seq(self) -> int:
        """The last second evaluated, -1 before the first."""
        return self.firm.seq

    def step(self, value: bytes) -> StepResult:
        """Take one message of a shard; what comes out are the records of the seconds that it completes.

        Raises
        ------
        SnapshotError
            Messages of the shard are missing before this one: the state is not the one that belongs here.
        """
        message = unpack(MESSAGE, value)
        shard, seq = message["shard"], message["seq"]
        if message["after"] != self.heard[shard]:
            text = f"the second operator stands at slice {self.heard[shard]} of shard {shard}, which goes on at {seq}"
            raise SnapshotError(f"{text} after {message['after']}: their states do not join")
        self.heard[shard] = seq
        complete = self.desired.step(ShardCommands(*message["told"])) if message["told"] is not None else []
        partial = message["partial"]
        for wide in self.firm.step(partial) if partial is not None else ():
            complete += self.desired.step(self.decider.plan(self.systemic.step(wide)))
        items = [self.decider.finish(planned) for planned in complete]
        return StepResult(items, None, any(planned.enforced.frame.end for planned in complete))

    def parts(self) -> dict[str, bytes]:
        """Return the state of each operator inside, by the names of the Bytewax steps."""
        return {
            "firm": self.firm.snapshot(),
            "systemic": self.systemic.snapshot(),
            "desired": self.desired.snapshot(),
            **_decider_parts(self.decider),
        }

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pack(FIRM, {"heard": self.heard, "parts": self.parts()})

    @classmethod
    def of(cls, parts: dict[str, bytes], heard: list[int], signer: CommandSigner) -> "FirmPipeline":
        """Return the state that the operators inside make up."""
        self = cls(len(heard), signer)
        self.heard = list(heard)
        self.firm, self.desired = FirmState.restore(parts["firm"]), DesiredState.restore(parts["desired"])
        self.systemic = FirmForecastState.restore(parts["systemic"])
        _restore_decider(self.decider, parts)
        return self

    @classmethod
    def restore(cls, data: bytes, signer: CommandSigner) -> "FirmPipeline":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(FIRM, data)
        return cls.of(state["parts"], state["heard"], signer)


def check_aligned(shards: list[ShardPipeline], firm: FirmPipeline) -> None:
    """Check that states of all shards and of the second operator are of one moment.

    Raises
    ------
    InvariantError
        The second operator has heard less or more of a shard than the shard has told.
    """
    told = [shard.told for shard in shards]
    invariant(
        told == firm.heard, f"the shards have told up to {told}, the second operator has heard up to {firm.heard}"
    )


def _decider_parts(decider: Decider) -> dict[str, bytes]:
    return {
        "limits": decider.limits.snapshot(),
        "mitigation": decider.mitigation.snapshot(),
        "audit": decider.audit.snapshot(),
    }


def _restore_decider(decider: Decider, parts: dict[str, bytes]) -> None:
    decider.limits = type(decider.limits).restore(parts["limits"])
    decider.mitigation = type(decider.mitigation).restore(parts["mitigation"])
    decider.audit = type(decider.audit).restore(parts["audit"])
