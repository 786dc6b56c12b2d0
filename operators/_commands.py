"""Operators that act and leave evidence: plan commands, publish state, sign, record the audit, seal its log.

The order in a dataflow is ``plan_mitigation``, ``publish_state``, ``sign_commands`` (which records the audit) and, in a
dataflow of its own, ``seal_log``.
"""

from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from seawall.operators.core import pipeline
from seawall.operators.core.audit import AuditState, Sealed, SealState, origin_of
from seawall.operators.core.base import MeasuredSlice, Outputs, add_outputs
from seawall.operators.core.mitigation import DesiredState, MitigationState, ShardCommands, shard_commands
from seawall.operators.core.pipeline import CommandSigner
from seawall.operators.core.portfolio import FIRM_KEY
from seawall.operators.stateful import call_logged, keep_state, single_output, timed
from seawall.schemas.records import Record

# ``record_audit``: signed decisions in, all records of the slice out, the hash-chained audit records among them.


@operator
def record_audit(step_id: str, up: KeyedStream[Outputs]) -> KeyedStream[Outputs]:
    """Chain one audit record per decision and one per slice.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Signed outputs, keyed by shard or ``all``.

    Returns
    -------
    KeyedStream[Outputs]
        All records of each slice by topic, ready for ``connectors.bus.sink(url)``.
    """
    return keep_state("chain", up, _new_audit_state, AuditState.restore, single_output(AuditState.step), cut_us=_cut_us)


def _new_audit_state(signed: Outputs) -> AuditState:
    return AuditState(signed.moment.key, signed.moment.partition)


def _cut_us(signed: Outputs) -> int:
    return signed.moment.cut_us


# ``plan_mitigation``: breaches and news in, commands out, by the playbook.


@operator
def plan_mitigation(
    step_id: str, up: KeyedStream[MeasuredSlice], playbook: dict[str, Any] | None = None
) -> KeyedStream[Outputs]:
    """Turn breaches, venue states, notices and alerts into commands.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Measured slices with their breaches, keyed by shard or ``all``.
    playbook
        ``{"version", "sha256", "rules"}`` to use instead of the one in the journal, for trying a playbook out; what it
        decides is then no longer a function of the journal alone and ``replay`` will differ.

    Returns
    -------
    KeyedStream[Outputs]
        What is said of each slice, with its commands: payload bytes, targets and ids, not signed yet.
    """

    def make(measured: MeasuredSlice) -> MitigationState:
        return MitigationState(measured.measures.moment.key, measured.measures.moment.partition, playbook)

    def restore(data: bytes) -> MitigationState:
        return MitigationState.restore(data, playbook)

    return keep_state("plan", up, make, restore, _plan)


def _plan(state: MitigationState, measured: MeasuredSlice) -> list[Outputs]:
    planned = state.step(measured.measures, measured.events, measured.breaches)
    return [add_outputs(measured.outputs, measured.breaches, planned)]


# ``publish_state``: outputs in, the same out, those of the firm with state to publish.


@operator
def publish_state(step_id: str, up: KeyedStream[Outputs]) -> KeyedStream[Outputs]:
    """Add state documents and heartbeats to the outputs of the key ``all``, once per second.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Outputs of ``plan_mitigation``, keyed by shard or ``all``.

    Returns
    -------
    KeyedStream[Outputs]
        For ``sign_commands``, which signs both.
    """
    branches = op.branch("whose", up, lambda item: item[0] != FIRM_KEY)
    told = op.flat_map("tell", branches.trues, _command_reports)
    joined = op.merge("join", told, branches.falses)
    wide = keep_state("desired", joined, _new_desired_state, DesiredState.restore, DesiredState.step)
    return op.merge("planned", branches.trues, wide)


def _new_desired_state(_: ShardCommands | Outputs) -> DesiredState:
    return DesiredState()


def _command_reports(item: tuple[str, Outputs]) -> list[tuple[str, ShardCommands]]:
    told = shard_commands(item[1])
    return [(FIRM_KEY, told)] if told.second or told.commands else []


# ``sign_commands``: commands in, signed commands and audit records out.


@dataclass(frozen=True)
class SignedStreams:
    """What ``sign_commands`` gives: three streams for three topics, and all records of each slice for one sink.

    ``commands``, ``audit`` and ``state`` carry ``(partition, records)``.
    """

    commands: KeyedStream[list[Record]]
    audit: KeyedStream[list[Record]]
    state: KeyedStream[list[Record]]
    records: KeyedStream[Outputs]


@operator
def sign_commands(step_id: str, up: KeyedStream[Outputs], signer: CommandSigner) -> SignedStreams:
    """Sign every command (DSSE, detached in the header ``dsse``) and chain the audit of every slice.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Outputs of ``publish_state``, keyed by shard or ``all``.
    signer
        Where signatures come from; it never becomes part of the engine's state. See
        ``seawall.connectors.keys._key_files.command_signer``.

    Returns
    -------
    SignedOut
        Streams for ``connectors.bus.sink(url, topic)``.
    """
    signed = op.map_value("sign", up, timed("sign", lambda outputs: pipeline.sign_commands(outputs, signer)))
    audited = record_audit("audit", signed)
    return SignedStreams(
        op.flat_map("commands", audited, lambda item: _records_of(item[1], "commands")),
        op.flat_map("records", audited, lambda item: _records_of(item[1], "audit")),
        op.flat_map("state", audited, lambda item: _records_of(item[1], "state")),
        audited,
    )


def _records_of(audited: Outputs, topic: str) -> list[tuple[str, list[Record]]]:
    records = audited.records.get(topic)
    return [(str(audited.moment.partition), records)] if records else []


# ``seal_log``: audit records in, the Merkle log over them out: tiles, and checkpoints to sign.


class SealLogic(StatefulBatchLogic[bytes, Sealed, bytes]):
    """Runs the sealer of one partition, a batch at a time; the first record tells which partition it is."""

    def __init__(self, resume: bytes | None, issuer: str, environment: str, shards: int) -> None:
        self._state = None if resume is None else call_logged(SealState.restore, resume)
        self._issuer, self._environment, self._shards = issuer, environment, shards

    def on_batch(self, values: list[bytes]) -> tuple[list[Sealed], bool]:
        """Seal a batch; nothing comes out where it completed neither a tile nor a second."""
        if self._state is None:
            self._state = call_logged(self._begin, values[0])
        sealed = call_logged(self._state.step, values)
        return [sealed] if sealed.files or sealed.checkpoints else [], StatefulBatchLogic.RETAIN

    def _begin(self, value: bytes) -> SealState:
        shard: Any = msgspec.json.decode(value)["shard"]
        partition = self._shards if shard == FIRM_KEY else int(shard)
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
        They name the logs (`seawall.operators.core.audit._sealing.origin_of`).
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
