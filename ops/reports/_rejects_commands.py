"""``seawall rejects``: list and show what was rejected, and send it in again once its cause is mended."""

import getpass
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.mapping import load_mappings
from seawall.ops import reports
from seawall.ops.arguments import Json, Where
from seawall.schemas.configuration import Configuration
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError
from seawall.schemas.records import REDRIVE

rejects_app = typer.Typer(help="See what was rejected and why, and send it in again.", no_args_is_help=True)

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Of this reason; may be repeated.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="From this file or topic; may be repeated.")]
DETAIL_MAX = 100


@rejects_app.command("list")
def list_rejects(
    where: Where,
    reason: Reasons = None,
    source: Sources = None,
    waiting: Annotated[bool, typer.Option("--open", help="Only what was not sent in again.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table; --json has all.")] = 50,
    as_json: Json = False,
) -> None:
    """List rejected records: place, reason, where they stood, what was wrong, and whether they went in again.

    Example: seawall rejects list desk.toml --reason ACCOUNT_MUST_BE_KNOWN --open
    """
    _, bus = _open(where)
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
        table.add_row(one.place, one.body["reason"], one.where(), str(one.body["detail"])[:DETAIL_MAX], went)
    console = Console()
    console.print(table, markup=False)
    for name, count in counts.most_common():
        console.print(f"{count:>8,}  {name}", markup=False)
    if len(chosen) > limit:
        print(f"{len(chosen) - limit} more; --limit {len(chosen)} shows them", file=sys.stderr)


@rejects_app.command("show")
def show_rejects(
    where: Where,
    place: Annotated[str, typer.Argument(metavar="PLACE", help="PARTITION/OFFSET on rejects, or the seawall-id.")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the original bytes, exactly.")] = False,
) -> None:
    """Show one rejected record: why, where it stood, and its original bytes.

    Example: seawall rejects show desk.toml 4/17 --raw > record.json
    """
    _, bus = _open(where)
    for one in reports.choose_dead_letters(reports.read_dead_letters(bus), [place]):
        if raw:
            sys.stdout.buffer.write(one.original)
        else:
            print(json.dumps({**_plain(one), **one.body}, indent=1))


@rejects_app.command("redrive")
def redrive_rejects(  # noqa: PLR0913 - the options of the command
    where: Where,
    places: Annotated[list[str] | None, typer.Argument(metavar="[PLACE…]", help="PARTITION/OFFSET on rejects.")] = None,
    reason: Reasons = None,
    source: Sources = None,
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
    configuration, bus = _open(where)
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


def _open(where: Path) -> tuple[Configuration, Bus]:
    configuration = find(where)
    return configuration, open_bus(configuration.bus, configuration.directory)
