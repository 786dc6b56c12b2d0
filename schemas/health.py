"""What ``[health]`` of a configuration may say: where a run answers whether it is alive, and when it says no."""

from typing import Any

import msgspec

from seawall.schemas.errors import UsageError
from seawall.schemas.tables import Field, Table, check_table, number_in, text_like

_TABLE: Table = {
    "listen": Field("text", "", text_like(r"([A-Za-z0-9_.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}|")),
    "check_s": Field("number", 2, number_in(0.05, 3600)),
    "stuck_s": Field("number", 30, number_in(0.5, 86_400)),
    "window_s": Field("number", 60, number_in(0.5, 86_400)),
    "lag_max": Field("integer", 10_000, number_in(1, 1 << 60)),
    "certificate": Field("text", ""),
    "key": Field("text", ""),
    "client_ca": Field("text", ""),
    "traces": Field("text", "", text_like(r"(https?://\S+)?")),
}


class HealthTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Checked terms of the endpoint.

    Attributes
    ----------
    listen
        ``HOST:PORT``; empty: no endpoint.
    check_s
        How often the run is looked at.
    stuck_s
        What must move and did not for so long is stuck.
    window_s
        A lag whose later half of this time lies above the earlier one is growing.
    lag_max
        Records that a reader may be behind and still be ready.
    certificate, key
        PEM files of the endpoint's TLS, relative to the configuration; empty: none.
    client_ca
        PEM file of who vouches for those who may ask; empty: whoever reaches it.
    traces
        Where a collector of OpenTelemetry takes traces, such as ``http://127.0.0.1:4318/v1/traces``; empty: none.
    """

    listen: str = ""
    check_s: float = 2
    stuck_s: float = 30
    window_s: float = 60
    lag_max: int = 10_000
    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    traces: str = ""


def read_health(content: dict[str, Any], file: str) -> HealthTerms:
    """Return the terms of a ``[health]`` table, defaults filled in; raises UsageError naming key and rule."""
    terms = HealthTerms(**check_table(content, _TABLE, f"{file} [health]"))
    if bool(terms.certificate) != bool(terms.key) or (terms.client_ca and not terms.certificate):
        raise UsageError(f"{file} [health]: certificate and key belong together, and client_ca needs both; set them")
    return terms
