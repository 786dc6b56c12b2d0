"""The lab: backtest, calibrate, stress and rehearse, with the code that runs live."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab._playbook_cases import lint_playbook as lint_playbook
    from seawall.ops.lab._playbook_cases import run_cases as run_cases
    from seawall.ops.lab._rehearsal import SECOND_US as SECOND_US
    from seawall.ops.lab._rehearsal import Exposures as Exposures
    from seawall.ops.lab._rehearsal import Rehearsal as Rehearsal
    from seawall.ops.lab._rehearsal import RehearsalResult as RehearsalResult
    from seawall.ops.lab._rehearsal import WorldReactions as WorldReactions
    from seawall.ops.lab._work import Cache as Cache
    from seawall.ops.lab._work import GrowingFile as GrowingFile
    from seawall.ops.lab._work import Job as Job
    from seawall.ops.lab._work import Workers as Workers
    from seawall.ops.lab._work import default_cache_folder as default_cache_folder
    from seawall.ops.lab._work import progress_bars as progress_bars
    from seawall.ops.lab._work import progress_reporter as progress_reporter

_HOMES = {
    "Cache": "seawall.ops.lab._work",
    "Exposures": "seawall.ops.lab._rehearsal",
    "GrowingFile": "seawall.ops.lab._work",
    "Job": "seawall.ops.lab._work",
    "Rehearsal": "seawall.ops.lab._rehearsal",
    "RehearsalResult": "seawall.ops.lab._rehearsal",
    "SECOND_US": "seawall.ops.lab._rehearsal",
    "Workers": "seawall.ops.lab._work",
    "WorldReactions": "seawall.ops.lab._rehearsal",
    "default_cache_folder": "seawall.ops.lab._work",
    "lint_playbook": "seawall.ops.lab._playbook_cases",
    "progress_bars": "seawall.ops.lab._work",
    "progress_reporter": "seawall.ops.lab._work",
    "run_cases": "seawall.ops.lab._playbook_cases",
}
__all__ = [
    "SECOND_US",
    "Cache",
    "Exposures",
    "GrowingFile",
    "Job",
    "Rehearsal",
    "RehearsalResult",
    "Workers",
    "WorldReactions",
    "default_cache_folder",
    "lint_playbook",
    "progress_bars",
    "progress_reporter",
    "run_cases",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
