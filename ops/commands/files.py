"""``seawall detect``, ``convert`` and ``saccr``: one file in, figures out; no configuration and no bus."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from seawall.ops.commands.options import Json, say
from seawall.schemas.errors import UsageError


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
        say(f"{found.rows} rows, {found.alerts} alerts{by}, {found.invalid} rows without a finite value: {out}")


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
        say(line)
    if strict and done.refused:
        raise typer.Exit(1)


def saccr(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="A netting set; see ops/docs/manual/saccr.md.")],
) -> None:
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
