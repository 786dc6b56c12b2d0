"""Plots of a backtest's report; each returns an SVG, or nothing where there is nothing to show."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seawall.ops.lab.report._figures import (
    BAD,
    GOOD,
    LEVELS,
    MUTED,
    SERIES,
    figure,
    moment,
    money_axis,
    time_axis,
    variant_label,
)

Json = dict[str, Any]
KINDS_MAX, CLIENTS_SHOWN, POINTS_MAX = 10, 24, 800
ZONES = {"green": "#4c9a57", "amber": "#e0a13c", "red": "#b3394a"}
LADDER = ("CALL_MARGIN", "CANCEL_ORDERS", "REDUCE_ONLY", "REDUCE_POSITION", "SUSPEND", "HALT_TRADING",
          "BLOCK_COUNTERPARTY")  # fmt: skip


def prices(series: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Draw every instrument's price, 100 at the beginning."""
    if not series:
        return ""
    with figure(height=2.9) as (_, axes, drawn):
        for at, (name, points) in enumerate(sorted(series.items())):
            times, values = zip(*points, strict=True)
            label = name.removesuffix("-PERP")
            axes.plot([moment(t) for t in times], [100 * v / values[0] for v in values], lw=1.3,
                      color=SERIES[at % len(SERIES)], label=label)  # fmt: skip
        axes.axhline(100, color=MUTED, lw=0.8)
        axes.set_ylabel("100 = first price")
        axes.legend(ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
        time_axis(axes)
    return drawn[0]


def shortfall(without: Json | None, with_: Json) -> str:
    """Draw what clients cannot pay through time, without and with mitigation, over what was commanded."""
    kinds = [kind for kind in LADDER if with_["command_kinds"].get(kind)]
    kinds += [kind for kind in sorted(with_["command_kinds"]) if kind not in kinds]
    ratios = {"height_ratios": [3, max(len(kinds[:KINDS_MAX]) * 0.33, 0.5)]}
    with figure(2, height=4.6, sharex=True, gridspec_kw=ratios) as (_, (above, below), drawn):
        for one, colour in ((without, BAD), (with_, GOOD)):
            if one is not None:
                times, values = _thin(one["trace"]["times_us"], one["trace"]["shortfall"])
                above.fill_between([moment(t) for t in times], values, color=colour, alpha=0.16, lw=0)
                above.plot([moment(t) for t in times], values, color=colour, lw=1.6, label=variant_label(one))
        above.set_title("What clients owe beyond all that they have")
        above.set_ylim(bottom=0)
        money_axis(above.yaxis)
        above.legend(loc="upper left")
        _strip(below, with_["commands"], kinds[:KINDS_MAX])
    return drawn[0]


def _strip(axes: Any, commands: list[Json], kinds: list[str]) -> None:
    """Draw a row of marks per kind of command."""
    for row, kind in enumerate(kinds):
        times = [moment(one["as_of_us"]) for one in commands if one["type"] == kind]
        axes.scatter(times, [row] * len(times), marker="|", s=46, lw=1.0, color=GOOD, alpha=0.75)
    names = [f"{kind.replace('_', ' ').lower()}" for kind in kinds]
    axes.set_yticks(range(len(kinds)), names)
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_title("Commands")
    time_axis(axes)


def exposure(variants: Sequence[Json], limits: Sequence[Json]) -> str:
    """Draw the firm's exposure through time, with limits on it and the times at which limits were broken."""
    shown = [one for one in variants if one["trace"]["firm"].get("current_exposure")]
    if not shown:
        return ""
    with figure(height=3.0) as (_, axes, drawn):
        for one, colour in zip(shown[-2:], (BAD, GOOD)[-len(shown[-2:]) :], strict=True):
            times, values = _thin(one["trace"]["times_us"], one["trace"]["firm"]["current_exposure"])
            axes.plot([moment(t) for t in times], values, color=colour, lw=1.4, label=variant_label(one))
        for level, colour in LEVELS.items():
            hit = [b["as_of_us"] for b in shown[-1]["breaches"] if b["level"] == level]
            if hit:
                axes.plot([moment(t) for t in hit], [0.0] * len(hit), "|", ms=9, mew=1.0, color=colour, alpha=0.6,
                          clip_on=False, label=f"a limit reaches {level}")  # fmt: skip
        given = [moment(command["as_of_us"]) for command in shown[-1]["commands"]]
        rug = {"ms": 9, "mew": 0.8, "color": GOOD, "alpha": 0.5, "label": "command"}
        axes.plot(given, [0.985] * len(given), "|", transform=axes.get_xaxis_transform(), **rug)
        highest = max(max(one["trace"]["firm"]["current_exposure"]) for one in shown)
        for limit in limits:
            for level, colour in LEVELS.items():
                if limit["measure"] == "current_exposure" and limit["scope"] == "firm" and level in limit:
                    axes.axhline(limit[level], color=colour, ls="--", lw=1.1, label=f"{level} of limit {limit['id']}")
                    highest = max(highest, limit[level])
        axes.set_ylim(0, highest * 1.35 or 1)
        axes.set_title("The firm's current exposure: what all counterparties together owe it, less collateral")
        money_axis(axes.yaxis)
        axes.legend(loc="upper left", ncols=3, bbox_to_anchor=(0.0, 0.96), fontsize=8.5)
        time_axis(axes)
    return drawn[0]


def utilisation(variants: Sequence[Json], hard: float) -> str:
    """Draw a heat map: how much of its margin limit each client used, hour by hour; the worst clients first."""
    first = variants[0]["trace"]["hours"]
    order = sorted(first, key=lambda name: (-sum(min(v, 4 * hard) for _, v in first[name]), name))
    names = [name for name in order if not name.startswith("house/")][:CLIENTS_SHOWN]
    hours = sorted({hour for one in variants for name in names for hour, _ in one["trace"]["hours"].get(name, ())})
    if not names or not hours:
        return ""
    from matplotlib.colors import BoundaryNorm, ListedColormap  # noqa: PLC0415 - extra lab

    bounds = [0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
    colours = ListedColormap(["#eef3f6", "#cfe0e8", "#f4dfa6", "#eeb06a", "#d9704a", "#b3394a"]).with_extremes(
        over="#611322"
    )
    norm = BoundaryNorm(bounds, colours.N)
    height = 1.1 + 0.19 * len(names)
    with figure(1, len(variants), height=height, sharey=True, squeeze=False) as (made, axes, drawn):
        for place, (axis, one) in enumerate(zip(axes[0], variants, strict=True)):
            picture = axis.pcolormesh(
                [moment(h * 3.6e9) for h in [*hours, hours[-1] + 1]], range(len(names) + 1),
                _grid(one["trace"]["hours"], names, hours) / hard, cmap=colours, norm=norm, rasterized=True,
            )  # fmt: skip
            axis.set_title(variant_label(one))
            axis.grid(False)
            time_axis(axis)
            if place == 0:
                axis.set_yticks([at + 0.5 for at in range(len(names))], [n.partition("/")[0] for n in names], size=7)
        axes[0][0].invert_yaxis()
        bar = made.colorbar(picture, ax=axes[0].tolist(), extend="max", pad=0.01, aspect=32)
        bar.ax.set_yticks(bounds, [f"{b:.0%}" for b in bounds])
    return drawn[0]


def _grid(found: Mapping[str, Any], names: list[str], hours: list[int]) -> Any:
    """Return values by client and hour; an hour in which nothing moved has the value of the one before."""
    grid = np.zeros((len(names), len(hours)))
    for row, name in enumerate(names):
        known, last = dict(found.get(name, ())), 0.0
        for column, hour in enumerate(hours):
            last = known.get(hour, last)
            grid[row, column] = last
    return grid


def distribution(variants: Sequence[Json]) -> str:
    """Draw what each client ends with: the losses of those below nothing are the firm's."""
    equities = {
        variant_label(one): [v for k, v in one["equity"].items() if not k.startswith("house/")] for one in variants
    }
    values = [value for found in equities.values() for value in found]
    if not values:
        return ""
    low, high = min([*values, 0.0]), float(np.quantile(values, 0.95))
    edges = np.linspace(low, max(high, low + 1), 41)
    edges -= edges[int(np.argmin(np.abs(edges)))]  # an edge at nothing: left of it is the firm's loss
    with figure(1, len(variants), height=2.5, sharey=True, squeeze=False) as (_, axes, drawn):
        for axis, (name, found) in zip(axes[0], equities.items(), strict=True):
            counts, _ = np.histogram(np.clip(found, edges[0], edges[-1]), edges)
            colours = [BAD if right <= 1e-9 else GOOD for right in edges[1:]]
            axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white", lw=0.4)
            axis.axvline(0, color=MUTED, lw=1)
            below = sum(v < 0 for v in found)
            axis.set_title(f"{name}: {below} of {len(found)} below nothing")
            axis.set_xlabel("equity at the end; above the 95th percentile in the last bar")
            money_axis(axis.xaxis)
        axes[0][0].set_ylabel("clients")
    return drawn[0]


def lights(verdicts: Sequence[Json]) -> str:
    """Draw where the losses beyond value at risk lie on Basel's traffic light, a row per scope."""
    tested = [one for one in verdicts if one["tests"] is not None][:12]
    if not tested:
        return ""
    with figure(height=0.7 + 0.34 * len(tested)) as (_, axes, drawn):
        for row, one in enumerate(tested):
            light = one["tests"]["light"]
            end = max(light["red_from"] * 1.35, one["tests"]["hits"] + 1)
            for zone, left, right in (
                ("green", 0, light["amber_from"]), ("amber", light["amber_from"], light["red_from"]),
                ("red", light["red_from"], end),
            ):  # fmt: skip
                axes.barh(row, (right - left) / end, left=left / end, color=ZONES[zone], alpha=0.55, height=0.62)
            at = (one["tests"]["hits"] + 0.5) / end
            axes.plot(at, row, "D", color="#1d2733", ms=6)
            expected = one["observations"] * 0.01
            axes.text(
                1.01, row, f"{one['tests']['hits']} of {one['observations']} ({expected:.0f} expected)", va="center"
            )
        axes.set_yticks(range(len(tested)), [f"{one['scope']}, {one['every']}" for one in tested])
        axes.set_xticks([])
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.grid(False)
        axes.set_title("Losses beyond var_99 on the traffic light")
    return drawn[0]


def network(cascade: Mapping[str, Any]) -> str:
    """Draw a cascade: who owes whom, and in which round each failed.

    Parameters
    ----------
    cascade
        ``nodes``: ``{"id", "size", "round"}`` (round None: stands); ``edges``: ``[borrower, lender, amount]``.
    """
    nodes, edges = cascade["nodes"], cascade["edges"]
    rounds = sorted({node["round"] for node in nodes if node["round"] is not None})
    ring_numbers = {
        node["id"]: rounds.index(node["round"]) if node["round"] is not None else len(rounds) for node in nodes
    }
    places = _placed(nodes, ring_numbers)
    most = max((amount for _, _, amount in edges), default=1.0) or 1.0
    largest = max((node["size"] for node in nodes), default=1.0) or 1.0
    with figure(height=5.6) as (_, axes, drawn):
        for borrower, lender, amount in edges:
            (x0, y0), (x1, y1) = places[borrower], places[lender]
            axes.plot([x0, x1], [y0, y1], color=MUTED, lw=0.3 + 2.2 * amount / most, alpha=0.35, zorder=1)
        for ring, number in enumerate([*rounds, None]):
            mine = [node for node in nodes if ring_numbers[node["id"]] == ring]
            colour = GOOD if number is None else ("#611322", BAD, "#d9704a", "#eeb06a", "#f4dfa6")[min(ring, 4)]
            label = "stands" if number is None else "fails first" if ring == 0 else f"fails in round {number}"
            spots = [places[node["id"]] for node in mine]
            sizes = [40 + 500 * node["size"] / largest for node in mine]
            if mine:
                axes.scatter(*zip(*spots, strict=True), s=sizes, color=colour, edgecolor="white", label=label, zorder=2)
        for node in nodes if len(nodes) <= 60 else ():
            axes.annotate(node["id"], places[node["id"]], ha="center", va="center", fontsize=7, zorder=3)
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=0.7)
    return drawn[0]


def _placed(nodes: Sequence[Mapping[str, Any]], ring_numbers: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Return a place for each node: those that fail together on one ring, the first in the middle."""
    places = {}
    for ring in sorted(set(ring_numbers.values())):
        mine = [node["id"] for node in nodes if ring_numbers[node["id"]] == ring]
        radius = 0.0 if ring == 0 and len(mine) == 1 else ring + 0.6
        for at, name in enumerate(mine):
            angle = 2 * math.pi * (at + 0.5 * (ring % 2)) / len(mine)
            places[name] = (radius * math.cos(angle), radius * math.sin(angle))
    return places


def _thin(times: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return at most ``POINTS_MAX`` points, of each stretch the highest."""
    step = max(-(-len(times) // POINTS_MAX), 1)
    best = [max(range(at, min(at + step, len(times))), key=values.__getitem__) for at in range(0, len(times), step)]
    return [times[at] for at in best], [values[at] for at in best]
