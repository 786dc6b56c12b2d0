"""Dataflows: ``market``, ``sequence``, ``risk`` and ``seal``, which wire operators and connectors and decide nothing.

Each public module has ``flow(path)``, so that ``python -m bytewax.run "seawall.dataflows.risk:flow('desk.toml')"`` runs
it.
"""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.dataflows._journal import check_compatibility, check_journal, fold_journal, load_compatible
    from seawall.dataflows._local_risk import LocalRisk
    from seawall.dataflows._log_publishing import LogPublisher
    from seawall.dataflows._market_inputs import has_market_records
    from seawall.dataflows._sequencer import Sequencer
    from seawall.dataflows._sources import redriven_event

_HOMES = {
    "LocalRisk": "seawall.dataflows._local_risk",
    "LogPublisher": "seawall.dataflows._log_publishing",
    "Sequencer": "seawall.dataflows._sequencer",
    "check_compatibility": "seawall.dataflows._journal",
    "check_journal": "seawall.dataflows._journal",
    "fold_journal": "seawall.dataflows._journal",
    "has_market_records": "seawall.dataflows._market_inputs",
    "load_compatible": "seawall.dataflows._journal",
    "redriven_event": "seawall.dataflows._sources",
}
__all__ = [
    "LocalRisk",
    "LogPublisher",
    "Sequencer",
    "check_compatibility",
    "check_journal",
    "fold_journal",
    "has_market_records",
    "load_compatible",
    "redriven_event",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
