"""The command line (CONTRACT §5): thin commands over ``ops``; exit 0 good, 1 a negative finding, 2 bad usage."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

import seawall
from seawall.ops.commands import audit as audit_command
from seawall.ops.commands import backtest as backtest_command
from seawall.ops.commands import calibrate as calibrate_command
from seawall.ops.commands import console as console_command
from seawall.ops.commands import drill as drill_command
from seawall.ops.commands import keys as keys_command
from seawall.ops.commands import map as map_command
from seawall.ops.commands import rejects as rejects_command
from seawall.ops.commands import stress as stress_command
from seawall.ops.commands import topics as topics_command
from seawall.ops.commands.limits import app as limits_app
from seawall.ops.commands.playbook import app as playbook_app
from seawall.schemas.errors import SeawallError, UsageError

app = typer.Typer(
    name="seawall",
    help="Streaming counterparty risk: exposures, limits, signed mitigation commands and provable audit records.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(keys_command.app, name="keys")
app.add_typer(audit_command.app, name="audit")
app.add_typer(limits_app, name="limits")
app.add_typer(rejects_command.app, name="rejects")
app.add_typer(map_command.app, name="map")
app.add_typer(playbook_app, name="playbook")
app.add_typer(topics_command.app, name="topics")
app.command()(backtest_command.backtest)
app.command()(stress_command.stress)
app.command()(calibrate_command.calibrate)
app.command()(drill_command.drill)

Where = Annotated[Path, typer.Argument(metavar="WHERE", help="A run directory or a configuration file.")]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")]
SHOWN_MAX = 10  # findings per topic: one changed record makes all that follow it unexpected
DATAFLOW_NAMES = ("market", "sequence", "risk", "seal")


def main() -> None:
    """Run the command line; errors are one line on standard error."""
    os.environ["RUST_BACKTRACE"] = "0"  # the engine's own frames tell a user nothing; ours are chained to the error
    try:
        code = app(standalone_mode=False)  # what a command leaves with `typer.Exit`
    except SeawallError as error:
        _say(f"seawall: {error}")
        sys.exit(error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        _say(f"seawall: {usage()}; see seawall --help")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(seawall.__version__)
        raise typer.Exit


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Streaming counterparty risk: exposures, limits, signed mitigation commands and provable audit records."""


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The configuration file.")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Run this dataflow only; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Bytewax workers per process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes of the risk dataflow.")] = 1,
    replica: Annotated[str, typer.Option("--replica", metavar="NAME", help="One of several that run the same.")] = "",
    takeover_s: Annotated[
        float, typer.Option(min=0.1, help="Of a replica: how long a cluster's writer may owe.")
    ] = 2.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 when any record was rejected.")] = False,
    as_json: Json = False,
) -> None:
    """Run the dataflows on the configured bus; bounded inputs end, live ones run until stopped.

    Example: seawall run desk.toml --workers 2
    """
    from seawall.connectors.replica import Replica
    from seawall.ops import run as runner
    from seawall.schemas.configuration import where

    for name in only or ():
        if name not in DATAFLOW_NAMES:
            raise UsageError(f"--only {name}: there is no such dataflow; choose from {', '.join(DATAFLOW_NAMES)}")
    if replica and not replica.isidentifier():
        raise UsageError(f"--replica {replica!r} is no name; use letters, digits and _, such as --replica b")
    part = Replica(replica, takeover_s) if replica else None
    outcome = runner.run(where(config), only or (), workers, processes, part)
    if as_json:
        print(outcome.to_json())
    else:
        for name, totals in outcome.dataflows.items():
            _say(f"{name}: {totals.slices:,} slices, {totals.events:,} events, {totals.seconds:.1f} CPU seconds")
    if outcome.rejected:
        _say(f"{outcome.rejected} records rejected in all; see them with: seawall rejects list {config}")
        if strict:
            raise typer.Exit(2)


@app.command()
def dump(where: Where, topic: Annotated[str, typer.Argument(help="journal, exposures, commands, audit, …")]) -> None:
    """Print the records of a topic as JSON lines, ordered by partition and offset.

    Example: seawall dump desk.toml commands
    """
    from seawall.connectors.bus import TOPICS
    from seawall.ops.verification.replay import read_all

    configuration, bus = _open(where)
    if topic not in (*TOPICS, *configuration.topics):
        raise UsageError(f"there is no topic {topic}; choose from {', '.join(TOPICS)}")
    write = sys.stdout.buffer.write
    for partition in bus.partitions(topic):
        for stored in read_all(bus, topic, partition):
            line: dict[str, Any] = {
                "partition": partition,
                "offset": stored.offset,
                "key": stored.key,
                "headers": stored.headers,
            }
            try:
                line["value"] = stored.value.decode()
            except UnicodeDecodeError:
                import base64

                line["value_base64"] = base64.b64encode(stored.value).decode()
            write(orjson.dumps(line) + b"\n")


@app.command()
def verify(where: Where, as_json: Json = False) -> None:
    """Verify every signature, chain, id sequence and hash; say exactly what is wrong and where.

    Example: seawall verify ./run
    """
    from seawall.connectors.limit_documents import read_key_sets
    from seawall.connectors.trust import load_trust
    from seawall.ops.verification.limits import verify_limits
    from seawall.ops.verification.logs import trusted_logs
    from seawall.ops.verification.verify import verify as check

    configuration, bus = _open(where)
    trust, logs = load_trust(configuration), trusted_logs(configuration)
    report = check(bus, trust, configuration.environment, configuration.issuer, logs, configuration.topics)
    key_sets = {found.sha256: found for found in read_key_sets(configuration)}
    if key_sets:
        verify_limits(bus, key_sets, report)
    _report(report, as_json, "verified")


@app.command()
def replay(where: Where, as_json: Json = False) -> None:
    """Derive all outputs again from the journal and compare them byte for byte.

    Example: seawall replay ./run
    """
    from seawall.connectors.trust import load_trust
    from seawall.ops.verification.replay import replay as derive

    configuration, bus = _open(where)
    report, slices, seconds = derive(bus, load_trust(configuration).issuers, configuration.shards)
    rejected = sum(bus.end("rejects", partition) for partition in bus.partitions("rejects"))
    if as_json:
        totals = {"slices": slices, "events": sum(report.records.values()), "seconds": seconds}
        print(json.dumps({"dataflows": {"risk": totals}, "rejected": rejected}))
    _report(report, False, "replayed", sys.stderr if as_json else sys.stdout)


def _report(report: Any, as_json: bool, done: str, out: Any = None) -> None:
    """Print a report like a compiler: where and what, then why and what next; leave with 1 where it is not good."""
    from seawall.ops.verification.findings import RULES

    out = out or sys.stdout
    findings = [*report.findings, *report.behind]
    if as_json:
        listed = [finding.explained() for finding in findings]
        print(json.dumps({"good": report.good, "records": report.records, "findings": listed}), file=out)
    else:
        shown: dict[str, int] = {}
        for finding in findings:
            shown[finding.topic] = shown.get(finding.topic, 0) + 1
            if shown[finding.topic] <= SHOWN_MAX:
                print(f"{finding} [{finding.rule}]", file=out)
        for topic, count in shown.items():
            if count > SHOWN_MAX:
                print(f"{topic}: {count - SHOWN_MAX} more findings follow from these; --json lists them all", file=out)
        for rule in dict.fromkeys(finding.rule for finding in findings):
            print(f"{rule}  why: {RULES[rule][0]}\n{'':{len(rule)}} next: {RULES[rule][1]}", file=out)
        total = sum(report.records.values())
        if report.good:
            counts = ", ".join(f"{count:,} {topic}" for topic, count in sorted(report.records.items()))
            print(f"{done}: {total:,} records, nothing changed, removed, added or swapped ({counts})", file=out)
        elif not report.findings:
            print("outputs are behind the journal: unfinished or cut; run again to finish", file=out)
        else:
            print(f"{len(report.findings)} findings in {total:,} records: do not trust this run", file=out)
    if not report.good:
        raise typer.Exit(1)


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to run; a new folder by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated market.")] = 7,
) -> None:
    """Rehearse a simulated crisis on the embedded bus, then verify it and show that tampering is found.

    Example: seawall demo --dir ./demo
    """
    from seawall.ops.demo.demo import demo as rehearse

    raise typer.Exit(rehearse(directory, seed))


@app.command()
def detect(
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
    from seawall.ops.detect import detect_csv

    found = detect_csv(file, time, value, out, plot, price, band)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        by = f" ({found.by_rule} by the rule, {found.by_score} by the score)" if price else ""
        _say(f"{found.rows} rows, {found.alerts} alerts{by}, {found.invalid} rows without a finite value: {out}")


@app.command()
def convert(
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
    from seawall.ops import convert as conversion

    if form == "ohlcv":
        done = conversion.convert_bars(file, venue, instrument, interval_s, stamp, sys.stdout.buffer)
    else:
        options = conversion.Options(conversion.parse_names(name or []), levels, depth_ms * 1_000, describe)
        done = conversion.convert_messages(form, file, options, sys.stdout.buffer)
    for line in [json.dumps(done.as_dict())] if as_json else done.lines():
        _say(line)
    if strict and done.refused:
        raise typer.Exit(1)


@app.command()
def saccr(file: Annotated[Path, typer.Argument(metavar="FILE.json", help="A netting set; see ops/saccr.md.")]) -> None:
    """Compute the SA-CCR exposure at default of a netting set, with every figure on the way, as JSON.

    Example: seawall saccr netting_set.json
    """
    from seawall.operators.core.saccr.document import DocumentError, parse_json
    from seawall.operators.core.saccr.saccr import exposure_at_default

    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}; name an existing file") from error
    try:
        result = exposure_at_default(parse_json(text))
    except DocumentError as error:
        raise UsageError(f"{file.name}: {error}") from error
    print(json.dumps(result, indent=2))


@app.command()
def exposures(
    where: Where,
    as_of: Annotated[str, typer.Option("--as-of", help="Event time: 2021-05-19T13:00, or microseconds.")] = "",
    top: Annotated[int, typer.Option("--top", min=1, help="Rows per kind of scope in the table.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row per scope, measure and limit.")] = False,
    as_json: Json = False,
) -> None:
    """Show the measures of every scope at a time, how much of its limits is used, and the effective bounds.

    The journal is replayed to that time, so values are exact.

    Example: seawall exposures desk.toml --as-of 2021-05-19T13:00 --top 10
    """
    from seawall.ops import exposures as reports
    from seawall.ops.commands.limits import parse_time

    configuration, bus = _open(where)
    with reports.progress(bus, configuration.shards) as seen:
        found = reports.report(bus, configuration.shards, parse_time(as_of), seen)
    if as_json:
        print(json.dumps(reports.as_json(found)))
    elif as_csv:
        print(reports.as_csv(found), end="")
    else:
        reports.print_report(found, top)


@app.command()
def migrate(
    where: Where,
    target: Annotated[
        Path | None, typer.Argument(metavar="[NEW.toml]", help="The same configuration, with another bus.")
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="ENGINE", help="Move states instead: bytewax or flink.")] = "",
    as_json: Json = False,
) -> None:
    """Move a journal and all its topics to another bus, record by record, and compare them; nothing else changes.

    Killed, it goes on where it stopped. From then on runs are refused on the old bus. With --to the states of `risk` go
    to another engine instead, which then goes on where the one before stopped.

    Example: seawall migrate desk.toml desk-kafka.toml; seawall migrate desk-kafka.toml --to flink
    """
    if to:
        _change_engine(where, target, to, as_json)
        return
    from seawall.ops import migrate as mover
    from seawall.schemas.configuration import RUN_FILE, load_configuration
    from seawall.schemas.configuration import where as find

    if target is None:
        raise UsageError("name the configuration with the other bus, or an engine with --to")
    source, new = find(where), load_configuration(target)
    with _progress(f"to {new.bus}") as seen:
        moved = mover.migrate(source, new, seen)
    mover.save(new, new.directory / RUN_FILE)
    if as_json:
        print(mover.as_json(moved, new))
    else:
        for topic, count in moved.items():
            print(f"{count:>10,}  {topic}")
        print(f"{sum(moved.values()):,} records stand on {new.bus}, compared byte by byte; run: seawall run {target}")


def _change_engine(where: Path, target: Path | None, engine: str, as_json: bool) -> None:
    import json

    from seawall.ops.engines import change_engine
    from seawall.schemas.configuration import where as find

    if target is not None:
        raise UsageError("an engine and a bus are changed one after the other: leave out --to or the second file")
    places = change_engine(find(where), engine)
    if as_json:
        print(json.dumps({"engine": engine, "places": places}))
    else:
        print(f"{len(places)} states stand where {engine} finds them; they go on after {places}")


@app.command()
def backup(
    where: Where,
    to: Annotated[Path, typer.Option("--to", help="The folder that the objects go to.")],
    as_json: Json = False,
) -> None:
    """Add to a backup what came since it was last made; dataflows may be running.

    Private keys are left out: they are kept elsewhere. Example: seawall backup desk.toml --to /mnt/backup/desk
    """
    from seawall.ops import backup as keeper
    from seawall.schemas.configuration import where as find

    with _progress(f"to {to}") as seen:
        made = keeper.back_up(find(where), to, seen)
    if as_json:
        print(json.dumps(made._asdict()))
        return
    for line in made.left_out:
        _say(f"left out: {line}")
    print(f"backup {made.number}: {sum(made.records.values()):,} new records, {made.files} files in {to}")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `seawall backup` has written.")],
    into: Annotated[Path, typer.Option("--into", help="An empty folder for the run.")],
    bus: Annotated[str, typer.Option("--bus", help="Another bus than the configuration names.")] = "",
) -> None:
    """Bring a backup back into an empty folder and an empty bus, and compare every record.

    Example: seawall restore /mnt/backup/desk --into desk-again
    """
    from seawall.ops import backup as keeper

    with _progress(f"into {into}") as seen:
        configuration = keeper.restore(folder, into, bus, seen)
    print(f"restored and compared; bring the private keys back, then run: seawall run {configuration.path}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """Show how many records were handled, where somebody looks."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        bar = shown.add_task(what, total=None)
        yield lambda count: shown.advance(bar, count)


@app.command()
def forecast(
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
    from seawall.ops import forecasts, losses
    from seawall.ops.commands.limits import parse_time

    configuration, bus = _open(where)
    if liquidations:
        from seawall.ops import exposures as reports
        from seawall.ops import liquidations as maps

        with reports.progress(bus, configuration.shards) as seen:
            drawn = maps.report(bus, configuration.shards, parse_time(as_of), seen)
        print(json.dumps(maps.as_json(drawn))) if as_json else maps.print_report(drawn)
        return
    found = forecasts.report(bus, parse_time(as_of))
    if plot is not None:
        forecasts.plot(found, plot)
    if as_json:
        print(json.dumps(found._asdict()))
    elif score:
        forecasts.print_scores(found)
    else:
        forecasts.print_report(found, horizon, top)
        losses.print_losses(found.losses, configuration.reporting_currency, top)


@app.command()
def incidents(
    where: Where,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show open incidents: causes, commands and acknowledgements in order, and what only people can release.

    Example: seawall incidents desk.toml --all
    """
    from seawall.ops.incidents import read_incidents
    from seawall.ops.incidents_report import as_dicts, as_lines

    _, bus = _open(where)
    found = read_incidents(bus)
    chosen = [one for one in found.found.values() if everything or one.open]
    chosen.sort(key=lambda one: one.opened_us)
    if as_json:
        print(json.dumps(as_dicts(chosen)))
    else:
        for line in as_lines(chosen, len(found.found)):
            print(line)


app.command()(console_command.console)


@app.command()
def doctor(where: Annotated[Path | None, typer.Argument(metavar="[WHERE]")] = None, as_json: Json = False) -> None:
    """Check this machine and, with WHERE, a configuration: versions, keys, files, bus, recovery store.

    Example: seawall doctor desk.toml
    """
    from seawall.ops.doctor import examine

    checks = examine(where)
    if as_json:
        print(json.dumps([check._asdict() for check in checks]))
    else:
        for check in checks:
            print(f"{'ok  ' if check.good else 'FAIL'} {check.name}: {check.detail}")
    if not all(check.good for check in checks):
        raise typer.Exit(1)


def _open(where: Path) -> tuple[Any, Any]:
    """Return the configuration and the bus of WHERE; a run that has not begun has no bus."""
    from seawall.connectors.bus import open_bus
    from seawall.schemas.configuration import where as find

    configuration = find(where)
    scheme, _, rest = configuration.bus.partition(":")
    if scheme == "sqlite" and not (configuration.directory / rest).exists():
        raise UsageError(f"{configuration.directory / rest} does not exist; run it first: seawall run {where}")
    return configuration, open_bus(configuration.bus, configuration.directory)
