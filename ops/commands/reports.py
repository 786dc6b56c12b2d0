"""``seawall exposures``, ``forecast`` and ``incidents``: what a run knows, for people."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seawall.ops.commands.options import Json, Where, opened


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

    configuration, bus = opened(where)
    with reports.progress(bus, configuration.shards) as seen:
        found = reports.report(bus, configuration.shards, parse_time(as_of), seen)
    if as_json:
        print(json.dumps(reports.as_json(found)))
    elif as_csv:
        print(reports.as_csv(found), end="")
    else:
        reports.print_report(found, top)


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

    configuration, bus = opened(where)
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

    _, bus = opened(where)
    found = read_incidents(bus)
    chosen = [one for one in found.found.values() if everything or one.open]
    chosen.sort(key=lambda one: one.opened_us)
    if as_json:
        print(json.dumps(as_dicts(chosen)))
    else:
        for line in as_lines(chosen, len(found.found)):
            print(line)
