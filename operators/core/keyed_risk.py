"""Risk as two steps that each keep one key's state: what an engine needs that carries bytes from step to step.

`ShardRisk` takes the slices of one shard; what it has to tell the second operator it gives as bytes, for `FirmRisk`.
The states inside are those of the Bytewax operators, one for one, so that either engine can go on from the other's.

Each message names the one before it, so a second operator that lost its state, or is behind, stops instead of adding up
half a second.
"""

import hashlib
from typing import Any, NamedTuple

import msgspec

from seawall.operators.core.conduct import ConductState
from seawall.operators.core.desired import DesiredState, Told, tell
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.firm import KEY, FirmState
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.wide import WideForesightState
from seawall.operators.core.risk import CommandSigner, Decider
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.errors import SnapshotError, invariant
from seawall.schemas.slices import decode_slice

SHARD, FIRM, MESSAGE = "shard-risk/1", "firm-risk/1", "shard-told/1"


class Taken(NamedTuple):
    """What one value gave: items for the sink, a message for the next step or none, whether a bounded run ends here."""

    items: list[Any]
    message: bytes | None
    end: bool


class _Place(msgspec.Struct):
    """Of a journal value, where it belongs."""

    seq: int


class ShardRisk:
    """The risk of one shard: ``step(value) -> Taken``, values being journal records in order.

    Parameters
    ----------
    shard
        Whose slices come.
    signer
        Signs commands; never part of the state.
    """

    def __init__(self, shard: int, signer: CommandSigner) -> None:
        self.exposure, self.conduct, self.foresight = ExposureState(shard), ConductState(shard), ForesightState(shard)
        self.decider = Decider(str(shard), shard, signer)
        self.told = -1  # the last slice of which the second operator was told

    @property
    def seq(self) -> int:
        """The last slice taken, -1 before the first."""
        return self.exposure.seq

    @staticmethod
    def place(value: bytes) -> int:
        """Return the number of a journal value in its shard."""
        return msgspec.json.decode(value, type=_Place).seq

    def step(self, value: bytes) -> Taken:
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
        audited, told = self.decider.finish(planned), tell(planned)
        if told is None and frame.partial is None:
            return Taken([audited], None, frame.end)
        message = {"shard": frame.partition, "seq": frame.seq, "after": self.told, "told": told and list(told)}
        self.told = frame.seq
        return Taken([audited], pack(MESSAGE, {**message, "partial": frame.partial}), frame.end)

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
    def of(cls, parts: dict[str, bytes], told: int, signer: CommandSigner) -> "ShardRisk":
        """Return the state that the operators inside make up."""
        exposure = ExposureState.restore(parts["shard"])
        self = cls(exposure.shard, signer)
        self.exposure, self.told = exposure, told
        self.conduct = ConductState.restore(parts["conduct"])
        self.foresight = ForesightState.restore(parts["forecast"])
        _restore_decider(self.decider, parts)
        return self

    @classmethod
    def restore(cls, data: bytes, signer: CommandSigner) -> "ShardRisk":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SHARD, data)
        return cls.of(state["parts"], state["told"], signer)


class FirmRisk:
    """The second operator: ``step(message) -> Taken``, messages being those of `ShardRisk`, in order per shard.

    Parameters
    ----------
    shards
        Their number, which is also the partition that this operator writes.
    signer
        Signs commands and state documents; never part of the state.
    """

    def __init__(self, shards: int, signer: CommandSigner) -> None:
        self.firm, self.systemic, self.desired = FirmState(), WideForesightState(shards), DesiredState()
        self.decider = Decider(KEY, shards, signer)
        self.heard = [-1] * shards  # by shard: the slice of the last message taken

    @property
    def seq(self) -> int:
        """The last second evaluated, -1 before the first."""
        return self.firm.seq

    def step(self, value: bytes) -> Taken:
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
        complete = self.desired.step(Told(*message["told"])) if message["told"] is not None else []
        partial = message["partial"]
        for wide in self.firm.step(partial) if partial is not None else ():
            complete += self.desired.step(self.decider.plan(self.systemic.step(wide)))
        items = [self.decider.finish(planned) for planned in complete]
        return Taken(items, None, any(planned.enforced.frame.end for planned in complete))

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
    def of(cls, parts: dict[str, bytes], heard: list[int], signer: CommandSigner) -> "FirmRisk":
        """Return the state that the operators inside make up."""
        self = cls(len(heard), signer)
        self.heard = list(heard)
        self.firm, self.desired = FirmState.restore(parts["firm"]), DesiredState.restore(parts["desired"])
        self.systemic = WideForesightState.restore(parts["systemic"])
        _restore_decider(self.decider, parts)
        return self

    @classmethod
    def restore(cls, data: bytes, signer: CommandSigner) -> "FirmRisk":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(FIRM, data)
        return cls.of(state["parts"], state["heard"], signer)


def check_join(shards: list[ShardRisk], firm: FirmRisk) -> None:
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
