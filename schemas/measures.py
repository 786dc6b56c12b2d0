"""Measures, and the limits that are set on them.

The measures that this version computes, per kind of scope (CONTRACT §3), in the order of the records; and the check of
a ``[[limit]]`` of a limit document (CONTRACT §6): its scope, its measure, its levels and how it scales with the market.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.tables import ABSENT, Field, Table, check_table, nearest, number_in, one_of, text_like

# The measures that this version computes, per kind of scope (contract.md, "Measures"), in the order of their rows.
#
# ``RATIOS`` are compared with a floor of 0.01 when ``exposures`` decides whether a value moved, everything else, which
# is money, with a floor of 1.

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
STANDALONE = ("distance_to_liquidation_alone",)
CREDIT = ("potential_exposure", "exposure_at_default", "potential_exposure_ew", "wrong_way", "margin_call")
PARTY_CREDIT = (
    "potential_exposure",
    "exposure_at_default",
    "potential_exposure_ew",
    "settlement_exposure",
    "wrong_way",
)
"""What is computed where a book needs it: with working orders or netting-set terms, or with a limit that names it."""

SUMMED = ("gross_notional", "net_notional", "pnl")
UNDERLYING = (*SUMMED, "delta", "gamma", "vega", "concentration")
INSTRUMENT = (*SUMMED, "concentration")
HOLDING = ("gross_notional", "net_notional", "collateral_held", "concentration")
FIRM = (
    *SUMMED,
    "current_exposure",
    "potential_exposure",
    "exposure_at_default",
    "potential_exposure_ew",
    "settlement_exposure",
)

SHARD_SCOPES: dict[str, tuple[str, ...]] = {
    "account": (*ACCOUNT, *ORDERS, *STANDALONE),
    "netting_set": (*NETTING_SET, *CREDIT),
    "counterparty": (*COUNTERPARTY, *PARTY_CREDIT),
}
FIRM_WIDE_SCOPES: dict[str, tuple[str, ...]] = {
    "firm": FIRM,
    "group": (*COUNTERPARTY, *PARTY_CREDIT),
    "underlying": UNDERLYING,
    "venue": SUMMED,
}
REQUESTED_SCOPES: dict[str, tuple[str, ...]] = {
    "instrument": INSTRUMENT,
    "asset": HOLDING,
    "issuer": HOLDING,
    "strategy": SUMMED,
}
"""Scopes that span shards and are computed where a limit names one of their kind."""

MEASURES: dict[str, tuple[str, ...]] = {**SHARD_SCOPES, **FIRM_WIDE_SCOPES, **REQUESTED_SCOPES}
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
for _kind in (*SHARD_SCOPES, *FIRM_WIDE_SCOPES):
    MEASURES[_kind] = (*MEASURES[_kind], *PROBABILITIES)
MEASURES["counterparty"] = (*MEASURES["counterparty"], *LOSSES)
MEASURES["underlying"] = (*MEASURES["underlying"], *CASCADE_FORECASTS)
MEASURES["firm"] = (*MEASURES["firm"], *CASCADE_FORECASTS, *SYSTEMIC_FORECASTS, *LOSSES)
RATIOS = frozenset({"margin_ratio", "leverage", "distance_to_liquidation", *STANDALONE, "concentration", "wrong_way"})
RATIO_MAX = 1_000_000.0


def forecast_measures(section: Mapping[str, Any]) -> frozenset[str]:
    """Return the forecasts that are made under a configuration's ``[forecasts]``.

    Examples
    --------
    >>> measures = forecast_measures({"enabled": True})
    >>> "breach_probability_1h" in measures, "var_99" in measures
    (True, False)
    """
    if not section.get("enabled"):
        return frozenset()
    return FORECASTS if section.get("losses") else FORECASTS.difference(LOSSES)


def check_forecast_limits(limits: Iterable[Mapping[str, Any]], section: Mapping[str, Any]) -> str:
    """Return what is wrong with limits on forecasts that are not made, empty where nothing is."""
    made = forecast_measures(section)
    for limit in limits:
        if limit["measure"] in FORECASTS and limit["measure"] not in made:
            key = "losses" if limit["measure"] in LOSSES and section.get("enabled") else "enabled"
            return (
                f"the limit {limit['id']} is on {limit['measure']}, which is a forecast, and none are made; "
                f"set {key} = true under [forecasts]"
            )
    return ""


# Limit documents: what a ``[[limit]]`` may say (contract.md, "Limits").

LEVELS = ("warning", "soft", "hard")
TIGHTEN_PER_S = 0.01  # of base: from full to half in 50 s
LOOSEN_PER_S = 0.0005  # of base: from half to full in 17 minutes
STEP_MAX = 0.1  # of base, after however long a silence
LIMITS_MAX = 100_000
RATED_SCOPES = ("account", "netting_set", "counterparty")
_NOT_NEGATIVE = number_in(0, 1e12)
_TIME = number_in(0, 1 << 53)
_POWER = number_in(0, 4)
_PER_S = number_in(1e-9, 1)

_LIMIT: Table = {
    "id": Field("text", rule=text_like(IDENTIFIER_PATTERN)),
    "scope": Field("text"),
    "measure": Field("text"),
    "direction": Field("text", "above", one_of("above", "below")),
    "warning": Field("number", ABSENT),
    "soft": Field("number", ABSENT),
    "hard": Field("number", ABSENT),
    "exit_ratio": Field("number", 1.0, number_in(1e-9, 1)),
    "dwell_s": Field("number", 0, _NOT_NEGATIVE),
    "window_s": Field("number", ABSENT, number_in(0.1, 31_536_000)),
    "floor": Field("number", ABSENT),
    "ceiling": Field("number", ABSENT),
    "scaling": Field("table", ABSENT),
    "valid_from_us": Field("integer", ABSENT, _TIME),
    "valid_to_us": Field("integer", ABSENT, _TIME),
    "owner": Field("text", ABSENT),
}
_SCALING: Table = {
    "volatility_power": Field("number", 1.0, _POWER),
    "depth_power": Field("number", 0.0, _POWER),
    "rating": Field("table", ABSENT),
    "underlyings": Field("texts", ABSENT),
    "reference_volatility": Field("number", ABSENT, number_in(1e-6, 1e6)),
    "stressed_volatility": Field("number", ABSENT, number_in(1e-6, 1e6)),
    "reference_depth": Field("number", ABSENT, number_in(1e-6, 1e18)),
    "tighten_per_s": Field("number", TIGHTEN_PER_S, _PER_S),
    "loosen_per_s": Field("number", LOOSEN_PER_S, _PER_S),
    "step_max": Field("number", STEP_MAX, _PER_S),
}


def read_limits(content: dict[str, Any], file: str) -> list[dict[str, Any]]:
    """Return the limits of a limits file, checked, defaults filled in.

    Raises
    ------
    UsageError
        Naming the file, the limit and the nearest valid name.
    """
    tables = check_table(content, {"limit": Field("tables", [])}, file)["limit"]
    if len(tables) > LIMITS_MAX:
        raise UsageError(f"{file}: {len(tables)} limits, at most {LIMITS_MAX}")
    return check_limits(tables, f"{file} [[limit]]")


def check_limits(tables: list[dict[str, Any]], file: str) -> list[dict[str, Any]]:
    """Return limits checked, defaults filled in, each id once; raise UsageError naming the limit."""
    limits = [_limit(table, f"{file} {table.get('id', number)}") for number, table in enumerate(tables, 1)]
    seen: set[str] = set()
    for limit in limits:
        if limit["id"] in seen or limit["id"] == "default-deny":
            raise UsageError(f"{file}: the limit id {limit['id']!r} is taken; give each limit its own")
        seen.add(limit["id"])
    return limits


def check_scope(scope: str, place: str) -> str:
    """Return the kind of a scope ``kind:NAME``, ``kind:*`` or ``firm``; raise UsageError for any other."""
    kind, colon, name = scope.partition(":")
    if kind not in MEASURES:
        raise UsageError(f"{place}: there is no scope {kind!r}; did you mean {nearest(kind, MEASURES)!r}?")
    if (kind == "firm") == bool(colon):
        raise UsageError(f"{place}: scope is {scope!r}; write firm, or {kind}:NAME or {kind}:*")
    broken = "" if kind == "firm" or name == "*" else text_like(IDENTIFIER_PATTERN)(name)
    if broken:
        raise UsageError(f"{place}: the name in scope {scope!r} {broken}")
    return kind


def _limit(table: dict[str, Any], place: str) -> dict[str, Any]:
    limit = check_table(table, _LIMIT, place)
    measures = MEASURES[check_scope(limit["scope"], place)]
    if limit["measure"] not in measures:
        wanted = limit["measure"]
        raise UsageError(
            f"{place}: {limit['scope']} has no measure {wanted!r}; did you mean {nearest(wanted, measures)!r}?"
        )
    _check_levels(limit, place)
    _check_scaling(limit, place)
    if limit.get("valid_from_us", 0) >= limit.get("valid_to_us", 1 << 60):
        raise UsageError(f"{place}: valid_to_us must lie after valid_from_us")
    return limit


def _check_levels(limit: dict[str, Any], place: str) -> None:
    levels = [limit[level] for level in LEVELS if level in limit]
    if not levels:
        raise UsageError(f"{place}: no level; give at least one of {', '.join(LEVELS)}")
    if levels != sorted(levels, reverse=limit["direction"] == "below"):
        order = "fall" if limit["direction"] == "below" else "rise"
        raise UsageError(f"{place}: the levels must {order} from warning to hard")


def _check_scaling(limit: dict[str, Any], place: str) -> None:
    """Check what moves a limit with the market; its floor and ceiling bound its highest level."""
    if "scaling" not in limit:
        if "floor" in limit or "ceiling" in limit:
            raise UsageError(f"{place}: floor and ceiling bound a limit that scales; add scaling or remove them")
        return
    scaling = limit["scaling"] = check_table(limit["scaling"], _SCALING, f"{place}: scaling")
    base = next(limit[level] for level in reversed(LEVELS) if level in limit)
    if "window_s" in limit:
        raise UsageError(f"{place}: a limit on a change over window_s does not scale; remove scaling")
    tightest = "ceiling" if limit["direction"] == "below" else "floor"
    if tightest not in limit:
        raise UsageError(f"{place}: a limit that scales needs a {tightest}, the tightest that it may become")
    floor, ceiling = (limit.setdefault(name, base) for name in ("floor", "ceiling"))
    if not 0 < floor <= base <= ceiling:
        raise UsageError(f"{place}: needs 0 < floor <= {base:g} <= ceiling, of its highest level")
    if scaling["loosen_per_s"] > scaling["tighten_per_s"]:
        raise UsageError(f"{place}: scaling: loosen_per_s must not exceed tighten_per_s")
    _check_ratings(limit, scaling.get("rating", {}), place)


def _check_ratings(limit: dict[str, Any], ratings: dict[str, Any], place: str) -> None:
    if ratings and limit["scope"].partition(":")[0] not in RATED_SCOPES:
        raise UsageError(f"{place}: {limit['scope']} has no rating; use {', '.join(RATED_SCOPES)} or remove rating")
    for name, factor in ratings.items():
        known = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not known or not 0 < factor <= 100:
            raise UsageError(f"{place}: scaling: rating {name} is {factor!r}; it must be a factor above 0, at most 100")
