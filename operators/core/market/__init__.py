"""Market: venue events in, a signal per instrument group and interval out.

`GroupBatcher` splits a stream by group and interval, `GroupState` turns each batch into marks, features, scores and
alerts. `RegisteredModels` puts models of one's own in the place of the usual ones.
"""

from seawall.operators.core.market._alerts import InstrumentBreakers, admit_alert
from seawall.operators.core.market._group import GroupRecords, GroupState, IntervalEnd, instrument_group
from seawall.operators.core.market._group_batches import GroupBatcher, GroupItem
from seawall.operators.core.market._model_lifecycle import LifecycleModels
from seawall.operators.core.market._models import FamilyModels, Judgement, ModelReport, ModelsFactory, RegisteredModels

__all__ = [
    "FamilyModels",
    "GroupBatcher",
    "GroupItem",
    "GroupRecords",
    "GroupState",
    "InstrumentBreakers",
    "IntervalEnd",
    "Judgement",
    "LifecycleModels",
    "ModelReport",
    "ModelsFactory",
    "RegisteredModels",
    "admit_alert",
    "instrument_group",
]
