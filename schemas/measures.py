"""Measures, and the limits that are set on them.

The measures that this version computes, per kind of scope (contract.md, "Measures"), in the order of the records; and
the check of a ``[[limit]]`` of a limit document (contract.md, "Limits"): its scope, its measure, its levels and how it
scales with the market.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.tables import Name, Number, Table, between, check_table, nearest, ruled, unknown

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
UNEXPLAINED, DRAWDOWN = "unexplained", "drawdown"
# Of accounts, where a limit names them, or the drawdown: on no row of ``exposures``.
PNL = ("pnl", UNEXPLAINED)
# A P&L explain: the change of P&L, and the terms that add up to it.
EXPLAINED = ("pnl", "delta", "gamma", "vega", "theta", "funding", "fees", "new_trades", UNEXPLAINED)
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
UNDERLYING = (*SUMMED, "delta", "gamma", "vega", "concentration", "theta")
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
MEASURES["account"] = (*MEASURES["account"], *PNL)
MEASURES["firm"] = (*MEASURES["firm"], UNEXPLAINED)
for _kind, _measures in MEASURES.items():
    if "pnl" in _measures:
        MEASURES[_kind] = (*_measures, DRAWDOWN)
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
DRAWDOWN_WINDOW_S = 86_400.0  # of a limit on a drawdown that gives none
RATED_SCOPES = ("account", "netting_set", "counterparty")

Level = Literal["warning", "soft", "hard"]
_Moment: TypeAlias = Annotated[int, between(0, 1 << 53)] | UnsetType
_Power: TypeAlias = Annotated[float, between(0, 4)]
_PerSecond: TypeAlias = Annotated[float, between(1e-9, 1)]
_Volatility: TypeAlias = Annotated[float, between(1e-6, 1e6)] | UnsetType
_Factor: TypeAlias = Annotated[float, ruled("must be a factor above 0, at most 100", gt=0, le=100)]


class Scaling(Table, frozen=True):
    """How a limit moves with the market."""

    volatility_power: _Power = 1.0
    depth_power: _Power = 0.0
    rating: dict[str, _Factor] | UnsetType = UNSET
    underlyings: tuple[str, ...] | UnsetType = UNSET
    reference_volatility: _Volatility = UNSET
    stressed_volatility: _Volatility = UNSET
    reference_depth: Annotated[float, between(1e-6, 1e18)] | UnsetType = UNSET
    tighten_per_s: _PerSecond = TIGHTEN_PER_S
    loosen_per_s: _PerSecond = LOOSEN_PER_S
    step_max: _PerSecond = STEP_MAX

    def __post_init__(self) -> None:
        if self.loosen_per_s > self.tighten_per_s:
            raise ValueError("loosen_per_s must not exceed tighten_per_s")


class LimitTable(Table, frozen=True):
    """A ``[[limit]]``: a measure of a scope, and the levels that it must not pass."""

    id: Name
    scope: str
    measure: str
    direction: Literal["above", "below"] = "above"
    warning: Number | UnsetType = UNSET
    soft: Number | UnsetType = UNSET
    hard: Number | UnsetType = UNSET
    exit_ratio: Annotated[float, between(1e-9, 1)] = 1.0
    dwell_s: Annotated[float, between(0, 1e12)] = 0
    window_s: Annotated[float, between(0.1, 31_536_000)] | UnsetType = UNSET
    floor: Number | UnsetType = UNSET
    ceiling: Number | UnsetType = UNSET
    scaling: Scaling | UnsetType = UNSET
    valid_from_us: _Moment = UNSET
    valid_to_us: _Moment = UNSET
    owner: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        kind = scope_kind(self.scope)
        if self.measure not in MEASURES[kind]:
            near = nearest(self.measure, MEASURES[kind])
            raise ValueError(f"{self.scope} has no measure {self.measure!r}; did you mean {near!r}?")
        levels = [level for level in (self.warning, self.soft, self.hard) if level is not UNSET]
        if not levels:
            raise ValueError(f"no level; give at least one of {', '.join(LEVELS)}")
        if levels != sorted(levels, reverse=self.direction == "below"):
            raise ValueError(f"the levels must {'fall' if self.direction == 'below' else 'rise'} from warning to hard")
        if self.measure == DRAWDOWN and (self.direction == "below" or self.scaling is not UNSET):
            raise ValueError(
                "a drawdown is a loss: its limit is above, and does not scale; remove direction and scaling"
            )
        self._check_scaling(levels[-1], kind)
        if (self.valid_from_us or 0) >= (1 << 60 if self.valid_to_us is UNSET else self.valid_to_us):
            raise ValueError("valid_to_us must lie after valid_from_us")

    def _check_scaling(self, base: float, kind: str) -> None:
        """Check what moves the limit with the market; its floor and ceiling bound its highest level."""
        if self.scaling is UNSET:
            if self.floor is not UNSET or self.ceiling is not UNSET:
                raise ValueError("floor and ceiling bound a limit that scales; add scaling or remove them")
            return
        if self.window_s is not UNSET:
            raise ValueError("a limit on a change over window_s does not scale; remove scaling")
        tightest = "ceiling" if self.direction == "below" else "floor"
        if getattr(self, tightest) is UNSET:
            raise ValueError(f"a limit that scales needs a {tightest}, the tightest that it may become")
        floor, ceiling = (base if bound is UNSET else bound for bound in (self.floor, self.ceiling))
        if not 0 < floor <= base <= ceiling:
            raise ValueError(f"needs 0 < floor <= {base:g} <= ceiling, of its highest level")
        if self.scaling.rating and kind not in RATED_SCOPES:
            raise ValueError(f"{self.scope} has no rating; use {', '.join(RATED_SCOPES)} or remove rating")


class LimitsFile(Table, frozen=True):
    """A limits file."""

    limit: Annotated[tuple[LimitTable, ...], Meta(max_length=LIMITS_MAX)] = ()


def read_limits(content: dict[str, Any], file: str) -> list[dict[str, Any]]:
    """Return the limits of a limits file, checked, defaults filled in.

    Raises
    ------
    UsageError
        Naming the file, the limit and the nearest valid name.
    """
    return _once(check_table(content, LimitsFile, file)["limit"], f"{file} [[limit]]")


def check_limits(tables: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    """Return limits checked, defaults filled in, each id once; raise UsageError naming the limit."""
    return _once(check_table(tables, list[LimitTable], place), place)


def _once(limits: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    """Check that each id stands once; give a limit the bound, or the window of a drawdown, that it leaves out."""
    seen = {"default-deny", "unvalued_position"}
    for limit in limits:
        if limit["id"] in seen:
            raise UsageError(f"{place}: the limit id {limit['id']!r} is taken; give each limit its own")
        seen.add(limit["id"])
        if limit["measure"] == DRAWDOWN:
            limit.setdefault("window_s", DRAWDOWN_WINDOW_S)
        if "scaling" in limit:
            base = next(limit[level] for level in reversed(LEVELS) if level in limit)
            for bound in ("floor", "ceiling"):
                limit.setdefault(bound, base)
    return limits


def scope_kind(scope: str) -> str:
    """Return the kind of a scope ``kind:NAME``, ``kind:*`` or ``firm``; raise ValueError for any other."""
    kind, colon, name = scope.partition(":")
    if kind not in MEASURES:
        raise ValueError(unknown("scope", kind, MEASURES))
    if (kind == "firm") == bool(colon):
        raise ValueError(f"scope is {scope!r}; write firm, or {kind}:NAME or {kind}:*")
    if kind != "firm" and name != "*" and not re.fullmatch(IDENTIFIER_PATTERN, name):
        raise ValueError(f"the name in scope {scope!r} must match {IDENTIFIER_PATTERN}")
    return kind
