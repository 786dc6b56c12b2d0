"""``seawall topics``: the topics of a configuration on a cluster: make them, check them, and say who may use them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seawall.ops.commands.options import Json, Where
from seawall.schemas.errors import UsageError

if TYPE_CHECKING:
    from seawall.connectors.kafka.bus import KafkaBus
    from seawall.schemas.configuration import Configuration

app = typer.Typer(help="Topics of a configuration on Apache Kafka.", no_args_is_help=True)


@app.command()
def create(where: Where, as_json: Json = False) -> None:
    """Make the topics that a configuration needs and that do not exist, with safe settings.

    Example: seawall topics create desk.toml
    """
    from seawall.connectors.topics import topic_partitions

    configuration, bus = _open(where)
    made = bus.create(topic_partitions(configuration))
    if as_json:
        print(json.dumps({"made": made}))
    else:
        print("\n".join(f"made {name}" for name in made) or "every topic exists")


@app.command()
def check(where: Where, as_json: Json = False) -> None:
    """Say what is unsafe about the topics of a configuration; exit 1 when anything is.

    Example: seawall topics check desk.toml
    """
    from seawall.connectors.topics import topic_partitions

    configuration, bus = _open(where)
    found = bus.unsafe(topic_partitions(configuration))
    if as_json:
        print(json.dumps([finding._asdict() for finding in found]))
    else:
        print("\n".join(f"{finding.topic} {finding.what}" for finding in found) or "every topic is as it is to be")
    if found:
        raise typer.Exit(1)


@app.command()
def acl(
    where: Where,
    role: Annotated[str, typer.Option("--role", help="One role only; all but mirror by default.")] = "",
    principal: Annotated[str, typer.Option("--principal", help="Name of the user; {role} is filled in.")] = "{role}",
    as_json: Json = False,
) -> None:
    """List who must be allowed what, role by role, as commands of Kafka's own tool.

    Example: seawall topics acl desk.toml --role risk --principal 'seawall-{role}'
    """
    from seawall.connectors.kafka.acl import ELSEWHERE, ROLES, grants
    from seawall.schemas.tables import nearest

    if role and role not in ROLES:
        raise UsageError(f"--role {role}: there is no such role; did you mean {nearest(role, ROLES)!r}?")
    configuration, bus = _open(where)
    roles = {role} if role else set(ROLES) - set(ELSEWHERE)
    wanted = [grant for grant in grants(bus.address, configuration) if grant.role in roles]
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
    from seawall.connectors.bus import open_bus
    from seawall.connectors.kafka.bus import KafkaBus
    from seawall.schemas.configuration import where as find

    configuration = find(where)
    bus = open_bus(configuration.bus, configuration.directory)
    if not isinstance(bus, KafkaBus):
        raise UsageError(
            f'bus is "{configuration.bus}", which has no topics to make; set bus = "kafka://host:9092/desk"'
        )
    return configuration, bus
