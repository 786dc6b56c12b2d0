"""``seawall migrate``, ``backup`` and ``restore``: a run elsewhere, every record compared."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seawall.ops.commands.options import Json, Where, progress, say
from seawall.schemas.errors import UsageError


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
    with progress(f"to {new.bus}") as seen:
        moved = mover.migrate(source, new, seen)
    mover.save(new, new.directory / RUN_FILE)
    if as_json:
        print(mover.as_json(moved, new))
    else:
        for topic, count in moved.items():
            print(f"{count:>10,}  {topic}")
        print(f"{sum(moved.values()):,} records stand on {new.bus}, compared byte by byte; run: seawall run {target}")


def _change_engine(where: Path, target: Path | None, engine: str, as_json: bool) -> None:
    from seawall.ops.engines import change_engine
    from seawall.schemas.configuration import where as find

    if target is not None:
        raise UsageError("an engine and a bus are changed one after the other: leave out --to or the second file")
    places = change_engine(find(where), engine)
    if as_json:
        print(json.dumps({"engine": engine, "places": places}))
    else:
        print(f"{len(places)} states stand where {engine} finds them; they go on after {places}")


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

    with progress(f"to {to}") as seen:
        made = keeper.back_up(find(where), to, seen)
    if as_json:
        print(json.dumps(made._asdict()))
        return
    for line in made.left_out:
        say(f"left out: {line}")
    print(f"backup {made.number}: {sum(made.records.values()):,} new records, {made.files} files in {to}")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `seawall backup` has written.")],
    into: Annotated[Path, typer.Option("--into", help="An empty folder for the run.")],
    bus: Annotated[str, typer.Option("--bus", help="Another bus than the configuration names.")] = "",
) -> None:
    """Bring a backup back into an empty folder and an empty bus, and compare every record.

    Example: seawall restore /mnt/backup/desk --into desk-again
    """
    from seawall.ops import backup as keeper

    with progress(f"into {into}") as seen:
        configuration = keeper.restore(folder, into, bus, seen)
    print(f"restored and compared; bring the private keys back, then run: seawall run {configuration.path}")
