"""Pipeline: the steps of all operators in a row, composed once; every engine and tool hosts it.

`ShardPipeline` takes the slices of one shard, `FirmPipeline` the summaries that shards send to the firm. `Pipeline` is
both in one piece, for whoever runs a journal without an engine: replay, the lab, reports, tests. Bytewax and Flink host
the two as keyed steps. Each message names the one before it, so a firm that lost its state, or is behind, stops instead
of adding up half a second. Same slices, same bytes.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec
import orjson

from seawall.operators.core.audit import AuditState
from seawall.operators.core.base import (
    NO_BREACHES,
    Breaches,
    MeasuredSlice,
    Outputs,
    ShardSummary,
    add_outputs,
    decode_part,
    pack,
    unpack,
)
from seawall.operators.core.detection import AccountBehaviourState
from seawall.operators.core.forecasts import FirmForecastState, ForecastState
from seawall.operators.core.limits import LEVELS, LimitsState
from seawall.operators.core.mitigation import DesiredState, MitigationState, ShardCommands, shard_commands
from seawall.operators.core.portfolio import FIRM_KEY, ExposureState, FirmState
from seawall.schemas.errors import SnapshotError, invariant
from seawall.schemas.evidence import COMMAND, state_type
from seawall.schemas.records import Record, Slice, decides_alike, decode_slice

SHARD, FIRM, MESSAGE = "shard-risk/1", "firm-risk/1", "shard-told/1"
StageStep = Callable[..., Any]


class CommandSigner(Protocol):
    """Adds a signature to a command or state document; ``topic`` and ``partition`` tell where it will stand."""

    def sign(self, topic: str, payload_type: str, partition: int, record: Record) -> Record:
        """Return the record with its ``dsse`` envelope."""


class UnsignedCommands:
    """Leaves commands unsigned: for replay, which compares everything but signatures."""

    def sign(self, topic: str, payload_type: str, partition: int, record: Record) -> Record:
        """Return the record as it is."""
        return record


def sign_commands(outputs: Outputs, signer: CommandSigner) -> Outputs:
    """Sign the commands and state documents of one slice or second."""
    partition, signed = outputs.moment.partition, dict(outputs.records)
    if "commands" in signed:
        signed["commands"] = [signer.sign("commands", COMMAND, partition, command) for command in signed["commands"]]
    if "state" in signed:
        state = signed["state"]
        signed["state"] = [signer.sign("state", state_type(record.value), partition, record) for record in state]
    return outputs._replace(records=signed)


class StageObserver(Protocol):
    """Watches the stages inside a pipeline for its host. The core reads no clock; the observer of a host may."""

    def watch(self, stage: str, state: Any, step: StageStep) -> StageStep:
        """Return what is called in place of a stage's step."""

    def snapshot(self, stage: str, state: Any) -> bytes:
        """Return ``state.snapshot()``."""


class NoObserver:
    """Watches nothing."""

    def watch(self, stage: str, state: Any, step: StageStep) -> StageStep:
        """Return the step itself."""
        return step

    def snapshot(self, stage: str, state: Any) -> bytes:
        """Return the snapshot."""
        data: bytes = state.snapshot()
        return data


class _EarlierDecisions(Protocol):
    """Decisions of an earlier version, in order of slices and seconds."""

    def take(self, partition: int, seq: int) -> dict[str, list[Record]]:
        """Return breaches and commands of the next slice or second of a partition."""

    def end(self, partition: int) -> tuple[dict[str, int], str, str | None]:
        """Return how many records by topic the last one left, and the hashes of its last audit record and document."""


class Decider:
    """What follows measures, for one key: limits, mitigation, signature, audit. A stage without work is not entered."""

    def __init__(self, key: str, partition: int, signer: CommandSigner, observer: StageObserver | None = None) -> None:
        self.key = key
        self.limits = LimitsState(key, partition)
        self.mitigation = MitigationState(key, partition)
        self.audit = AuditState(key, partition)
        self._signer, self._observer = signer, observer or NoObserver()
        self.earlier: _EarlierDecisions | None = None  # while slices come that an earlier version decided
        self._levels: dict[tuple[str, str], int] = {}  # of its limits, by limit and scope, as it told them last
        self._bind()

    def _bind(self) -> None:
        watch = self._observer.watch
        self._enforce = watch("limits", self.limits, self.limits.step)
        self._plan = watch("mitigation", self.mitigation, self.mitigation.step)
        self._sign = watch("sign", None, sign_commands)
        self._record = watch("audit", self.audit, self.audit.step)

    def plan(self, measured: MeasuredSlice) -> Outputs:
        """Return what is said of one slice or second, its breaches and commands too, before anything is signed."""
        measures, events, outputs, mitigation = measured.measures, measured.events, measured.outputs, self.mitigation
        breaches = self._enforce(measures, events)
        if self.earlier is not None:
            return self._recall(measured, self.earlier.take(measures.moment.partition, measures.moment.seq))
        if (
            breaches is not NO_BREACHES
            or events.external
            or events.configuration is not None
            or events.limit_documents
            or (mitigation.watches and events.causes is not None)
            or measures.moment.as_of_us >= mitigation.due_us
        ):
            return add_outputs(outputs, breaches, self._plan(measures, events, breaches))
        return outputs

    def _recall(self, measured: MeasuredSlice, records: dict[str, list[Record]]) -> Outputs:
        """Return the commands and releases of a slice as they stand, once mitigation has taken them as its own."""
        values = [orjson.loads(record.value) for record in records["breaches"]]
        self._levels |= {(one["limit"], one["scope"]): LEVELS.index(one["level"]) for one in values}
        given, commands = Breaches(values, records["breaches"]), records["commands"]
        payloads = [orjson.loads(command.value) for command in commands]
        releases = self.mitigation.recall(measured.measures, measured.events, given, payloads)
        told = {"commands": commands} if commands else {}
        return measured.outputs._replace(records=told, decisions=[], releases=releases)

    def take_over(self, counts: dict[str, int], prev: str, measured: MeasuredSlice | None) -> None:
        """Go on where an earlier version stopped: at its levels, after so many records by topic and this audit hash."""
        self.earlier = None
        if measured is not None:
            self.limits.take_levels(measured.measures, self._levels)
        for stage in (self.limits, self.mitigation, self.audit):
            stage.numbering.counts = dict(counts)
        self.audit.prev = prev

    def finish(self, outputs: Outputs) -> Outputs:
        """Return all records of what was planned, signed and audited."""
        if self.earlier is not None:
            return outputs
        records = outputs.records
        if "commands" in records or "state" in records:
            outputs = self._sign(outputs, self._signer)
        audited: Outputs = self._record(outputs)
        return audited

    def step(self, measured: MeasuredSlice) -> Outputs:
        """Return all records of one slice or second, without state documents."""
        return self.finish(self.plan(measured))

    def parts(self) -> dict[str, bytes]:
        """Return the state of each stage that has one."""
        stages = {"limits": self.limits, "mitigation": self.mitigation, "audit": self.audit}
        return {stage: self._observer.snapshot(stage, state) for stage, state in stages.items()}

    def restore(self, parts: dict[str, bytes]) -> None:
        """Take the states of the stages."""
        self.limits = LimitsState.restore(parts["limits"])
        self.mitigation = MitigationState.restore(parts["mitigation"])
        self.audit = AuditState.restore(parts["audit"])
        self._bind()


class ShardMessage(msgspec.Struct, frozen=True):
    """What a shard tells the firm of a slice.

    Attributes
    ----------
    after
        The slice of the message before, -1 for none.
    commands
        What it ordered, which may be nothing where a second ends.
    summary
        Its sums at the end of a second.
    """

    shard: int
    seq: int
    after: int
    commands: ShardCommands = msgspec.field(name="told")
    summary: ShardSummary | None = msgspec.field(name="partial")

    def encode(self) -> bytes:
        """Return it as bytes, for an engine that carries nothing else."""
        return pack(MESSAGE, self)

    @classmethod
    def decode(cls, data: bytes) -> "ShardMessage":
        """Return the message that ``ShardMessage.encode`` encoded; raises SnapshotError where it cannot be read."""
        return decode_part(unpack(MESSAGE, data), ShardMessage)


class StepResult(NamedTuple):
    """What one value gave: items for the sink, a message for the next step or none, whether a bounded run ends here."""

    items: list[Any]
    message: ShardMessage | None
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
    observer
        Watches the stages; never part of the state.

    Attributes
    ----------
    measured
        The last slice that was decided on, with its measures; not part of the snapshot.
    """

    def __init__(self, shard: int, signer: CommandSigner, observer: StageObserver | None = None) -> None:
        self._observer: StageObserver = observer or NoObserver()
        self.exposure = ExposureState(shard)
        self.conduct = AccountBehaviourState(shard)
        self.forecast = ForecastState(shard)
        self.decider = Decider(str(shard), shard, signer, self._observer)
        self.told = -1  # the last slice of which the firm was told
        self.measured: MeasuredSlice | None = None
        self._bind()

    def _bind(self) -> None:
        watch = self._observer.watch
        self._measure = watch("exposure", self.exposure, self.exposure.step)
        self._compare = watch("conduct", self.conduct, self.conduct.step)
        self._foresee = watch("forecast", self.forecast, self.forecast.step)

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
        return self.take(piece, hashlib.sha256(value).hexdigest())

    def take(self, piece: Slice, digest: str) -> StepResult:
        """Apply one slice, whoever decides there; ``digest`` is the SHA-256 of its bytes, for the audit."""
        measured: MeasuredSlice = self._compare(self._measure(piece, digest))
        events, moment = measured.events, measured.measures.moment
        if self.forecast.enabled or events.configuration is not None or events.limit_documents:
            measured = self._foresee(measured)
        if moment.decides:
            self.measured = measured
        planned = self.decider.plan(measured)
        audited = self.decider.finish(planned)
        if not (moment.second or planned.releases or "commands" in planned.records):
            return StepResult([audited], None, moment.end)
        message = ShardMessage(moment.partition, moment.seq, self.told, shard_commands(planned), measured.summary)
        self.told = moment.seq
        return StepResult([audited], message, moment.end)

    def take_over(self, counts: dict[str, int], prev: str, _: str | None) -> None:
        """Go on where an earlier version stopped, as of what it left on the topics."""
        self.exposure.take_over(counts)
        self.conduct.begin_after(counts.get("alerts", 0))
        self.forecast.numbering.counts = dict(counts)
        self.decider.take_over(counts, prev, self.measured)

    def parts(self) -> dict[str, bytes]:
        """Return the state of each stage by name."""
        snapshot = self._observer.snapshot
        return {
            "shard": snapshot("exposure", self.exposure),
            "conduct": snapshot("conduct", self.conduct),
            "forecast": snapshot("forecast", self.forecast),
            **self.decider.parts(),
        }

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pack(SHARD, {"told": self.told, "parts": self.parts()})

    @classmethod
    def restore(cls, data: bytes, signer: CommandSigner, observer: StageObserver | None = None) -> "ShardPipeline":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SHARD, data)
        parts = state["parts"]
        exposure = ExposureState.restore(parts["shard"])
        self = cls(exposure.shard, signer, observer)
        self.exposure, self.told = exposure, state["told"]
        self.conduct = AccountBehaviourState.restore(parts["conduct"])
        self.forecast = ForecastState.restore(parts["forecast"])
        self.decider.restore(parts)
        self._bind()
        return self


class FirmPipeline:
    """The firm: ``step(message) -> StepResult``, messages being those of `ShardPipeline`, in order per shard.

    Parameters
    ----------
    shards
        Their number, which is also the partition that the firm writes.
    signer
        Signs commands and state documents; never part of the state.
    observer
        Watches the stages; never part of the state.

    Attributes
    ----------
    measured
        The last second, with its measures; not part of the snapshot.
    """

    def __init__(self, shards: int, signer: CommandSigner, observer: StageObserver | None = None) -> None:
        self._observer: StageObserver = observer or NoObserver()
        self.firm, self.systemic, self.desired = FirmState(), FirmForecastState(shards), DesiredState()
        self.decider = Decider(FIRM_KEY, shards, signer, self._observer)
        self.heard = [-1] * shards  # by shard: the slice of the last message taken
        self.measured: MeasuredSlice | None = None
        self._bind()

    def _bind(self) -> None:
        watch = self._observer.watch
        self._sum = watch("firm", self.firm, self.firm.step)
        self._foresee = watch("firm", self.systemic, self.systemic.step)
        self._publish = watch("state", self.desired, self.desired.step)

    @property
    def seq(self) -> int:
        """The last second evaluated, -1 before the first."""
        return self.firm.seq

    def step(self, message: ShardMessage) -> StepResult:
        """Take one message of a shard; what comes out are the records of the seconds that it completes.

        Raises
        ------
        SnapshotError
            Messages of the shard are missing before this one: the state is not the one that belongs here.
        """
        shard, seq = message.shard, message.seq
        if message.after != self.heard[shard]:
            text = f"the second operator stands at slice {self.heard[shard]} of shard {shard}, which goes on at {seq}"
            raise SnapshotError(f"{text} after {message.after}: their states do not join")
        self.heard[shard] = seq
        complete = self._publish(message.commands)
        for second in self._sum(message.summary) if message.summary is not None else ():
            self.measured = measured = self._foresee(second)
            complete += self._publish(self.decider.plan(measured))
        items = [self.decider.finish(planned) for planned in complete]
        return StepResult(items, None, any(planned.moment.end for planned in complete))

    def take_over(self, counts: dict[str, int], prev: str, document: str | None) -> None:
        """Go on where an earlier version stopped, as of what it left on the topics."""
        self.firm.begin_afresh(counts)
        self.systemic.numbering.counts = dict(counts)
        self.desired.go_on_after(counts, document)
        self.decider.take_over(counts, prev, self.measured)

    def parts(self) -> dict[str, bytes]:
        """Return the state of each stage by name."""
        snapshot = self._observer.snapshot
        return {
            "firm": snapshot("firm", self.firm),
            "systemic": snapshot("firm", self.systemic),
            "desired": snapshot("state", self.desired),
            **self.decider.parts(),
        }

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pack(FIRM, {"heard": self.heard, "parts": self.parts()})

    @classmethod
    def restore(cls, data: bytes, signer: CommandSigner, observer: StageObserver | None = None) -> "FirmPipeline":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(FIRM, data)
        parts = state["parts"]
        self = cls(len(state["heard"]), signer, observer)
        self.heard = list(state["heard"])
        self.firm, self.desired = FirmState.restore(parts["firm"]), DesiredState.restore(parts["desired"])
        self.systemic = FirmForecastState.restore(parts["systemic"])
        self.decider.restore(parts)
        self._bind()
        return self

    def check_aligned(self, shards: list[ShardPipeline]) -> None:
        """Check that states of all shards and of this one are of one moment.

        Raises
        ------
        InvariantError
            The firm has heard less or more of a shard than the shard has told.
        """
        told = [shard.told for shard in shards]
        invariant(
            told == self.heard, f"the shards have told up to {told}, the second operator has heard up to {self.heard}"
        )


class Pipeline:
    """All shards and the firm in one piece: ``step(value) -> records``.

    Attributes
    ----------
    shards, firm
        The two kinds of pipeline inside.

    With ``earlier`` slices that an earlier version decided give no records: their decisions are taken from there as
    they stand, and the rules of this version hold from its first slice on.
    """

    def __init__(
        self, shards: int, signer: CommandSigner | None = None, earlier: _EarlierDecisions | None = None
    ) -> None:
        signer = signer or UnsignedCommands()
        self._earlier, self.recalls = earlier, False
        self.shards = [ShardPipeline(shard, signer) for shard in range(shards)]
        self.firm = FirmPipeline(shards, signer)

    def step(self, value: bytes) -> list[Outputs]:
        """Apply one journal value; return the records of its slice, and of the seconds that it completes."""
        return self.take(decode_slice(value), hashlib.sha256(value).hexdigest())

    def take(self, piece: Slice, digest: str) -> list[Outputs]:
        """Apply one slice; ``digest`` is the SHA-256 of its bytes, for the audit."""
        if self._earlier is not None and piece.configuration is not None:
            self._note_version(str(piece.configuration["code"]))
        taken = self.shards[piece.shard].take(piece, digest)
        items = taken.items if taken.message is None else [*taken.items, *self.firm.step(taken.message).items]
        return [] if self.recalls else items

    def _note_version(self, code: str) -> None:
        if not decides_alike(code):
            self.recalls = True
            for one in self.parts():
                one.decider.earlier = self._earlier
        elif self.recalls:
            self.take_over()

    def take_over(self) -> None:
        """Go on where an earlier version stopped, with what it left on the topics."""
        assert self._earlier is not None
        self.recalls = False
        for partition, one in enumerate(self.parts()):
            one.take_over(*self._earlier.end(partition))

    def parts(self) -> list["ShardPipeline | FirmPipeline"]:
        """Return the pipelines inside: the shards in order, then the firm."""
        return [*self.shards, self.firm]

    def measured(self) -> dict[str, MeasuredSlice]:
        """Return by key the last slice of each shard, and second of the firm, that has measures."""
        found = [one.measured for one in self.parts()]
        return {one.measures.moment.key: one for one in found if one is not None}

    def snapshots(self) -> list[bytes]:
        """Return the states of all shards, in order, and that of the firm."""
        return [one.snapshot() for one in self.parts()]

    @classmethod
    def restore(cls, snapshots: list[bytes], signer: CommandSigner | None = None) -> "Pipeline":
        """Return the pipeline of some snapshots.

        Raises
        ------
        SnapshotError
            They cannot be read.
        InvariantError
            They are not of one moment.
        """
        signer = signer or UnsignedCommands()
        self = cls(0, signer)
        self.shards = [ShardPipeline.restore(data, signer) for data in snapshots[:-1]]
        self.firm = FirmPipeline.restore(snapshots[-1], signer)
        self.firm.check_aligned(self.shards)
        return self
