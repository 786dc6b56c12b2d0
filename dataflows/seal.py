"""``seal``: audit in, the transparency log over it out: tiles, and checkpoints on a topic and in files.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.seal:flow('desk.toml')"``.
"""

from collections.abc import Callable
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from seawall import operators as sw
from seawall.connectors.journal_source import JournalSource
from seawall.connectors.keys import SEALERS
from seawall.connectors.signers import open_signer
from seawall.dataflows.joins import load_joined
from seawall.dataflows.logs import LogSink
from seawall.schemas.configuration import Configuration

POLL = timedelta(milliseconds=50)  # a batch has costs of its own (files, a transaction): a few records are not worth it


def flow(path: str) -> Dataflow:
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    return build(load_joined(path), None, lambda: False)


def build(
    configuration: Configuration,
    finished: Callable[[], bool] | None,
    stopped: Callable[[], bool],
    take: bool = False,
) -> Dataflow:
    """Wire the sealer between the audit and its logs.

    Parameters
    ----------
    configuration
        The run's configuration.
    finished
        Tells that the audit is complete; None: it is where a record says so, and never with live topics.
    stopped
        Tells that the run is to stop now.
    take
        Fence whoever seals, where the bus can.
    """
    base, partitions = configuration.directory, configuration.shards + 1
    follow = bool(configuration.topics)
    audit = JournalSource(configuration.bus, "audit", partitions, base, finished, stopped, follow, POLL)
    dataflow = Dataflow("seal")
    records = op.input("audit", dataflow, audit)
    sealed = sw.seal_log("seal", records, configuration.issuer, configuration.environment, configuration.shards)
    sink = LogSink(configuration, lambda: open_signer(configuration.sealer, base, SEALERS), take)
    op.output("log", sealed, sink)
    return dataflow
