"""``record_audit``: signed decisions in, all records of the slice out, the hash-chained audit records among them."""

from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators._coat import keep_state, one
from seawall.operators.core.audit import AuditState
from seawall.operators.core.frames import Audited, Signed


@operator
def record_audit(step_id: str, up: KeyedStream[Signed]) -> KeyedStream[Audited]:
    """Chain one audit record per decision and one per slice.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Signed plans, keyed by shard or ``all``.

    Returns
    -------
    KeyedStream[Audited]
        All records of each slice by topic, ready for ``connectors.bus.sink(url)``.
    """
    return keep_state("chain", up, _make, AuditState.restore, one(AuditState.step), cut_us=_cut_us)


def _make(signed: Signed) -> AuditState:
    frame = signed.planned.enforced.frame
    return AuditState(frame.key, frame.partition)


def _cut_us(signed: Signed) -> int:
    return signed.planned.enforced.frame.cut_us
