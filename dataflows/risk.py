"""``risk``: the journal in; exposures, alerts, breaches, commands, audit and rejects out.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.risk:flow('desk.toml')"``.
"""

from collections.abc import Callable
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from seawall.connectors.bus import POLL, JournalSource, RecordSink, Replica, open_bus
from seawall.connectors.keys import load_trust, open_signer
from seawall.connectors.signatures import CommandSigner
from seawall.dataflows._journal import load_compatible
from seawall.dataflows._risk_steps import decide_slices
from seawall.schemas.configuration import Configuration

LIVE_POLL = timedelta(milliseconds=2)  # a command waits for it; a look at a cluster asks it nothing


def flow(path: str) -> Dataflow:
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    return build(load_compatible(path), None, lambda: False)


def build(
    configuration: Configuration,
    finished: Callable[[], bool] | None,
    stopped: Callable[[], bool],
    replica: Replica | None = None,
) -> Dataflow:
    """Wire both steps of risk between the journal and the topics that they write.

    Parameters
    ----------
    configuration
        The run's configuration.
    finished
        Tells that the journal is complete; None: it is where a slice says so, and never with live topics.
    stopped
        Tells that the run is to stop now.
    replica
        How this process takes part where several run the same; None: it is the only one.
    """
    base, shards = configuration.directory, configuration.shards
    bus = open_bus(configuration.bus, base)
    signer = CommandSigner(open_signer(configuration.signer, base), bus, load_trust(configuration).issuers)
    journal = JournalSource(
        configuration.bus,
        "journal",
        shards,
        base,
        finished,
        stopped,
        follow=bool(configuration.topics),
        poll=LIVE_POLL if configuration.topics else POLL,
        replica=replica is not None,
    )
    dataflow = Dataflow("risk")
    slices = op.input("journal", dataflow, journal)
    decided = decide_slices("pipeline", slices, shards, signer)
    op.output("records", decided, RecordSink(configuration.bus, None, shards + 1, base, replica=replica))
    return dataflow
