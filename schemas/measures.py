"""The measures that this version computes, per kind of scope (contract.md, "Measures"), in the order of their rows.

``RATIOS`` are compared with a floor of 0.01 when ``exposures`` decides whether a value moved, everything else, which is
money, with a floor of 1.
"""

from collections.abc import Iterable, Mapping
from typing import Any

ACCOUNT = (
    "equity",
    "gross_notional",
    "net_notional",
    "unrealised_pnl",
    "initial_margin",
    "maintenance_margin",
    "margin_ratio",
    "leverage",
    "distance_to_liquidation",
)
NETTING_SET = ("current_exposure", "collateral_held")
COUNTERPARTY = ("current_exposure", "collateral_held", "gross_notional", "net_notional", "pnl")
ORDERS = ("worst_case_notional", "worst_case_initial_margin")
ALONE = ("distance_to_liquidation_alone",)
CREDIT = ("potential_exposure", "exposure_at_default", "potential_exposure_ew", "wrong_way", "margin_call")
PARTY_CREDIT = (
    "potential_exposure",
    "exposure_at_default",
    "potential_exposure_ew",
    "settlement_exposure",
    "wrong_way",
)
"""What is computed where a book needs it: with working orders or netting-set terms, or with a limit that names it."""

WIDE = ("gross_notional", "net_notional", "pnl")
UNDERLYING = (*WIDE, "delta", "gamma", "vega", "concentration")
INSTRUMENT = (*WIDE, "concentration")
HOLDING = ("gross_notional", "net_notional", "collateral_held", "concentration")
FIRM = (
    *WIDE,
    "current_exposure",
    "potential_exposure",
    "exposure_at_default",
    "potential_exposure_ew",
    "settlement_exposure",
)

SHARD_SCOPES: dict[str, tuple[str, ...]] = {
    "account": (*ACCOUNT, *ORDERS, *ALONE),
    "netting_set": (*NETTING_SET, *CREDIT),
    "counterparty": (*COUNTERPARTY, *PARTY_CREDIT),
}
WIDE_SCOPES: dict[str, tuple[str, ...]] = {
    "firm": FIRM,
    "group": (*COUNTERPARTY, *PARTY_CREDIT),
    "underlying": UNDERLYING,
    "venue": WIDE,
}
ASKED_SCOPES: dict[str, tuple[str, ...]] = {
    "instrument": INSTRUMENT,
    "asset": HOLDING,
    "issuer": HOLDING,
    "strategy": WIDE,
}
"""Scopes that span shards and are computed where a limit names one of their kind."""

MEASURES: dict[str, tuple[str, ...]] = {**SHARD_SCOPES, **WIDE_SCOPES, **ASKED_SCOPES}
PROBABILITIES = ("breach_probability_1h", "breach_probability_24h")
"""That a scope comes to the hard level of a limit on it; of an account, to that of its margin."""
CASCADE_FORECASTS = ("cascade_multiplier", "cascade_distance")
SYSTEMIC_FORECASTS = (
    "systemic_stress",
    "turbulence",
    "absorption_ratio",
    "funding_stretch",
    "open_interest_stretch",
    "stablecoin_share",
    "network_centrality",
)
LOSSES = ("var_99", "es_975", "var_99_1h", "es_975_1h", "stress_loss")
"""Losses that P&L with a counterparty, or the firm's, may make: within a day, within an hour, in the worst scenario."""
FORECASTS = frozenset({*PROBABILITIES, *CASCADE_FORECASTS, *SYSTEMIC_FORECASTS, *LOSSES})
"""What limits may name where ``[forecasts]`` makes it; on the topic ``forecasts``, not among ``exposures``."""
for _kind in (*SHARD_SCOPES, *WIDE_SCOPES):
    MEASURES[_kind] = (*MEASURES[_kind], *PROBABILITIES)
MEASURES["counterparty"] = (*MEASURES["counterparty"], *LOSSES)
MEASURES["underlying"] = (*MEASURES["underlying"], *CASCADE_FORECASTS)
MEASURES["firm"] = (*MEASURES["firm"], *CASCADE_FORECASTS, *SYSTEMIC_FORECASTS, *LOSSES)
RATIOS = frozenset({"margin_ratio", "leverage", "distance_to_liquidation", *ALONE, "concentration", "wrong_way"})
RATIO_MAX = 1_000_000.0


def foreseen(section: Mapping[str, Any]) -> frozenset[str]:
    """Return the forecasts that are made under a configuration's ``[forecasts]``.

    Examples
    --------
    >>> "breach_probability_1h" in foreseen({"enabled": True}), "var_99" in foreseen({"enabled": True})
    (True, False)
    """
    if not section.get("enabled"):
        return frozenset()
    return FORECASTS if section.get("losses") else FORECASTS.difference(LOSSES)


def check_foreseen(limits: Iterable[Mapping[str, Any]], section: Mapping[str, Any]) -> str:
    """Return what is wrong with limits on forecasts that are not made, empty where nothing is."""
    made = foreseen(section)
    for limit in limits:
        if limit["measure"] in FORECASTS and limit["measure"] not in made:
            key = "losses" if limit["measure"] in LOSSES and section.get("enabled") else "enabled"
            return (
                f"the limit {limit['id']} is on {limit['measure']}, which is a forecast, and none are made; "
                f"set {key} = true under [forecasts]"
            )
    return ""
