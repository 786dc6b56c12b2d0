"""Stress tests: scenarios as files, played on a run's own book by the code that runs live."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.stress._play import print_answer as print_answer
    from seawall.ops.lab.stress._play import stress as stress
    from seawall.ops.lab.stress._scenario import built_in_scenarios as built_in_scenarios
    from seawall.ops.lab.stress._scenario import find_scenario as find_scenario
    from seawall.ops.lab.stress._scenario import load_stress_plan as load_stress_plan
    from seawall.ops.lab.stress._scenario import load_stress_plans as load_stress_plans
    from seawall.ops.lab.stress._system import System as System
    from seawall.ops.lab.stress._system import scenario_moves as scenario_moves
    from seawall.ops.lab.stress._system import snapshot_system as snapshot_system

_HOMES = {
    "System": "seawall.ops.lab.stress._system",
    "built_in_scenarios": "seawall.ops.lab.stress._scenario",
    "find_scenario": "seawall.ops.lab.stress._scenario",
    "load_stress_plan": "seawall.ops.lab.stress._scenario",
    "load_stress_plans": "seawall.ops.lab.stress._scenario",
    "print_answer": "seawall.ops.lab.stress._play",
    "scenario_moves": "seawall.ops.lab.stress._system",
    "snapshot_system": "seawall.ops.lab.stress._system",
    "stress": "seawall.ops.lab.stress._play",
}
__all__ = [
    "System",
    "built_in_scenarios",
    "find_scenario",
    "load_stress_plan",
    "load_stress_plans",
    "print_answer",
    "scenario_moves",
    "snapshot_system",
    "stress",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
