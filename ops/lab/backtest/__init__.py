"""Backtests: history through the live steps, with and without mitigation, and tests of the risk figures."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.backtest._history import REST as REST
    from seawall.ops.lab.backtest._history import read_lines as read_lines
    from seawall.ops.lab.backtest._plan import BacktestPlan as BacktestPlan
    from seawall.ops.lab.backtest._plan import Variant as Variant
    from seawall.ops.lab.backtest._plan import code_sha256 as code_sha256
    from seawall.ops.lab.backtest._plan import file_sha256 as file_sha256
    from seawall.ops.lab.backtest._plan import load_backtest_plan as load_backtest_plan
    from seawall.ops.lab.backtest._plan import sha256_of as sha256_of
    from seawall.ops.lab.backtest._play import detection_quality as detection_quality
    from seawall.ops.lab.backtest._run import SIGNALS as SIGNALS
    from seawall.ops.lab.backtest._run import Prepared as Prepared
    from seawall.ops.lab.backtest._run import backtest as backtest
    from seawall.ops.lab.backtest._run import compared_variants as compared_variants
    from seawall.ops.lab.backtest._run import detection_line as detection_line
    from seawall.ops.lab.backtest._run import play_job as play_job
    from seawall.ops.lab.backtest._run import play_key as play_key
    from seawall.ops.lab.backtest._run import prepare_history as prepare_history
    from seawall.ops.lab.backtest._run import result_figures as result_figures
    from seawall.ops.lab.backtest._run import result_lines as result_lines
    from seawall.ops.lab.backtest._stream import Client as Client
    from seawall.ops.lab.backtest._stream import client_reference_records as client_reference_records
    from seawall.ops.lab.backtest._stream import opening_records as opening_records
    from seawall.ops.lab.backtest._stream import read_holders as read_holders

_HOMES = {
    "BacktestPlan": "seawall.ops.lab.backtest._plan",
    "Client": "seawall.ops.lab.backtest._stream",
    "Prepared": "seawall.ops.lab.backtest._run",
    "REST": "seawall.ops.lab.backtest._history",
    "SIGNALS": "seawall.ops.lab.backtest._run",
    "Variant": "seawall.ops.lab.backtest._plan",
    "backtest": "seawall.ops.lab.backtest._run",
    "client_reference_records": "seawall.ops.lab.backtest._stream",
    "code_sha256": "seawall.ops.lab.backtest._plan",
    "compared_variants": "seawall.ops.lab.backtest._run",
    "detection_line": "seawall.ops.lab.backtest._run",
    "detection_quality": "seawall.ops.lab.backtest._play",
    "file_sha256": "seawall.ops.lab.backtest._plan",
    "load_backtest_plan": "seawall.ops.lab.backtest._plan",
    "opening_records": "seawall.ops.lab.backtest._stream",
    "play_job": "seawall.ops.lab.backtest._run",
    "play_key": "seawall.ops.lab.backtest._run",
    "prepare_history": "seawall.ops.lab.backtest._run",
    "read_holders": "seawall.ops.lab.backtest._stream",
    "read_lines": "seawall.ops.lab.backtest._history",
    "result_figures": "seawall.ops.lab.backtest._run",
    "result_lines": "seawall.ops.lab.backtest._run",
    "sha256_of": "seawall.ops.lab.backtest._plan",
}
__all__ = [
    "REST",
    "SIGNALS",
    "BacktestPlan",
    "Client",
    "Prepared",
    "Variant",
    "backtest",
    "client_reference_records",
    "code_sha256",
    "compared_variants",
    "detection_line",
    "detection_quality",
    "file_sha256",
    "load_backtest_plan",
    "opening_records",
    "play_job",
    "play_key",
    "prepare_history",
    "read_holders",
    "read_lines",
    "result_figures",
    "result_lines",
    "sha256_of",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
