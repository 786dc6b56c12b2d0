"""Commands that start, check and move a run.

``run`` and ``doctor`` work on this machine; ``topics`` makes and checks the topics of a cluster;
``mirror``, ``migrate``, ``backup`` and ``restore`` copy a run to another bus or folder, every record compared.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seawall.connectors import bus as buses
from seawall.connectors.bus import kafka, open_bus, topic_partitions
from seawall.ops import replicate
from seawall.ops import run as runner
from seawall.ops.arguments import Json, Where, open_run, say, show_progress
from seawall.schemas.configuration import load_configuration
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError

if TYPE_CHECKING:
    from seawall.connectors.bus.kafka import KafkaBus
    from seawall.schemas.configuration import Configuration

# ``seawall run`` and ``doctor``: the dataflows of a configuration, and this machine.

_DATAFLOW_NAMES = ("market", "sequence", "risk", "seal")
_PARALLEL_MAX = 256  # one machine has no use for more, and each is a process or a thread


def _run(  # noqa: PLR0913 - a command line option each
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The configuration file.")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Run this dataflow only; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=_PARALLEL_MAX, help="Bytewax workers per process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, max=_PARALLEL_MAX, help="Processes of the risk dataflow.")] = 1,
    replica: Annotated[str, typer.Option("--replica", metavar="NAME", help="One of several that run the same.")] = "",
    takeover_s: Annotated[
        float, typer.Option(min=0.1, help="Of a replica: how long a cluster's writer may owe.")
    ] = 2.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 when any record was rejected.")] = False,
    engine: Annotated[str, typer.Option("--engine", help="Host of risk: bytewax, or local, a plain loop.")] = "bytewax",
    as_json: Json = False,
) -> None:
    """Run the dataflows on the configured bus; bounded inputs end, live ones run until stopped.

    Example: seawall run desk.toml --workers 2
    """
    for name in only or ():
        if name not in _DATAFLOW_NAMES:
            raise UsageError(f"--only {name}: there is no such dataflow; choose from {', '.join(_DATAFLOW_NAMES)}")
    if replica and not replica.isidentifier():
        raise UsageError(f"--replica {replica!r} is no name; use letters, digits and _, such as --replica b")
    part = buses.Replica(replica, takeover_s) if replica else None
    outcome = runner.run(find(config), only or (), workers, processes, part, engine)
    if as_json:
        print(outcome.to_json())
    else:
        for name, totals in outcome.dataflows.items():
            say(f"{name}: {totals.slices:,} slices, {totals.events:,} events, {totals.seconds:.1f} CPU seconds")
    if outcome.rejected:
        say(f"{outcome.rejected} records rejected in all; see them with: seawall rejects list {config}")
        if strict:
            raise typer.Exit(2)


def _doctor(where: Annotated[Path | None, typer.Argument(metavar="[WHERE]")] = None, as_json: Json = False) -> None:
    """Check this machine and, with WHERE, a configuration: versions, keys, files, bus, recovery store.

    Example: seawall doctor desk.toml
    """
    checks = runner.examine(where)
    if as_json:
        print(json.dumps([check._asdict() for check in checks]))
    else:
        for check in checks:
            print(f"{'ok  ' if check.good else 'FAIL'} {check.name}: {check.detail}")
    if not all(check.good for check in checks):
        raise typer.Exit(1)


# ``seawall topics``: the topics of a configuration on a cluster: make them, check them, and say who may use them.

_topics = typer.Typer(help="Topics of a configuration on Apache Kafka.", no_args_is_help=True)


@_topics.command("create")
def _create(where: Where, as_json: Json = False) -> None:
    """Make the topics that a configuration needs and that do not exist, with safe settings.

    Example: seawall topics create desk.toml
    """
    configuration, bus = _open(where)
    made = bus.create(topic_partitions(configuration))
    if as_json:
        print(json.dumps({"made": made}))
    else:
        print("\n".join(f"made {name}" for name in made) or "every topic exists")


@_topics.command("check")
def _check(where: Where, as_json: Json = False) -> None:
    """Say what is unsafe about the topics of a configuration; exit 1 when anything is.

    Example: seawall topics check desk.toml
    """
    configuration, bus = _open(where)
    found = bus.unsafe(topic_partitions(configuration))
    if as_json:
        print(json.dumps([finding._asdict() for finding in found]))
    else:
        print("\n".join(f"{finding.topic} {finding.what}" for finding in found) or "every topic is as it is to be")
    if found:
        raise typer.Exit(1)


@_topics.command("acl")
def _acl(
    where: Where,
    role: Annotated[str, typer.Option("--role", help="One role only; all but mirror by default.")] = "",
    principal: Annotated[str, typer.Option("--principal", help="Name of the user; {role} is filled in.")] = "{role}",
    as_json: Json = False,
) -> None:
    """List who must be allowed what, role by role, as commands of Kafka's own tool.

    Example: seawall topics acl desk.toml --role risk --principal 'seawall-{role}'
    """
    configuration, bus = _open(where)
    wanted = kafka.grants(bus.address, configuration, role)
    if as_json:
        print(json.dumps([{"principal": principal.format(role=one.role), **one._asdict()} for one in wanted]))
        return
    before = ""
    for grant in wanted:
        if grant.role != before:
            print(f"# {grant.role}")
        before = grant.role
        print(grant.command(bus.address.servers, principal.format(role=grant.role)))


def _open(where: Path) -> "tuple[Configuration, KafkaBus]":
    configuration = find(where)
    bus = open_bus(configuration.bus, configuration.directory)
    if not isinstance(bus, kafka.KafkaBus):
        raise UsageError(
            f'bus is "{configuration.bus}", which has no topics to make; set bus = "kafka://host:9092/desk"'
        )
    return configuration, bus


# ``seawall mirror``: all topics of a run on a second bus, while it goes on.


def _mirror(
    where: Where,
    to: Annotated[str, typer.Option("--to", metavar="BUS_URL", help="The other bus; paths count from the run's.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until SIGTERM.")] = False,
    lag_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two lines that tell the lag.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Copy all topics of a run to another bus, such as the cluster of another region, while it goes on.

    Whenever it ends, by kill -9 too, what stands there joins; started again, it goes on where that ends. Live input
    topics are not copied. Once a run begins on the copy, the mirror is refused there.

    Example: seawall mirror desk.toml --to 'kafka://broker.west:9092/desk' --follow
    """
    configuration, bus = open_run(where)
    bus.close()
    stop = runner.Stop()
    with stop.on_signal():
        done = replicate.mirror(configuration, to, follow, stop.event, lambda line: say(f"mirror: {line}"), lag_s)
    lag = None if done.lag is None else done.lag._asdict()
    if as_json:
        print(json.dumps({"bus": to, "records": done.records, "lag": lag}))
    else:
        behind = "the buses did not answer when it ended" if done.lag is None else str(done.lag)
        print(f"mirrored {sum(done.records.values()):,} records to {to}: {behind}")


# ``seawall migrate``, ``backup`` and ``restore``: a run elsewhere, every record compared.


def _migrate(
    where: Where,
    target: Annotated[
        Path | None, typer.Argument(metavar="[NEW.toml]", help="The same configuration, with another bus.")
    ] = None,
    to: Annotated[
        str, typer.Option("--to", metavar="ENGINE|VERSION", help="Instead: bytewax or flink, or this version, as 0.2.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Move a journal and all its topics to another bus, record by record, and compare them; nothing else changes.

    Killed, it goes on where it stopped. From then on runs are refused on the old bus. With --to the states of `risk` go
    to another engine instead, which then goes on where the one before stopped; or the journal, which an earlier version
    decided up to its end, goes on under the rules of this one.

    Example: seawall migrate desk.toml desk-kafka.toml; seawall migrate desk.toml --to 0.2
    """
    if to:
        _change_engine(where, target, to, as_json)
        return

    if target is None:
        raise UsageError("name the configuration with the other bus, or an engine with --to")
    source, new = find(where), load_configuration(target)
    with show_progress(f"to {new.bus}") as seen:
        moved = replicate.migrate(source, new, seen)
    if as_json:
        print(json.dumps({"bus": new.bus, "records": moved}))
    else:
        for topic, count in moved.items():
            print(f"{count:>10,}  {topic}")
        print(f"{sum(moved.values()):,} records stand on {new.bus}, compared byte by byte; run: seawall run {target}")


def _change_engine(where: Path, target: Path | None, engine: str, as_json: bool) -> None:
    """Change the engine, or the version that decides."""
    if target is not None:
        raise UsageError("an engine and a bus are changed one after the other: leave out --to or the second file")
    is_version = engine[:1].isdigit()
    places = (runner.change_version if is_version else runner.change_engine)(find(where), engine)
    if as_json:
        print(json.dumps({"version" if is_version else "engine": engine, "places": places}))
    elif is_version and places:
        print(f"the rules of {engine} decide from these slices of each shard on: {places}; run: seawall run {where}")
    elif is_version:
        print(f"the rules of {engine} decide already: nothing to do")
    else:
        print(f"{len(places)} states stand where {engine} finds them; they go on after {places}")


def _backup(
    where: Where,
    to: Annotated[Path, typer.Option("--to", help="The folder that the objects go to.")],
    as_json: Json = False,
) -> None:
    """Add to a backup what came since it was last made; dataflows may be running.

    Private keys are left out: they are kept elsewhere. Example: seawall backup desk.toml --to /mnt/backup/desk
    """
    with show_progress(f"to {to}") as seen:
        made = replicate.back_up(find(where), to, seen)
    if as_json:
        print(json.dumps(made._asdict()))
        return
    for line in made.left_out:
        say(f"left out: {line}")
    print(f"backup {made.number}: {sum(made.records.values()):,} new records, {made.files} files in {to}")


def _restore(
    folder: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `seawall backup` has written.")],
    into: Annotated[Path, typer.Option("--into", help="An empty folder for the run.")],
    bus: Annotated[str, typer.Option("--bus", help="Another bus than the configuration names.")] = "",
) -> None:
    """Bring a backup back into an empty folder and an empty bus, and compare every record.

    Example: seawall restore /mnt/backup/desk --into desk-again
    """
    with show_progress(f"into {into}") as seen:
        configuration = replicate.restore(folder, into, bus, seen)
    print(f"restored and compared; bring the private keys back, then run: seawall run {configuration.path}")


COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    **{"run": _run, "doctor": _doctor, "topics": _topics},
    **{"mirror": _mirror, "migrate": _migrate, "backup": _backup, "restore": _restore},
}
