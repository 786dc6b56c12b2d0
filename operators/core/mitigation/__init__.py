"""Mitigation: a playbook turns breaches, external events and answers into commands.

`MitigationState` plans for one writer; read ``_plan`` first. `DesiredState` publishes what the commands add up to, and
`playbook_faults` finds what is wrong with a playbook before it runs.
"""

from seawall.operators.core.mitigation._control import MODE_RANKS, STRICTNESS, TARGET_STATES
from seawall.operators.core.mitigation._desired_state import DesiredState, ShardCommands, shard_commands
from seawall.operators.core.mitigation._lint import PlaybookFault, playbook_faults
from seawall.operators.core.mitigation._plan import MitigationState

__all__ = [
    "MODE_RANKS",
    "STRICTNESS",
    "TARGET_STATES",
    "DesiredState",
    "MitigationState",
    "PlaybookFault",
    "ShardCommands",
    "playbook_faults",
    "shard_commands",
]
