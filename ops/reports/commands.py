"""Commands that answer questions, of a run or of a file.

``exposures``, ``forecast``, ``incidents`` and ``rejects`` read a run, the last also sends in again; ``limits`` has a
module of its own. ``detect``, ``convert``, ``saccr`` and ``map`` take one file and need neither a configuration nor a
bus.
"""

import getpass
import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from seawall.connectors.files import Lines
from seawall.connectors.mapping import RecordMapping, load_mappings
from seawall.ops import reports
from seawall.ops.arguments import Json, Where, open_run, parse_time, say, show_progress
from seawall.ops.reports import _limits_commands
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.records import REDRIVE

# ``seawall exposures``, ``forecast`` and ``incidents``: what a run knows, for people.


def _exposures(
    where: Where,
    as_of: Annotated[str, typer.Option("--as-of", help="Event time: 2021-05-19T13:00, or microseconds.")] = "",
    top: Annotated[int, typer.Option("--top", min=1, help="Rows per kind of scope in the table.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row per scope, measure and limit.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show why P&L moved in the last minute instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show the measures of every scope at a time, how much of its limits is used, and the effective bounds.

    The journal is replayed to that time, so values are exact.

    Example: seawall exposures desk.toml --as-of 2021-05-19T13:00 --top 10
    """
    configuration, bus = open_run(where)
    if explain:
        rows = reports.read_explains(bus, configuration.shards, parse_time(as_of))
        print(json.dumps(rows) if as_json else "\n".join(reports.explain_lines(rows[:top])))
        return
    with _replay_progress(bus, configuration.shards) as seen:
        found = reports.report_exposures(bus, configuration.shards, parse_time(as_of), seen)
    if as_json:
        print(json.dumps(reports.exposures_json(found)))
    elif as_csv:
        print(reports.exposures_csv(found), end="")
    else:
        reports.print_exposures(found, top)


def _forecast(
    where: Where,
    as_of: Annotated[str, typer.Option("--as-of", help="Event time: 2021-05-19T13:00, or microseconds.")] = "",
    horizon: Annotated[int, typer.Option("--horizon", help="Seconds: 60, 600, 3600 or 86400.")] = 86_400,
    top: Annotated[int, typer.Option("--top", min=1, help="Rows in the table.")] = 20,
    score: Annotated[bool, typer.Option("--score", help="Show how good forecasts have been so far.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Where to draw a reliability plot as PNG.")] = None,
    liquidations: Annotated[bool, typer.Option("--map", help="Show what moves of prices would force instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show who is likely to break a limit next and why, what may be lost, and how good such forecasts have been.

    Example: seawall forecast desk.toml --score
    """
    configuration, bus = open_run(where)
    if liquidations:
        with _replay_progress(bus, configuration.shards) as seen:
            drawn = reports.report_liquidations(bus, configuration.shards, parse_time(as_of), seen)
        print(json.dumps(reports.liquidations_json(drawn))) if as_json else reports.print_liquidations(drawn)
        return
    found = reports.report_forecasts(bus, parse_time(as_of))
    if plot is not None:
        reports.plot_reliability(found, plot)
    if as_json:
        print(json.dumps(found._asdict()))
    elif score:
        reports.print_forecast_scores(found)
    else:
        reports.print_forecasts(found, horizon, top)
        reports.print_losses(found.losses, configuration.reporting_currency, top)


def _incidents(
    where: Where,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show open incidents: causes, commands and acknowledgements in order, and what only people can release.

    Example: seawall incidents desk.toml --all
    """
    _, bus = open_run(where)
    found = reports.read_incidents(bus)
    chosen = [one for one in found.found.values() if everything or one.open]
    chosen.sort(key=lambda one: one.opened_us)
    if as_json:
        print(json.dumps([one.as_dict() for one in chosen]))
    else:
        for line in reports.incident_lines(chosen, len(found.found)):
            print(line)


def _replay_progress(bus: Any, shards: int) -> AbstractContextManager[Callable[..., None]]:
    return show_progress("replaying the journal", sum(bus.end("journal", shard) for shard in range(shards)))


# ``seawall detect``, ``convert`` and ``saccr``: one file in, figures out; no configuration and no bus.


def _detect(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="A CSV with a header row.")],
    time: Annotated[str, typer.Option("--time", help="The column of event times.")],
    value: Annotated[list[str], typer.Option("--value", help="A column to judge; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write anomaly_score and alert per row.")],
    plot: Annotated[Path | None, typer.Option("--plot", help="Where to draw a PNG; needs matplotlib.")] = None,
    price: Annotated[
        str | None, typer.Option("--price", help="The --value that is a price: a rule alerts too.")
    ] = None,
    band: Annotated[float, typer.Option("--band", help="Of that rule: the move against the past hour.")] = 0.07,
    as_json: Json = False,
) -> None:
    """Stream one CSV through the anomaly detector, causally, with constant default parameters.

    Example: seawall detect cpu.csv --time timestamp --value value --out scores.csv
    """
    found = reports.detect_csv(file, time, value, out, plot, price, band)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        by = f" ({found.by_rule} by the rule, {found.by_score} by the score)" if price else ""
        say(f"{found.rows} rows, {found.alerts} alerts{by}, {found.invalid} rows without a finite value: {out}")


def _convert(  # noqa: PLR0913 - the options of the command
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="A venue (binance, bitmex, bybit, …) or ohlcv.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording of raw messages, or a CSV of bars.")],
    name: Annotated[list[str] | None, typer.Option("--name", help="SYMBOL=INSTRUMENT; may be repeated.")] = None,
    levels: Annotated[int, typer.Option(min=1, max=50, help="Levels per side of depth events.")] = 50,
    depth_ms: Annotated[int, typer.Option(min=0, help="Least time between depth events of an instrument.")] = 0,
    describe: Annotated[bool, typer.Option("--describe", help="Read missing contract terms off the symbols.")] = False,
    venue: Annotated[str, typer.Option(help="For ohlcv: the venue.")] = "",
    instrument: Annotated[str, typer.Option(help="For ohlcv: the instrument.")] = "",
    interval_s: Annotated[int, typer.Option(min=0, help="For ohlcv: seconds per bar; found in the times if 0.")] = 0,
    stamp: Annotated[str, typer.Option(help="For ohlcv: what times say, open or close; by the column if empty.")] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 when anything unknown or malformed was left out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn a venue's raw messages or OHLCV bars into input records, as JSON lines on standard output.

    What was left out is counted by name on standard error; books that cannot be trusted give no depth.

    Example: seawall convert kraken_futures recording.ws.gz --describe > events.jsonl
    """
    # The readers of all venues: the command line starts without them.
    from seawall.connectors.venues import ConvertOptions, convert_bars, convert_messages  # noqa: PLC0415

    if form == "ohlcv":
        done = convert_bars(file, venue, instrument, interval_s, stamp, sys.stdout.buffer)
    else:
        options = ConvertOptions(_symbol_names(name or []), levels, depth_ms * 1_000, describe)
        done = convert_messages(form, file, options, sys.stdout.buffer)
    for line in [json.dumps(done.as_dict())] if as_json else done.lines():
        say(line)
    if strict and done.refused:
        raise typer.Exit(1)


def _symbol_names(pairs: list[str]) -> dict[str, str]:
    """Return instruments by symbol from texts ``SYMBOL=INSTRUMENT``.

    Raises
    ------
    UsageError
        A text is something else.
    """
    names = {}
    for pair in pairs:
        symbol, equals, instrument = pair.partition("=")
        if not (symbol and equals and instrument):
            raise UsageError(f"--name {pair}: write SYMBOL=INSTRUMENT")
        names[symbol] = instrument
    return names


def _saccr(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="A netting set; see ops/docs/manual/saccr.md.")],
) -> None:
    """Compute the SA-CCR exposure at default of a netting set, with every figure on the way, as JSON.

    Example: seawall saccr netting_set.json
    """
    print(json.dumps(reports.netting_set_exposure(file), indent=2))


# ``seawall map``: check a mapping of foreign records, and see what it makes of some.

_map = typer.Typer(help="Map foreign records onto input records, by a TOML file.", no_args_is_help=True)

_Mapping = Annotated[Path, typer.Argument(metavar="MAPPING.toml", help="The mapping file.")]
_SHOWN_MAX = 10


@_map.command("check")
def _check_mapping(
    mapping: _Mapping,
    sample: Annotated[Path | None, typer.Option("--sample", help="Foreign records, one per line (.gz too).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
) -> None:
    """Check a mapping, exit 2 where it cannot hold; with a sample, exit 1 where it rejects any of it.

    Example: seawall map check oms.toml --sample oms-2026-11-20.jsonl
    """
    feed = RecordMapping.load(mapping)
    counts: Counter[str] = Counter()
    findings = []
    for line, found in _mapped(feed, sample) if sample is not None else ():
        kind = "skipped" if found is None else found.reason.value if isinstance(found, Rejected) else found[1]
        counts[kind] += 1
        if isinstance(found, Rejected):
            findings.append({"line": line, "reason": found.reason.value, "detail": found.detail})
    if as_json:
        answer = {"good": not findings, "kinds": sorted(feed.kinds), "records": counts, "findings": findings}
        print(json.dumps(answer))
    else:
        print(f"{mapping.name} makes {', '.join(sorted(feed.kinds))}")
        for kind, count in counts.most_common():
            print(f"{count:>8,}  {kind}")
        for one in findings[:_SHOWN_MAX]:
            print(f"line {one['line']}: {one['reason']}: {one['detail']}")
        if len(findings) > _SHOWN_MAX:
            print(f"{len(findings) - _SHOWN_MAX} more; --json lists them all")
    if findings:
        raise typer.Exit(1)


@_map.command("apply")
def _apply_mapping(
    mapping: _Mapping,
    records: Annotated[Path, typer.Argument(metavar="RECORDS", help="Foreign records, one per line (.gz too).")],
) -> None:
    """Print what a mapping makes of records, as JSON lines; what it rejects is said on standard error, exit 1.

    Example: seawall map apply oms.toml oms-2026-11-20.jsonl > events.jsonl
    """
    rejected = 0
    for line, found in _mapped(RecordMapping.load(mapping), records):
        if isinstance(found, Rejected):
            rejected += 1
            print(f"line {line}: {found}", file=sys.stderr)
        elif found is not None:
            sys.stdout.buffer.write(found[0] + b"\n")
    if rejected:
        raise typer.Exit(1)


def _mapped(feed: Any, path: Path) -> Any:
    """Yield line and what becomes of it: an input record and its type, None where it is skipped, or why not."""
    if not feed.lines:
        raise UsageError("framed records may hold line feeds; only JSON stands one record per line")
    lines = Lines(path)
    for chunk in iter(lines.read, []):
        for number, _, content in chunk:
            if not isinstance(content, bytes):
                yield number, Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, f"the record has {content.bytes} bytes")
                continue
            try:
                found = feed.read(content)
                yield number, None if found is None else (found[1], found[0].__struct_config__.tag)
            except Rejected as rejected:
                yield number, rejected
    lines.close()


# ``seawall rejects``: list and show what was rejected, and send it in again once its cause is mended.

_rejects = typer.Typer(help="See what was rejected and why, and send it in again.", no_args_is_help=True)

_Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Of this reason; may be repeated.")]
_Sources = Annotated[list[str] | None, typer.Option("--source", help="From this file or topic; may be repeated.")]
_DETAIL_MAX = 100


@_rejects.command("list")
def _list_rejects(
    where: Where,
    reason: _Reasons = None,
    source: _Sources = None,
    waiting: Annotated[bool, typer.Option("--open", help="Only what was not sent in again.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table; --json has all.")] = 50,
    as_json: Json = False,
) -> None:
    """List rejected records: place, reason, where they stood, what was wrong, and whether they went in again.

    Example: seawall rejects list desk.toml --reason ACCOUNT_MUST_BE_KNOWN --open
    """
    _, bus = open_run(where)
    chosen = reports.choose_dead_letters(reports.read_dead_letters(bus), (), reason or (), source or ())
    chosen = [one for one in chosen if one.redriven < 0 or not waiting]
    counts = Counter(one.body["reason"] for one in chosen)
    if as_json:
        print(json.dumps({"reasons": counts, "rejects": [_plain(one) for one in chosen]}))
        return
    table = Table(title=f"{len(chosen)} rejected records", title_justify="left")
    for name in ("place", "reason", "stood at", "detail", "redriven"):
        table.add_column(name, overflow="fold")
    for one in chosen[:limit]:
        went = "" if one.redriven < 0 else f"{REDRIVE}/0 offset {one.redriven}"
        table.add_row(one.place, one.body["reason"], one.where(), str(one.body["detail"])[:_DETAIL_MAX], went)
    console = Console()
    console.print(table, markup=False)
    for name, count in counts.most_common():
        console.print(f"{count:>8,}  {name}", markup=False)
    if len(chosen) > limit:
        print(f"{len(chosen) - limit} more; --limit {len(chosen)} shows them", file=sys.stderr)


@_rejects.command("show")
def _show_rejects(
    where: Where,
    place: Annotated[str, typer.Argument(metavar="PLACE", help="PARTITION/OFFSET on rejects, or the seawall-id.")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the original bytes, exactly.")] = False,
) -> None:
    """Show one rejected record: why, where it stood, and its original bytes.

    Example: seawall rejects show desk.toml 4/17 --raw > record.json
    """
    _, bus = open_run(where)
    for one in reports.choose_dead_letters(reports.read_dead_letters(bus), [place]):
        if raw:
            sys.stdout.buffer.write(one.original)
        else:
            print(json.dumps({**_plain(one), **one.body}, indent=1))


@_rejects.command("redrive")
def _redrive_rejects(  # noqa: PLR0913 - the options of the command
    where: Where,
    places: Annotated[list[str] | None, typer.Argument(metavar="[PLACE…]", help="PARTITION/OFFSET on rejects.")] = None,
    reason: _Reasons = None,
    source: _Sources = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever was rejected.")] = False,
    why: Annotated[str, typer.Option("--why", help="What was mended; it is kept as evidence.")] = "",
    by: Annotated[str, typer.Option("--by", help="Who sends it; you by default.")] = "",
    replace: Annotated[
        Path | None, typer.Option("--replace", help="Of one record: the file with its corrected form.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Send rejected records in again; what was sent before is not sent twice. Exit 1 when any would fail again.

    Example: seawall rejects redrive desk.toml --reason ACCOUNT_MUST_BE_KNOWN --why "accounts of May were missing"
    """
    configuration, bus = open_run(where)
    if not (places or reason or source or everything):
        raise UsageError("say which: places such as 4/17, --reason, --source or --all; see: seawall rejects list")
    if not why.strip():
        raise UsageError('say what was mended: --why "accounts of May were missing"; it is kept as evidence')
    chosen = reports.choose_dead_letters(reports.read_dead_letters(bus), places or (), reason or (), source or ())
    sender = reports.Redriver(bus, load_mappings(configuration), by or getpass.getuser(), why.strip())
    outcomes = sender.send(chosen, _replacement(replace, chosen), dry_run)
    counts = Counter(one.state for one in outcomes)
    if as_json:
        totals = {state: counts[state] for state in ("sent", "already", "refused")}
        print(json.dumps({**totals, "records": [one._asdict() for one in outcomes]}))
    else:
        for one in outcomes:
            if one.state != "sent":
                print(f"{one.place}: {one.state}: {one.detail}")
        live = "a live run takes them within a second, a bounded one when it runs again"
        verb = "would be sent in" if dry_run else "sent in"
        print(f"{counts['sent']} {verb}, {counts['already']} were before, {counts['refused']} refused; {live}")
    if counts["refused"]:
        raise typer.Exit(1)


def _replacement(path: Path | None, chosen: "list[reports.DeadLetter]") -> str:
    if path is None:
        return ""
    if len(chosen) != 1:
        raise UsageError(f"--replace is for one record, and {len(chosen)} are chosen; name its place")
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from None
    if not text:
        raise UsageError(f"{path} is empty; write the corrected record into it")
    return text


def _plain(one: "reports.DeadLetter") -> dict[str, object]:
    return {
        "place": one.place,
        "id": one.id,
        "reason": one.body["reason"],
        "detail": one.body["detail"],
        "source": one.body["source"],
        "redriven": None if one.redriven < 0 else one.redriven,
    }


COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    **{"exposures": _exposures, "forecast": _forecast, "incidents": _incidents},
    **{"detect": _detect, "convert": _convert, "saccr": _saccr, "map": _map},
    **{"limits": _limits_commands.limits_app, "rejects": _rejects},
}
