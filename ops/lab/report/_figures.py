"""Look and wording of a report: inline SVG figures of one style (needs ``matplotlib``), and results in sentences."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from seawall.schemas.errors import UsageError

# Figures as inline SVG: one look for all, text as text, sizes in inches for a page 10 wide; needs ``matplotlib``.

INK, MUTED, GRID = "#1d2733", "#5b6875", "#dde3e8"
BAD, GOOD, LIMIT = "#b3394a", "#1b6e8c", "#8a5a00"
LEVELS = {"warning": "#e0b23c", "soft": "#d97c2b", "hard": "#b3394a"}
SERIES = ("#1b6e8c", "#d97c2b", "#5a8f3d", "#8056a8", "#b3394a", "#7a6a53", "#3d8f86", "#c2569a")
WIDTH = 10.0
_style: Any = {
    "font.family": "sans-serif", "font.size": 9.5, "axes.edgecolor": MUTED, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7,
    "xtick.color": MUTED, "ytick.color": MUTED, "text.color": INK, "axes.titlesize": 10.5, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "seawall",
}  # fmt: skip
_ids = re.compile(r'(id="|xlink:href="#|url\(#)')


@contextmanager
def figure(
    rows: int = 1, columns: int = 1, height: float = 3.0, **options: Any
) -> Iterator[tuple[Any, Any, list[str]]]:
    """Yield a figure, its axes, and a list that holds its SVG when the block ends.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: PLC0415 - extra lab
    except ImportError:
        raise UsageError("reports need matplotlib; install it with: pip install 'bytewax-seawall[lab]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 - extra lab

    drawn: list[str] = []
    with matplotlib.rc_context(_style):
        made, axes = pyplot.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **options)
        try:
            yield made, axes, drawn
            out = io.StringIO()
            made.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        finally:
            pyplot.close(made)
    drawn.append(out.getvalue()[out.getvalue().index("<svg") :])


def distinct(svg: str, name: str) -> str:
    """Return an SVG whose ids begin with a name, so that several stand in one page."""
    return _ids.sub(lambda found: f"{found[1]}{name}-", svg)


def moment(time_us: float) -> datetime:
    """Return a time as matplotlib takes it, UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC)


def money(value: float) -> str:
    """Return an amount for a person: 8.37 million.

    Examples
    --------
    >>> money(8371005.9), money(-12_300), money(0.2)
    ('8.37 million', '−12,300', '0')
    """
    size, sign = abs(value), "−" if value <= -0.5 else ""
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if size >= unit:
            return f"{sign}{size / unit:,.2f}{name}"
    return f"{sign}{size:,.0f}"


def money_axis(axis: Any) -> None:
    """Label an axis with amounts."""
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - extra lab

    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for unit, name in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:,.4g}{name}"
    return f"{value:,.4g}"


def time_axis(axes: Any) -> None:
    """Label the horizontal axis with times, UTC."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415 - extra lab

    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]


# What a backtest showed, in sentences for someone who was not there.

Json = dict[str, Any]
MEANS = {
    "CALL_MARGIN": "asked a client for more collateral",
    "CANCEL_ORDERS": "cancelled a client's working orders",
    "REDUCE_ONLY": "let a client only reduce its positions",
    "REDUCE_POSITION": "closed out part of a client's position, and our hedge of it",
    "HALT_TRADING": "stopped a client's trading",
    "BLOCK_COUNTERPARTY": "took no new business from a counterparty",
    "SUSPEND": "suspended trading",
    "REINSTATE": "let trading go on",
    "RECALL_COLLATERAL": "called collateral back",
    "WITHDRAW_FUNDS": "took our money out of a venue",
    "REROUTE": "sent orders to other venues",
    "HEDGE": "hedged an exposure",
    "SET_LIMIT": "changed a limit",
    "SET_HAIRCUT": "changed a haircut",
    "SWITCH_STRATEGY_PROFILE": "changed how a strategy trades",
    "ENTER_DEGRADED_MODE": "went into a degraded mode",
}


LABELS = {"unmitigated": "nobody acts", "mitigated": "Seawall’s commands obeyed"}


def variant_label(one: Json) -> str:
    """Return what a variant is called in a report."""
    return LABELS.get(one["name"], str(one["name"]))


def describe_book(result: Json, with_: Json) -> str:
    """Return whose book it is and what was done with it."""
    book = result["assumptions"]["book"]
    first, last = (format_utc(time_us) for time_us in result["period_us"])
    text = f"A book of {with_['clients']} clients"
    if book:
        text += f", {money(book['notional'])} gross, hedged at one venue,"
    return (
        f"{text} was put through the market of {first} to {last} UTC twice: once with nobody acting, and once with "
        "Seawall’s commands obeyed. A hedged firm loses what its clients cannot pay."
    )


def format_utc(time_us: float, year: bool = True) -> str:
    """Return a time for a person, UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%d %b %Y %H:%M" if year else "%d %b %H:%M").lstrip("0")


def result_headline(without: Json | None, with_: Json) -> str:
    """Return the result in a sentence or two."""
    ends = (
        f"With Seawall’s commands obeyed, clients could not pay {money(with_['shortfall'])} at the end "
        f"({money(with_['shortfall_max'])} at the worst moment)."
    )
    if without is None:
        return ends
    saved = without["loss"] - with_["loss"]
    verb = "saved" if saved >= 0 else "cost"
    return (
        f"Left alone, clients could not have paid {money(without['shortfall'])} at the end and "
        f"{money(without['shortfall_max'])} at the worst moment. {ends} Acting {verb} {money(abs(saved))}."
    )


def describe_markets(result: Json) -> list[str]:
    """Return what markets did: the deepest falls, each from its highest price before."""
    falls = []
    for name, points in result["prices"].items():
        high, deepest = points[0], (0.0, points[0], points[0])
        for point in points:
            high = max(high, point, key=lambda one: one[1])
            deepest = min(deepest, (point[1] / high[1] - 1, high, point), key=lambda one: one[0])
        falls.append((deepest, name))
    falls.sort(key=lambda one: one[0][0])
    text = [
        f"{name} fell {-drop:.0%}, from {high[1]:,.6g} on {format_utc(high[0], False)} "
        f"to {low[1]:,.6g} on {format_utc(low[0], False)}"
        for (drop, high, low), name in falls[:5]
        if drop < -0.005
    ]
    return text or ["No price fell by more than half a per cent."]


def describe_commands(with_: Json) -> list[str]:
    """Return what was commanded, kind by kind, with the times of the first and the last."""
    times: dict[str, list[int]] = {}
    targets: dict[str, set[str]] = {}
    for one in with_["commands"]:
        times.setdefault(one["type"], []).append(one["as_of_us"])
        targets.setdefault(one["type"], set()).add(one["target"])
    text = []
    kinds: Counter[str] = Counter(with_["command_kinds"])
    for kind, count in kinds.most_common():
        found = times.get(kind, [])
        span = f", from {format_utc(min(found), False)} to {format_utc(max(found), False)}" if found else ""
        many = f" for {len(targets.get(kind, ()))} of them" if len(targets.get(kind, ())) > 1 else ""
        text.append(f"{kind}: {MEANS.get(kind, 'acted')}, {count:,} times{many}{span}")
    withheld = sum(with_["withheld"].values())
    if withheld:
        text.append(f"{withheld:,} commands above the bounds of the playbook were withheld for a person to decide")
    return text or ["No limit asked for a command."]


def result_timeline(with_: Json) -> list[tuple[int, str]]:
    """Return the moments that matter, in order of time."""
    found: list[tuple[int, str]] = []
    seen: set[str] = set()
    for one in with_["breaches"]:
        if one["level"] not in ("none", *seen):
            seen.add(one["level"])
            said = f"{one['scope']}, {one['measure']} {one['value']:,.4g}, bound {one['bound']:,.4g}"
            found.append((one["as_of_us"], f"limit {one['limit']} reaches {one['level']} for the first time: {said}"))
    for one in with_["commands"]:
        if one["type"] not in seen:
            seen.add(one["type"])
            found.append((one["as_of_us"], f"first {one['type']}, on {one['target']} by rule {one['rule']}"))
    if with_["shortfall_max"] > 0:
        worst = money(with_["shortfall_max"])
        found.append((with_["trace"]["worst_us"], f"the worst moment: clients owe {worst} beyond all that they have"))
    return sorted(found)


def compared_variants(result: Json) -> tuple[Json, Json] | None:
    """Return the variants without and with mitigation: those of these names, or the first and the last."""
    variants = result["variants"]
    if "unmitigated" in variants and "mitigated" in variants:
        return variants["unmitigated"], variants["mitigated"]
    listed = list(variants.values())
    return (listed[0], listed[-1]) if len(listed) > 1 else None


def result_lines(result: Json) -> list[str]:
    """Return the result for a person."""
    lines = []
    for name, one in result["variants"].items():
        levels = ", ".join(f"{count} {level}" for level, count in sorted(one["breach_levels"].items())) or "none"
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one["command_kinds"].items())) or "none"
        lines.append(
            f"{name}: loses {one['loss']:,.0f}; clients cannot pay {one['shortfall']:,.0f} at the end, "
            f"{one['shortfall_max']:,.0f} at the worst, {one['insolvent']} of {one['clients']} below nothing"
        )
        lines += [f"  changes of level: {levels}", f"  commands: {kinds}"]
        lines.append(f"  {one['slices']:,} slices of {one['records']:,} records, {one['rejected']} rejected; "
                    f"journal {one['journal_sha256'][:16]}")  # fmt: skip
        lines += [f"  {verdict_line(found)}" for found in one["verdicts"] if found["scope"] == "firm"]
    pair = compared_variants(result)
    if pair is not None:
        lines.append(f"{pair[1]['name']} saves {pair[0]['loss'] - pair[1]['loss']:,.0f} against {pair[0]['name']}")
    return [*lines, detection_line(result["detection"])]


def detection_line(found: Json) -> str:
    """Return how good detection was, in a line."""
    terms = found["terms"]
    if not found["episodes"]:
        return f"detection: no move of {terms['move']:.0%} within {terms['within_s']} s; {found['alerts']} alerts"
    lead = "" if found["median_lead_s"] is None else f", {found['median_lead_s']:,.0f} s before the break-out (median)"
    precision = "" if found["precision"] is None else f", {found['precision']:.0%} of them near one"
    return (
        f"detection: {found['told']} of {found['episodes']} moves of {terms['move']:.0%} told of{lead}; "
        f"{found['alerts']} alerts{precision}"
    )


def verdict_line(found: Json) -> str:
    """Return a verdict in a line."""
    head = f"{found['scope']}, by the {found['every']}"
    if found["tests"] is None:
        return f"{head}: {found['reason']}"
    tests = found["tests"]
    refused = ", ".join(found["refused"]) or "nothing"
    return (
        f"{head}: {tests['hits']} losses beyond var_99 of {found['observations']}, {tests['light']['zone']}; "
        f"Kupiec p {tests['kupiec']['p_value']:.3f}, Christoffersen p {tests['conditional']['p_value']:.3f}, "
        f"Z2 {tests['shortfall']['statistic']:.3f} (refused below {tests['shortfall']['critical']:.3f}); "
        f"refused: {refused}"
    )
