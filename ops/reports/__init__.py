"""Reports for people: exposures, forecasts, incidents, limits and rejects of a run, and answers about single files."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.reports._exposures import ExposureFold as ExposureFold
    from seawall.ops.reports._exposures import ScopeExposure as ScopeExposure
    from seawall.ops.reports._exposures import exposures_csv as exposures_csv
    from seawall.ops.reports._exposures import exposures_json as exposures_json
    from seawall.ops.reports._exposures import liquidations_json as liquidations_json
    from seawall.ops.reports._exposures import print_exposures as print_exposures
    from seawall.ops.reports._exposures import print_liquidations as print_liquidations
    from seawall.ops.reports._exposures import report_exposures as report_exposures
    from seawall.ops.reports._exposures import report_liquidations as report_liquidations
    from seawall.ops.reports._files import Drawn as Drawn
    from seawall.ops.reports._files import detect_csv as detect_csv
    from seawall.ops.reports._files import draw_detection as draw_detection
    from seawall.ops.reports._files import netting_set_exposure as netting_set_exposure
    from seawall.ops.reports._files import parse_row_time as parse_row_time
    from seawall.ops.reports._forecasts import plot_reliability as plot_reliability
    from seawall.ops.reports._forecasts import print_forecast_scores as print_forecast_scores
    from seawall.ops.reports._forecasts import print_forecasts as print_forecasts
    from seawall.ops.reports._forecasts import print_losses as print_losses
    from seawall.ops.reports._forecasts import report_forecasts as report_forecasts
    from seawall.ops.reports._incidents import IncidentReader as IncidentReader
    from seawall.ops.reports._incidents import incident_lines as incident_lines
    from seawall.ops.reports._incidents import read_incidents as read_incidents
    from seawall.ops.reports._limits import DAY_US as DAY_US
    from seawall.ops.reports._limits import LimitsInForce as LimitsInForce
    from seawall.ops.reports._limits import RequestedChanges as RequestedChanges
    from seawall.ops.reports._limits import check_signed_document as check_signed_document
    from seawall.ops.reports._limits import describe_document as describe_document
    from seawall.ops.reports._limits import last_key_set as last_key_set
    from seawall.ops.reports._limits import limits_before as limits_before
    from seawall.ops.reports._limits import pending_documents as pending_documents
    from seawall.ops.reports._limits import read_limits as read_limits
    from seawall.ops.reports._limits import read_requested_changes as read_requested_changes
    from seawall.ops.reports._limits import save_document as save_document
    from seawall.ops.reports._limits import sign_document as sign_document
    from seawall.ops.reports._limits import time_text as time_text
    from seawall.ops.reports._rejects import DeadLetter as DeadLetter
    from seawall.ops.reports._rejects import Redriver as Redriver
    from seawall.ops.reports._rejects import choose_dead_letters as choose_dead_letters
    from seawall.ops.reports._rejects import read_dead_letters as read_dead_letters

_HOMES = {
    "DAY_US": "seawall.ops.reports._limits",
    "DeadLetter": "seawall.ops.reports._rejects",
    "Drawn": "seawall.ops.reports._files",
    "ExposureFold": "seawall.ops.reports._exposures",
    "IncidentReader": "seawall.ops.reports._incidents",
    "LimitsInForce": "seawall.ops.reports._limits",
    "Redriver": "seawall.ops.reports._rejects",
    "RequestedChanges": "seawall.ops.reports._limits",
    "ScopeExposure": "seawall.ops.reports._exposures",
    "check_signed_document": "seawall.ops.reports._limits",
    "choose_dead_letters": "seawall.ops.reports._rejects",
    "describe_document": "seawall.ops.reports._limits",
    "detect_csv": "seawall.ops.reports._files",
    "draw_detection": "seawall.ops.reports._files",
    "exposures_csv": "seawall.ops.reports._exposures",
    "exposures_json": "seawall.ops.reports._exposures",
    "incident_lines": "seawall.ops.reports._incidents",
    "last_key_set": "seawall.ops.reports._limits",
    "limits_before": "seawall.ops.reports._limits",
    "liquidations_json": "seawall.ops.reports._exposures",
    "netting_set_exposure": "seawall.ops.reports._files",
    "parse_row_time": "seawall.ops.reports._files",
    "pending_documents": "seawall.ops.reports._limits",
    "plot_reliability": "seawall.ops.reports._forecasts",
    "print_exposures": "seawall.ops.reports._exposures",
    "print_forecast_scores": "seawall.ops.reports._forecasts",
    "print_forecasts": "seawall.ops.reports._forecasts",
    "print_liquidations": "seawall.ops.reports._exposures",
    "print_losses": "seawall.ops.reports._forecasts",
    "read_dead_letters": "seawall.ops.reports._rejects",
    "read_incidents": "seawall.ops.reports._incidents",
    "read_limits": "seawall.ops.reports._limits",
    "read_requested_changes": "seawall.ops.reports._limits",
    "report_exposures": "seawall.ops.reports._exposures",
    "report_forecasts": "seawall.ops.reports._forecasts",
    "report_liquidations": "seawall.ops.reports._exposures",
    "save_document": "seawall.ops.reports._limits",
    "sign_document": "seawall.ops.reports._limits",
    "time_text": "seawall.ops.reports._limits",
}
__all__ = [
    "DAY_US",
    "DeadLetter",
    "Drawn",
    "ExposureFold",
    "IncidentReader",
    "LimitsInForce",
    "Redriver",
    "RequestedChanges",
    "ScopeExposure",
    "check_signed_document",
    "choose_dead_letters",
    "describe_document",
    "detect_csv",
    "draw_detection",
    "exposures_csv",
    "exposures_json",
    "incident_lines",
    "last_key_set",
    "limits_before",
    "liquidations_json",
    "netting_set_exposure",
    "parse_row_time",
    "pending_documents",
    "plot_reliability",
    "print_exposures",
    "print_forecast_scores",
    "print_forecasts",
    "print_liquidations",
    "print_losses",
    "read_dead_letters",
    "read_incidents",
    "read_limits",
    "read_requested_changes",
    "report_exposures",
    "report_forecasts",
    "report_liquidations",
    "save_document",
    "sign_document",
    "time_text",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
