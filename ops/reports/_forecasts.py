"""Forecasts of a run, ``seawall forecast``: accounts likely to break next and why, possible losses, systemic stress.

Read from the topic ``forecasts``: the latest forecast of each account, level and horizon, and the figures of the last
hour of event time. Scores of earlier forecasts are added up over shards. Losses are there by counterparty and for the
firm where ``[forecasts]`` has ``losses``.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table as View

from seawall.connectors.bus import Bus, read_all
from seawall.operators.core.forecasts import MEASURED_STEPS, STRESS_ALARM
from seawall.ops.reports._limits import time_text
from seawall.schemas.errors import UsageError

# What ``seawall forecast`` says of losses: by counterparty and for the firm, where ``[forecasts]`` has ``losses``.

LOSSES_SHOWN = {
    "var_99_1h": "VaR 99 % 1 h",
    "es_975_1h": "ES 97.5 % 1 h",
    "var_99": "VaR 99 % 1 d",
    "es_975": "ES 97.5 % 1 d",
    "stress_loss": "stress",
}


def order_losses(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of losses, one of each scope: the firm first, then by what the worst scenario would take."""
    return sorted(rows, key=lambda row: (row["scope"] != "firm", -row["stress_loss"], row["scope"]))


def print_losses(rows: list[dict[str, Any]], currency: str, top: int, console: Console | None = None) -> None:
    """Print the firm and the counterparties that lose most, in the reporting currency; nothing where there are none."""
    if not rows:
        return
    console = console or Console()
    console.print(f"Losses in {currency}, the firm and the largest by stress")
    view = View(title_justify="left")
    for name in ("scope", *LOSSES_SHOWN.values(), "worst scenario", "state"):
        view.add_column(name, overflow="fold", justify="right" if name in LOSSES_SHOWN.values() else "left")
    for row in rows[: top + 1]:
        view.add_row(row["scope"], *(f"{row[name]:,.2f}" for name in LOSSES_SHOWN), row["worst"], row["state"])
    console.print(view)


# What ``seawall forecast`` says of systemic stress and of cascades, in words.

RAISED = 0.4
UNKNOWN = {
    "warming": "not known yet: fewer than two days have been seen",
    "constant": "no price has moved",
    "empty": "there is nothing to look at",
    "no_own_funds": "own funds of fewer than two are known",
}
MEANS: dict[str, Callable[[float, str], str]] = {
    "turbulence": lambda value, _: f"the last hour's moves are {value**0.5:.1f} times as large as usual",
    "absorption_ratio": lambda value, _: f"the first fifth of causes explains {value:.0%} of all moves of a day",
    "funding_stretch": lambda value, _: f"funding rates lie {value:.1f} deviations from what they usually are",
    "open_interest_stretch": lambda value, _: f"open interest lies {value:.1f} deviations from what it usually is",
    "stablecoin_share": lambda value, _: f"{value:.0%} of collateral is stablecoins",
    "network_centrality": lambda value, central: (
        f"the default of {central} would cost all others {value:.0%} of their own funds"
        if central
        else "no default would cost others any own funds"
    ),
}


def systemic_level(stress: float) -> str:
    """Return the composite's level in a word.

    Examples
    --------
    >>> systemic_level(0.1), systemic_level(0.45), systemic_level(0.8)
    ('calm', 'raised', 'alarm')
    """
    return "alarm" if stress >= STRESS_ALARM else "raised" if stress >= RAISED else "calm"


def print_systemic(row: dict[str, Any], console: Console) -> None:
    """Print the composite and what each part means, those that raise it most first."""
    stress, hours = row["systemic_stress"], row["hours"]
    past = f", above the worst of {row['rank']:.0%} of the last {hours:,} hours" if hours else ""
    console.print(f"Systemic stress {stress:.2f} of 1, {systemic_level(stress)}{past}")
    view = View(title_justify="left")
    for name in ("part", "what it says", "score", "weight"):
        view.add_column(name, overflow="fold", justify="right" if name in ("score", "weight") else "left")
    for name, part in sorted(row["parts"].items(), key=lambda item: -item[1]["score"] * item[1]["weight"]):
        known = UNKNOWN.get(part["state"]) or MEANS[name](part["value"], row["most_central"])
        view.add_row(name, known, f"{part['score']:.2f}", f"{part['weight']:g}")
    console.print(view)


def worst_cascade(row: dict[str, Any]) -> dict[str, Any]:
    """Return the worst multiplier of moves of up to 20 % (None: without end) and the first move that does not end."""
    near = [grown for grown, close in zip(row["cascade_multiplier"], MEASURED_STEPS.tolist(), strict=True) if close]
    worst = None if None in near else float(np.max(near))
    return {
        "scope": row["scope"],
        "cascade_multiplier": worst,
        "diverges_at": row["diverges_at"],
        "depth_known": row["depth_known"],
    }


def cascade_words(row: dict[str, Any]) -> str:
    """Return a cascade in words."""
    worst, first = row["cascade_multiplier"], row["diverges_at"]
    size = "would not come to rest" if worst is None else f"becomes up to {worst:.2f} times its size"
    rest = "" if first is None else f", from {first:+.0%} on it does not stop"
    note = "" if row["depth_known"] else " (depth assumed)"
    return f"{row['scope']}: a move of up to 20 % {size}{rest}{note}"


# ``seawall forecast``: who is likely to break next and why, and how good such forecasts have been.

WORDS = {
    "distance": "few deviations from the level",
    "concentration": "one underlying",
    "margin_trend": "margin ratio rising",
    "deposits": "paid in lately",
    "order_rate": "trades much",
    "earlier_breaches": "broke before",
    "trend": "use of the limit rising",
    "own_record": "broke more often than forecast",
}
LOWERS = {
    "distance": "far from the level",
    "concentration": "several underlyings",
    "margin_trend": "margin ratio falling",
    "deposits": "paid in lately",
    "order_rate": "trades much",
    "earlier_breaches": "broke before",
    "trend": "use of the limit falling",
    "own_record": "broke less often than forecast",
}
STRONG = 0.05  # of log-odds: less is no reason
GROWN = 1.05  # what becomes of a move: less is not worth a line


class ForecastReport(NamedTuple):
    """Forecasts of each account, level and horizon, likeliest first, and the scores of each level and horizon.

    ``systemic`` is the last composite with its parts, ``cascades`` what a move of each underlying becomes, ``losses``
    what the firm and each counterparty may lose.
    """

    as_of_us: int
    forecasts: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    quantiles: list[dict[str, Any]]
    systemic: dict[str, Any] | None
    cascades: list[dict[str, Any]]
    losses: list[dict[str, Any]]

    def explained(self, count: int) -> list[dict[str, Any]]:
        """Return the likeliest forecasts, each with what moves it most in words."""
        return [{**row, "why": forecast_reasons(row)} for row in self.forecasts[:count]]


def report_forecasts(bus: Bus, as_of_us: int | None) -> ForecastReport:
    """Return what stood on the topic at a time, all of it for None.

    Raises
    ------
    UsageError
        The run has made no forecasts.
    """
    in_force: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    scores: dict[str, dict[str, Any]] = {}
    cascades: dict[str, dict[str, Any]] = {}
    losses: dict[str, dict[str, Any]] = {}
    systemic, last_us = None, 0
    for value in _records(bus, as_of_us):
        last_us = max(last_us, value["as_of_us"])
        for row in value["forecasts"]:
            if row["state"] == "flat":
                for key in [key for key in in_force if key[0] == row["scope"]]:
                    del in_force[key]
            else:
                key = row["scope"], row.get("limit", ""), row["level"], row["horizon_s"]
                in_force[key] = row | {"since_us": value["as_of_us"]}
        if "scores" in value:
            scores[str(value["shard"])] = value
        systemic = value.get("systemic", systemic)
        cascades |= {row["scope"]: worst_cascade(row) for row in value.get("liquidations", ())}
        losses |= {row["scope"]: row | {"since_us": value["as_of_us"]} for row in value.get("losses", ())}
    if not last_us:
        raise UsageError("no forecasts here; set enabled = true under [forecasts] and run again")
    rows = sorted(in_force.values(), key=lambda row: (-row["probability"], row["scope"], row["horizon_s"]))
    quantiles = scores.get("0", {}).get("quantiles", [])
    summed = _together([one["scores"] for _, one in sorted(scores.items())])
    return ForecastReport(
        last_us, rows, summed, quantiles, systemic, list(cascades.values()), order_losses(losses.values())
    )


def _records(bus: Bus, as_of_us: int | None) -> Iterator[dict[str, Any]]:
    for partition in bus.partitions("forecasts"):
        for stored in read_all(bus, "forecasts", partition):
            value = json.loads(stored.value)
            if as_of_us is not None and value["as_of_us"] > as_of_us:
                break
            yield value


def _together(shards: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the scores of all shards by level and horizon: counts and tables added, losses weighted by outcomes."""
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in (row for rows in shards for row in rows):
        key = row.get("limit", ""), row["level"], row["horizon_s"]
        if key not in found:
            found[key] = {k: row[k] for k in ("measure", "level", "horizon_s", "bounds", "limit") if k in row}
            found[key] |= {"outcomes": 0, "breaches": 0, "models": {}, "states": [], "champions": []}
            found[key]["table"] = [[0.0] * 3 for _ in row["table"]]
        _add(found[key], row)
    return [found[key] for key in sorted(found)]


def _add(into: dict[str, Any], row: dict[str, Any]) -> None:
    share = row["outcomes"] / max(into["outcomes"] + row["outcomes"], 1)
    for name, figures in row["models"].items():
        old = into["models"].get(name, figures)
        blended = {k: old[k] + share * (figures[k] - old[k]) for k in ("log_loss", "brier")}
        into["models"][name] = blended | {"lost": old["lost"] or figures["lost"]}
    into["outcomes"] += row["outcomes"]
    into["breaches"] += row["breaches"]
    into["states"].append(row["state"])
    into["champions"].append(row["champion"])
    into["table"] = [
        [a + b for a, b in zip(*pair, strict=True)] for pair in zip(into["table"], row["table"], strict=True)
    ]


# --- forms ------------------------------------------------------------------------------------------------------------


def forecast_reasons(row: dict[str, Any]) -> str:
    """Return in words what moves a forecast most."""
    said = []
    for name, value in row.get("contributions", {}).items():
        if abs(value) >= STRONG:
            said.append(f"{(WORDS if value > 0 else LOWERS)[name]} ({value:+.1f})")
    return ", ".join(said) or "nothing stands out"


def print_forecasts(found: ForecastReport, horizon_s: int, top: int, console: Console | None = None) -> None:
    """Print the likeliest to break within a horizon, and why; then systemic stress, and what would feed itself."""
    console = console or Console()
    rows = [row for row in found.forecasts if row["horizon_s"] == horizon_s][:top]
    console.print(f"Forecasts as of {time_text(found.as_of_us)} UTC, within {horizon_s:,} s")
    view = View(title_justify="left")
    for name in ("scope", "level", "probability", "state", "why (log-odds)", "said"):
        view.add_column(name, overflow="fold", justify="right" if name == "probability" else "left")
    for row in rows:
        head = (row["scope"], row["level"], f"{row['probability']:.4f}", row["state"])
        view.add_row(*head, forecast_reasons(row), time_text(row["since_us"]))
    console.print(view if rows else "No account has a margin to lose.")
    if found.systemic is not None:
        print_systemic(found.systemic, console)
    for one in found.cascades:
        if one["cascade_multiplier"] is None or one["cascade_multiplier"] > GROWN:
            console.print(cascade_words(one))


def print_forecast_scores(found: ForecastReport, console: Console | None = None) -> None:
    """Print how good forecasts have been: scores by model, reliability by bin, quantiles."""
    console = console or Console()
    for row in found.scores:
        champion, state = ", ".join(sorted(set(row["champions"]))), ", ".join(sorted(set(row["states"])))
        named = f", limit {row['limit']}," if "limit" in row else ""
        head = f"{row['measure']}{named} {row['level']} within {row['horizon_s']:,} s"
        console.print(f"\n{head}: {row['outcomes']:,} outcomes, {row['breaches']:,} breaches, {champion}, {state}")
        for name, figures in row["models"].items():
            lost = "  calibration lost" if figures["lost"] else ""
            console.print(f"  {name:<11} log loss {figures['log_loss']:.5f}  Brier {figures['brier']:.5f}{lost}")
        for low, count, mean, share in reliability_bins(row):
            console.print(f"  from {low:<6g} {count:>9,}  said {mean:.4f}  came {share:.4f}")
    for row in found.quantiles:
        covered = ", ".join(f"{level}: {share:.4f}" for level, share in row["coverage"].items())
        console.print(f"\nquantiles within {row['horizon_s']:,} s: {row['outcomes']:,} outcomes, coverage {covered}")


def reliability_bins(row: dict[str, Any]) -> list[tuple[float, int, float, float]]:
    """Return by bin its lower bound, count, mean forecast and the share that came."""
    lows = [0.0, *row["bounds"]]
    filled = [(low, *one) for low, one in zip(lows, row["table"], strict=True) if one[0]]
    return [(low, int(count), total / count, came / count) for low, count, total, came in filled]


def plot_reliability(found: ForecastReport, path: Path) -> None:
    """Draw what was said against what came, one line per level and horizon.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - extra lab
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install 'bytewax-seawall[lab]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 - extra lab

    figure, axes = pyplot.subplots(figsize=(6, 6))
    axes.plot([1e-4, 1.0], [1e-4, 1.0], color="0.7", label="as said")
    for row in found.scores:
        points = [(mean, max(share, 1e-4)) for _, _, mean, share in reliability_bins(row)]
        if row["breaches"]:
            axes.plot(*zip(*points, strict=True), marker="o", label=f"{row['level']}, {row['horizon_s']:,} s")
    axes.set(xscale="log", yscale="log", xlabel="probability said", ylabel="share that came")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
