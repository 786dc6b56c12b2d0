"""The measures that this version computes, per kind of scope (CONTRACT §3), in the order of their rows.

``RATIOS`` are compared with a floor of 0.01 when ``exposures`` decides whether a value moved, everything else, which is
money, with a floor of 1.
"""

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
WIDE = ("gross_notional", "net_notional", "pnl")
UNDERLYING = (*WIDE, "delta", "gamma", "vega")
FIRM = ("gross_notional", "net_notional", "pnl", "current_exposure")

SHARD_SCOPES: dict[str, tuple[str, ...]] = {
    "account": ACCOUNT,
    "netting_set": NETTING_SET,
    "counterparty": COUNTERPARTY,
}
WIDE_SCOPES: dict[str, tuple[str, ...]] = {
    "firm": FIRM,
    "group": COUNTERPARTY,
    "underlying": UNDERLYING,
    "venue": WIDE,
}
MEASURES: dict[str, tuple[str, ...]] = {**SHARD_SCOPES, **WIDE_SCOPES}
RATIOS = frozenset({"margin_ratio", "leverage", "distance_to_liquidation"})
RATIO_MAX = 1_000_000.0
