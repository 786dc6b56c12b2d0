"""``sign_commands``: commands in, signed commands and audit records out."""

from dataclasses import dataclass

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import timed
from seawall.operators.audit import record_audit
from seawall.operators.core import risk
from seawall.operators.core.frames import Audited, Planned
from seawall.operators.core.risk import CommandSigner
from seawall.schemas.records import Record


@dataclass(frozen=True)
class SignedOut:
    """What ``sign_commands`` gives: three streams for three topics, and all records of each slice for one sink.

    ``commands``, ``audit`` and ``state`` carry ``(partition, records)``.
    """

    commands: KeyedStream[list[Record]]
    audit: KeyedStream[list[Record]]
    state: KeyedStream[list[Record]]
    records: KeyedStream[Audited]


@operator
def sign_commands(step_id: str, up: KeyedStream[Planned], signer: CommandSigner) -> SignedOut:
    """Sign every command (DSSE, detached in the header ``dsse``) and chain the audit of every slice.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Plans, keyed by shard or ``all``.
    signer
        Where signatures come from; it never becomes part of the engine's state. See
        ``seawall.connectors.keys.command_signer``.

    Returns
    -------
    SignedOut
        Streams for ``connectors.bus.sink(url, topic)``.
    """
    signed = op.map_value("sign", up, timed("sign", lambda planned: risk.sign_commands(planned, signer)))
    audited = record_audit("audit", signed)
    return SignedOut(
        op.flat_map("commands", audited, lambda item: _select(item[1], "commands")),
        op.flat_map("records", audited, lambda item: _select(item[1], "audit")),
        op.flat_map("state", audited, lambda item: _select(item[1], "state")),
        audited,
    )


def _select(audited: Audited, topic: str) -> list[tuple[str, list[Record]]]:
    records = audited.records.get(topic)
    return [(str(audited.partition), records)] if records else []
