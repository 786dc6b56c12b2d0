"""Market: venue events in, a signal per instrument group and interval out.

`GroupBatcher` splits a stream by group and interval, `GroupState` turns each batch into marks, features, scores and
alerts. Its models are those of ``detection``: `RegisteredModels` puts one's own in the place of the usual ones.
"""

from seawall.operators.core.market._alerts import InstrumentBreakers, admit_alert
from seawall.operators.core.market._group import GroupRecords, GroupState, IntervalEnd, instrument_group
from seawall.operators.core.market._group_batches import GroupBatcher, GroupItem

__all__ = [
    "GroupBatcher",
    "GroupItem",
    "GroupRecords",
    "GroupState",
    "InstrumentBreakers",
    "IntervalEnd",
    "admit_alert",
    "instrument_group",
]
