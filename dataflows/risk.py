"""``risk``: the journal in; exposures, alerts, breaches, commands, audit and rejects out.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.risk:flow('desk.toml')"``.

Two stateful steps, that of a shard and that of the firm, host the pipelines of the core. The operators of
`seawall.operators` run the same stages one by one, for whoever composes a dataflow of their own. A key's state here is
the snapshot that Flink keeps too, so a change of engine only carries bytes. Where somebody watches, each stage inside
is measured under its own name.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeGuard

import bytewax.operators as op
from bytewax.dataflow import Dataflow, operator
from bytewax.operators import KeyedStream

from seawall.connectors.bus import POLL, JournalSource, RecordSink, Replica, engine_key, open_bus
from seawall.connectors.keys import Trust, open_signer
from seawall.connectors.signatures import CommandSigner
from seawall.dataflows._journal import load_compatible
from seawall.operators.core.base import Outputs
from seawall.operators.core.limits import peak_utilisations
from seawall.operators.core.pipeline import FirmPipeline, ShardMessage, ShardPipeline, StageStep
from seawall.operators.stateful import StepLogic
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SnapshotError
from seawall.schemas.records import decides_alike, decode_slice
from seawall.schemas.telemetry import UTILISATION_S, Part, Telemetry

LIVE_POLL = timedelta(milliseconds=2)  # a command waits for it; a look at a cluster asks it nothing


def flow(path: str) -> Dataflow:
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    return build(load_compatible(path), None, lambda: False)


def build(
    configuration: Configuration,
    finished: Callable[[], bool] | None,
    stopped: Callable[[], bool],
    replica: Replica | None = None,
) -> Dataflow:
    """Wire both steps of risk between the journal and the topics that they write.

    Parameters
    ----------
    configuration
        The run's configuration.
    finished
        Tells that the journal is complete; None: it is where a slice says so, and never with live topics.
    stopped
        Tells that the run is to stop now.
    replica
        How this process takes part where several run the same; None: it is the only one.
    """
    base, shards = configuration.directory, configuration.shards
    bus = open_bus(configuration.bus, base)
    signer = CommandSigner(open_signer(configuration.signer, base), bus, Trust.load(configuration).issuers)
    journal = JournalSource(
        configuration.bus,
        "journal",
        shards,
        base,
        finished,
        stopped,
        follow=bool(configuration.topics),
        poll=LIVE_POLL if configuration.topics else POLL,
        replica=replica is not None,
    )
    dataflow = Dataflow("risk")
    slices = op.input("journal", dataflow, journal)
    decided = decide_slices("pipeline", slices, shards, signer)
    op.output("records", decided, RecordSink(configuration.bus, None, shards + 1, base, replica=replica))
    return dataflow


# The steps, and their telemetry.


@operator
def decide_slices(step_id: str, up: KeyedStream[bytes], shards: int, signer: CommandSigner) -> KeyedStream[Outputs]:
    """Decide on the slices of all shards, and on the seconds that they complete.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the states in the recovery store, so it must not change.
    up
        ``(engine_key(shard), value)``: the records of the journal, in order per shard.
    shards
        Their number.
    signer
        Signs commands and state documents; never part of the state.

    Returns
    -------
    KeyedStream[Outputs]
        All records of each slice and second, keyed by ``engine_key(partition)``.

    Raises
    ------
    SnapshotError
        The journal goes on after its first slice, but there is no state to go on from.
    """
    taken = op.stateful_batch("shard", up, lambda resume: _shard_logic(signer, resume))
    routed = op.branch("told", taken, _is_message)
    firm_key = engine_key(shards)
    messages = op.map("tell", routed.trues, lambda item: (firm_key, item[1]))
    seconds = op.stateful_batch("firm", messages, lambda resume: _firm_logic(shards, signer, resume))
    return op.merge("decided", routed.falses, seconds)


def _is_message(item: tuple[str, Any]) -> TypeGuard[tuple[str, ShardMessage]]:
    return isinstance(item[1], ShardMessage)


def _shard_logic(signer: CommandSigner, resume: bytes | None) -> StepLogic:
    observer = _observer()

    def begin(value: bytes) -> ShardPipeline:
        piece = decode_slice(value)
        if piece.seq or not decides_alike(str((piece.configuration or {}).get("code", ""))):
            text = f"the recovery store holds no state of shard {piece.shard}, whose journal goes on at slice"
            raise SnapshotError(f"{text} {piece.seq}")
        return ShardPipeline(piece.shard, signer, observer)

    return StepLogic(resume, begin, lambda data: ShardPipeline.restore(data, signer, observer), _shard_step)


def _shard_step(state: ShardPipeline, value: bytes) -> list[Any]:
    items, message, _ = state.step(value)
    return items if message is None else [*items, message]


def _firm_logic(shards: int, signer: CommandSigner, resume: bytes | None) -> StepLogic:
    observer = _observer()

    def begin(_: ShardMessage) -> FirmPipeline:
        return FirmPipeline(shards, signer, observer)

    return StepLogic(resume, begin, lambda data: FirmPipeline.restore(data, signer, observer), _firm_step)


def _firm_step(state: FirmPipeline, message: ShardMessage) -> list[Any]:
    return state.step(message).items


def _observer() -> "StageTelemetry | None":
    telemetry = Telemetry.current()
    return None if telemetry is None else StageTelemetry(telemetry)


class StageTelemetry:
    """Measures the stages of one key: how long each takes for a slice, how old that is, how large its state is."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._parts: dict[tuple[str, str], Part] = {}
        self._looked_at = float("-inf")

    def watch(self, stage: str, state: Any, step: StageStep) -> StageStep:
        """Return the step with a clock around it."""
        part = self._part(stage, state)
        note = {"limits": self._note_utilisation, "audit": self._note_age}.get(stage)

        def timed(*given: Any) -> Any:
            began = time.perf_counter()
            found = step(*given)
            part.work.observe(time.perf_counter() - began)
            part.slices += 1
            if note is not None:
                note(part, state, given[0], found)
            return found

        return timed

    def snapshot(self, stage: str, state: Any) -> bytes:
        """Return the snapshot of a state, and measure it."""
        part, began = self._part(stage, state), time.perf_counter()
        data: bytes = state.snapshot()
        part.snapshots.observe(time.perf_counter() - began)
        part.snapshot_bytes = len(data)
        return data

    def _part(self, stage: str, state: Any) -> Part:
        name = stage, type(state).__name__
        if name not in self._parts:
            self._parts[name] = self._telemetry.part(stage)
        return self._parts[name]

    def _note_age(self, part: Part, state: Any, signed: Any, audited: Any) -> None:
        """Note how old a slice is once all is decided, with live inputs."""
        if self._telemetry.live:
            part.ages.observe(time.time() - signed.moment.cut_us / 1e6)

    def _note_utilisation(self, part: Part, state: Any, measures: Any, breaches: Any) -> None:
        """Note now and then how much of each limit is used."""
        now = time.monotonic()
        if now - self._looked_at > UTILISATION_S:
            self._looked_at = now
            self._telemetry.utilisation[state.key] = peak_utilisations(state, measures)
