"""``seawall mirror``: all topics of a run on a second bus, while it goes on."""

import json
from typing import Annotated

import typer

from seawall.ops.commands.options import Json, Where, opened, say


def mirror(
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
    from seawall.ops import mirror as mirrors
    from seawall.ops.stopping import Stop

    configuration, bus = opened(where)
    bus.close()
    stop = Stop()
    with stop.on_signal():
        done = mirrors.mirror(configuration, to, follow, stop.event, lambda line: say(f"mirror: {line}"), lag_s)
    lag = None if done.lag is None else done.lag._asdict()
    if as_json:
        print(json.dumps({"bus": to, "records": done.records, "lag": lag}))
    else:
        behind = "the buses did not answer when it ended" if done.lag is None else str(done.lag)
        print(f"mirrored {sum(done.records.values()):,} records to {to}: {behind}")
