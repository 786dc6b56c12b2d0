"""Pages of a report: a backtest, or the contagion of a book, as one HTML file for screens and for A4."""

import html
import platform
import shlex
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import seawall
from seawall.ops.lab.report import _figures, _plots
from seawall.ops.lab.report._figures import compared_variants, detection_line, distinct, money

# The report of a backtest: one HTML file, nothing loaded from elsewhere, laid out for screens and for A4.

Json = dict[str, Any]
ROWS_MAX, ALERTS_MAX = 40, 15
CSS = """
:root { --ink: #1d2733; --muted: #5b6875; --line: #dde3e8; --bad: #b3394a; --good: #1b6e8c; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif; color: var(--ink); }
body { margin: 0; background: #f3f5f7; }
main { max-width: 1060px; margin: 0 auto; padding: 36px 44px 60px; background: white; }
h1 { font-size: 27px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 38px 0 8px; border-top: 1px solid var(--line); padding-top: 18px; }
p.sub, .muted, caption { color: var(--muted); } p.lead { font-size: 18px; line-height: 1.45; margin: 18px 0; }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 18px 0; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px; }
.card b { display: block; font-size: 21px; line-height: 1.25; } .card span { color: var(--muted); font-size: 13px; }
.bad b { color: var(--bad); } .good b { color: var(--good); }
svg { width: 100%; height: auto; display: block; margin: 10px 0; }
table { border-collapse: collapse; width: 100%; font-size: 13px; margin: 10px 0 16px; }
th, td { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--muted); font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { font: 12.5px/1.45 ui-monospace, "Liberation Mono", monospace; }
pre { background: #f3f5f7; padding: 10px 12px; overflow-wrap: anywhere; white-space: pre-wrap; }
.hash { font: 11.5px ui-monospace, "Liberation Mono", monospace; overflow-wrap: anywhere; }
.zone { padding: 1px 8px; border-radius: 9px; color: white; }
.green { background: #4c9a57; } .amber { background: #c98a22; } .red { background: #b3394a; }
@media print { body { background: white; font-size: 11pt; } main { max-width: none; padding: 0; }
  h2 { break-after: avoid; } svg, table, .cards, pre { break-inside: avoid; } @page { size: A4; margin: 15mm; } }
"""


def backtest_page(result: Json, command: Sequence[str], cascade: Json | None = None) -> str:
    """Return the page.

    Parameters
    ----------
    result
        What ``backtest`` returned.
    command
        The arguments that made it, as they were given.
    cascade
        Nodes and edges of a cascade to draw (``plots.network``), where one was computed.
    """
    pair = compared_variants(result)
    with_ = pair[1] if pair is not None else next(iter(result["variants"].values()))
    without = pair[0] if pair is not None else None
    shown = [one for one in (without, with_) if one is not None]
    first, last = (_figures.format_utc(time_us) for time_us in result["period_us"])
    markets, commands = _list(_figures.describe_markets(result)), _list(_figures.describe_commands(with_))
    timeline = [(_figures.format_utc(at), text) for at, text in _figures.result_timeline(with_)]
    moments, exposures = html_table(("time (UTC)", "moment"), timeline), _plots.exposure(shown, result["limits"])
    parts = [
        f"<h1>{html_text(_title(result))}</h1><p class=sub>{first} to {last} UTC · {with_['clients']} clients · "
        f"{len(result['prices'])} instruments</p>",
        f"<p>{html_text(_figures.describe_book(result, with_))}</p>",
        f"<p class=lead>{html_text(_figures.result_headline(without, with_))}</p>",
        _cards(without, with_),
        html_section("What happened", markets + html_plot("price", _plots.prices(result["prices"]))),
        html_section("What Seawall did", commands + html_plot("owed", _plots.shortfall(without, with_)) + moments),
        html_section("Who was affected", _affected(shown, result)),
        html_section("The firm’s exposure", html_plot("exp", exposures) + _levels(shown)),
        html_section("Were the risk figures right?", _lights(shown[0])),
        html_section("Was the market’s trouble noticed in time?", _detection(result)),
    ]
    if cascade is not None:
        parts.append(html_section("How failures spread", html_plot("cascade", _plots.network(cascade))))
    parts.append(html_section("How to read this, and how to make it again", _provenance(result, command)))
    return html_document(_title(result), parts)


def html_document(title: str, parts: Sequence[str]) -> str:
    """Return a page of its own out of its parts."""
    body = "\n".join(parts)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{html_text(title)}</title><style>{CSS}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )


def _title(result: Json) -> str:
    return f"Backtest: {result['plan']['file'].removesuffix('.toml').replace('-', ' ').capitalize()}"


def _cards(without: Json | None, with_: Json) -> str:
    cards = []
    if without is not None:
        saved = without["loss"] - with_["loss"]
        kind = "good" if saved >= 0 else "bad"
        cards.append((kind, money(saved), "saved by acting on Seawall’s commands"))
        cards.append(("bad", money(without["loss"]), f"lost where {_figures.variant_label(without)}"))
    cards.append(("good", money(with_["loss"]), f"lost with {_figures.variant_label(with_)}"))
    cards.append(("", f"{sum(with_['command_kinds'].values()):,}", "commands given"))
    return (
        "<div class=cards>"
        + "".join(
            f"<div class='card {kind}'><b>{html_text(value)}</b><span>{html_text(label)}</span></div>"
            for kind, value, label in cards
        )
        + "</div>"
    )


def _affected(shown: list[Json], result: Json) -> str:
    margin = [
        limit for limit in result["limits"] if limit["measure"] == "margin_ratio" and limit["direction"] == "above"
    ]
    hard = next((limit[level] for limit in margin for level in ("hard", "soft", "warning") if level in limit), 1.0)
    said = (
        f"<p>How much of the margin limit (a margin ratio of {hard:g}) each client used, hour by hour. From 100 % on "
        "the limit is broken; dark red is twice the limit and more, and whatever is still held where nothing is left "
        "to pay with. Those that stood worst where nobody acts come first.</p>"
    )
    worst = sorted(shown[0]["equity"].items(), key=lambda one: one[1])[:10]
    rows = [
        (name.partition("/")[0], *(money(one["equity"].get(name, 0.0)) for one in shown))
        for name, _ in worst
        if not name.startswith("house/")
    ]
    columns = ("client", *(f"equity at the end, {_figures.variant_label(one)}" for one in shown))
    return (
        said
        + html_plot("heat", _plots.utilisation(shown, hard))
        + html_plot("dist", _plots.distribution(shown))
        + html_table(columns, rows, numbers=len(shown))
    )


def _levels(shown: list[Json]) -> str:
    names = sorted({level for one in shown for level in one["breach_levels"]})
    rows = [
        (name.replace(" none", " back below all levels"), *(f"{one['breach_levels'].get(name, 0):,}" for one in shown))
        for name in names
    ]
    rows.append(("highest current exposure", *(money(one["peak_exposure"]) for one in shown)))
    return html_table(
        ("limit and level reached, times", *(_figures.variant_label(one) for one in shown)), rows, numbers=len(shown)
    )


def _lights(one: Json) -> str:
    if not one["verdicts"]:
        return (
            "<p>No value at risk or expected shortfall ran in this configuration, so there is nothing to test; "
            "<code>[forecasts] enabled = true</code> and <code>losses = true</code> make them.</p>"
        )
    rows = [
        (f"{v['scope']}, by the {v['every']}", *_verdict(v))
        for v in one["verdicts"][:ROWS_MAX]
    ]  # fmt: skip
    label = html_text(_figures.variant_label(one))
    columns = ("scope", "zone", "losses beyond", "Kupiec p", "Christoffersen p", "Z2 (critical)", "refused by")
    return (
        f"<p>Tested on non-overlapping observations of the variant in which {label}. A p below 0.05 refuses the "
        "figures; Z2 below its critical value says that expected shortfall was too small.</p>"
        + html_plot("light", _plots.lights(one["verdicts"])) + html_table(columns, rows, raw=True)
    )  # fmt: skip


def _verdict(found: Json) -> tuple[str, ...]:
    tests = found["tests"]
    if tests is None:
        return "", html_text(found["reason"]), "", "", "", ""
    light, deep = tests["light"], tests["shortfall"]
    return (
        f"<span class='zone {light['zone']}'>{light['zone']}</span>",
        f"{tests['hits']} of {found['observations']}",
        f"{tests['kupiec']['p_value']:.3f}",
        f"{tests['conditional']['p_value']:.3f}",
        f"{deep['statistic']:.3f} ({deep['critical']:.3f})",
        html_text(", ".join(found["refused"]) or "nothing"),
    )


def _detection(result: Json) -> str:
    found = result["detection"]
    said = f"<p>{html_text(detection_line(found).removeprefix('detection: ').capitalize())}.</p>"
    highest = sorted(result["alerts"], key=lambda one: -one.get("score", 0.0))[:ALERTS_MAX]
    highest.sort(key=lambda one: one["as_of_us"])
    times = [_figures.format_utc(one["as_of_us"]) for one in highest]
    rows = [
        (time, one["scope"].partition(":")[2], one["kind"].replace("_", " "), one["text"])
        for time, one in zip(times, highest, strict=True)
    ]
    return said + html_table(("time (UTC)", "of", "kind", f"the {len(rows)} surest of {found['alerts']} alerts"), rows)


def _provenance(result: Json, command: Sequence[str]) -> str:
    reactions, book = result["assumptions"]["reactions"], result["assumptions"]["book"]
    said = [
        "History was played through the code that runs live: the same market, sequencing and risk steps, so the same "
        "slices, breaches and commands. What people and venues do after a command is assumed, alike in every variant:",
    ]
    assumed = [(name.replace("_", " "), f"{value}") for name, value in {**reactions, **book}.items() if value != ""]
    inputs = [(one["file"], one["sha256"]) for one in result["inputs"]]
    inputs.append((result["plan"]["file"], result["plan"]["sha256"]))
    inputs += [(f"signals of group {one['group']}", one["sha256"]) for one in result["signals"]]
    inputs += [(f"journal, {one['name']}", one["journal_sha256"]) for one in result["variants"].values()]
    made = f"Seawall {seawall.__version__}, Python {platform.python_version()}, numpy {version('numpy')}"
    return (
        f"<p>{html_text(said[0])}</p>"
        + html_table(("assumption", "value"), assumed)
        + f"<p>This command makes the same report from the same bytes:</p><pre>{html_text(shlex.join(command))}</pre>"
        + html_table(("what", "SHA-256"), [(html_text(a), f"<span class=hash>{b}</span>") for a, b in inputs], raw=True)
        + f"<p class=muted>{html_text(made)}</p>"
    )


def html_section(title: str, content: str) -> str:
    """Return a part with its heading."""
    return f"<section><h2>{html_text(title)}</h2>{content}</section>"


def html_plot(name: str, svg: str) -> str:
    """Return a picture whose ids no other on the page has; nothing where there is none."""
    return distinct(svg, name) if svg else ""


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html_text(line)}</li>" for line in lines) + "</ul>"


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0, raw: bool = False) -> str:
    """Return a table; the last ``numbers`` columns are numbers, ``raw`` cells are HTML already."""
    first = len(columns) - numbers
    heads = "".join(f"<th{' class=n' if at >= first else ''}>{html_text(c)}</th>" for at, c in enumerate(columns))
    cells = [row if raw else [html_text(cell) for cell in row] for row in rows]
    body = "".join(
        "<tr>" + "".join(f"<td{' class=n' if at >= first else ''}>{cell}</td>" for at, cell in enumerate(row)) + "</tr>"
        for row in cells
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def html_text(value: str) -> str:
    """Return text as HTML."""
    return html.escape(str(value), quote=False)


# The report of a book's contagion: the network as a picture, and whose failure hurts most.

COLUMNS = ("who fails", "others lose", "and fail")


def contagion_page(found: Json, command: Sequence[str]) -> str:
    """Return the page.

    Parameters
    ----------
    found
        What `rank_contagion` returned, with ``journal_sha256`` of the run.
    command
        The arguments that made it, as they were given.
    """
    assumed = found["assumed"]
    parts = [
        f"<h1>Contagion</h1><p class=sub>{found['nodes']} nodes, {found['claims']} claims</p>",
        f"<p class=lead>{html_text(contagion_sentence(found))}</p>",
        html_section("How failures spread", html_plot("contagion", _plots.network(found["picture"]))),
        *(html_section(f"Whose failure hurts most: {name}", _ranking(one)) for name, one in found["models"].items()),
        html_section("Whose failure hurts most: DebtRank as first published", _single_hits(found["single_hit"])),
        html_section("What is paid after the worst failure", _clearing(found["clearing"])),
        html_section("Failures together, drawn at random", _joint(found["joint"])),
    ]
    if assumed:
        note = f"Nobody told the own funds of {', '.join(assumed)}; they are assumed to outlast the failure of others."
        parts.append(html_section("What is not known", f"<p>{html_text(note)}</p>"))
    made = f"<pre>{html_text(shlex.join(command))}</pre><p class=hash>journal {found['journal_sha256']}</p>"
    return html_document("Contagion", [*parts, html_section("How to make it again", made)])


def contagion_sentence(found: Json) -> str:
    """Return what DebtRank says of the worst failures, in a sentence."""
    ranked = found["models"]["DebtRank"]
    first = ranked["alone"][0]
    said = f"If {first['nodes'][0]} fails, others lose {money(first['contagion'])} of own funds"
    if not ranked["covers"]:
        return f"{said}."
    pair = ranked["covers"][-1]
    return f"{said}; if {' and '.join(pair['nodes'])} fail together, {money(pair['contagion'])}."


def _ranking(one: Json) -> str:
    rows = [one_row for one_row in (*one["covers"], *one["alone"]) if one_row["contagion"] > 0 or one_row["failures"]]
    cells = [(", ".join(row["nodes"]), money(row["contagion"]), f"{row['failures']}") for row in rows]
    return html_table(COLUMNS, cells, numbers=2) if cells else "<p>No failure costs others anything.</p>"


def _clearing(one: Json) -> str:
    """Return the clearing vector of Eisenberg-Noe's worst cover: what those in default pay."""
    told = (
        f"{' and '.join(one['nodes'])} lose all that they have outside of these claims. {one['defaults']} nodes are"
        f" then in default ({one['before']} without that), and {money(one['contagion'])} of the claims between nodes"
        " are not paid beyond what would not be paid anyway."
    )
    rows = [
        (row["node"], f"{row['round'] + 1}", *(money(row[part]) for part in ("owed", "paid", "worth")))
        for row in one["payments"]
    ]
    table = html_table(("in default", "in round", "owes", "pays", "assets less debts"), rows, numbers=4)
    return f"<p>{html_text(told)}</p>{table if rows else ''}"


def _single_hits(one: Json) -> str:
    told = (
        "Each node passes its distress on once (Battiston 2012): the share of all claims whose value is lost beyond the"
        f" failure itself. Without any failure it is {one['before']:.4f}: what nodes without own funds pass on."
    )
    rows = [(row["nodes"][0], f"{row['debtrank']:.4f}") for row in one["alone"]]
    return f"<p>{html_text(told)}</p>{html_table(('who fails', 'DebtRank'), rows, numbers=1)}"


def _joint(one: Json | None) -> str:
    """Return what random joint failures cost others, with the intervals that hold each figure at 95 %."""
    if one is None:
        return "<p>No record states a default probability (counterparty records may), so nothing is drawn.</p>"
    stated = ", ".join(f"{name} {value:g}" for name, value in one["default_probability"].items())
    told = f"{one['scenarios']:,} scenarios, correlation {one['correlation']}, seed {one['seed']}; {stated}."
    if one["unknown"]:
        told += f" No probability is stated for {', '.join(one['unknown'])}: in these draws they do not fail at first."
    rows = [
        (name, *(_interval(figures[part]) for part in ("mean", "quantile", "shortfall")))
        for name, figures in one["models"].items()
    ]
    heads = ("others lose", "on average", "quantile, 99 %", "expected shortfall, 99 %")
    return f"<p>{html_text(told)}</p>{html_table(heads, rows, numbers=3)}"


def _interval(one: Json) -> str:
    return f"{money(one['value'])} ({money(one['low'])} to {money(one['high'])})"


# The report of a cascade: what each step of a scenario forces accounts to sell, and what that leaves unpaid.


def cascade_page(found: Json, command: Sequence[str]) -> str:
    """Return the page of what `book_cascade` returned, with ``scenario`` and ``journal_sha256`` of the run."""
    parts = [
        f"<h1>Cascade</h1><p class=sub>{html_text(found['scenario'])}</p>",
        *(html_section(f"After {step['at_us'] / 1e6:,.0f} seconds", _cascade_step(step)) for step in found["steps"]),
        html_section("What is assumed", f"<p>{html_text(_cascade_assumptions(found))}</p>"),
    ]
    made = f"<pre>{html_text(shlex.join(command))}</pre><p class=hash>journal {found['journal_sha256']}</p>"
    return html_document("Cascade", [*parts, html_section("How to make it again", made)])


def _cascade_step(step: Json) -> str:
    told = (
        f"{len(step['liquidated'])} accounts are closed in {len(step['rounds'])} rounds. Clients leave"
        f" {money(step['clients'])} unpaid, our own accounts {money(step['house'])}."
    )
    forced: dict[str, float] = {}
    for one in step["rounds"]:
        for name, value in one["forced"].items():
            forced[name] = forced.get(name, 0.0) + value
    rows = [
        (
            name,
            f"{step['shock'].get(name, 0.0):+.1%}",
            f"{step['end'].get(name, 0.0):+.1%}",
            money(forced.get(name, 0.0)),
        )
        for name in sorted({*step["shock"], *step["end"]})
    ]
    moves = html_table(("underlying", "scenario", "with forced orders", "forced (sold below 0)"), rows, numbers=3)
    closed = [(one["account"], "ours" if one["house"] else "client", money(one["hole"])) for one in step["liquidated"]]
    accounts = html_table(("closed", "holder", "not paid"), closed, numbers=1) if closed else ""
    return f"<p>{html_text(told)}</p>{moves if rows else ''}{accounts}"


def _cascade_assumptions(found: Json) -> str:
    told = (
        "Each step begins with the book as it is. Forced orders go to one book per underlying: the depth that signals"
        " had within 50 basis points, continued at that density. Maintenance margins stay as they were last measured."
        " Insurance funds and auto-deleveraging are the venues' and are not known."
    )
    if found["depth_unknown"]:
        told += f" No depth is known of {', '.join(found['depth_unknown'])}: taken to be a hundredth of what is held."
    return told
