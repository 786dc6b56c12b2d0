"""Does a dataflow go with what stands on its bus? Looked at before it writes anything, whatever starts it.

Every dataflow asks whether the journal was begun with its own configuration: one that only decides or seals would else
put the key of one environment under the commands of another.

A journal that lost its end, by a backup that was older than the other topics, would be cut anew: with live inputs in
other places, under decisions that stand already. With bounded inputs the same slices come again, so nothing is refused.
(A recovery store that stands behind another journal is the source's to tell, ``connectors/journal_source.py``.)
"""

import contextlib
from pathlib import Path

import msgspec

from seawall.connectors.appending import decided
from seawall.connectors.bus import Bus, open_bus
from seawall.schemas.configuration import Configuration, check_unchanged, load_configuration
from seawall.schemas.errors import Gap
from seawall.schemas.slices import decode_slice


def load_joined(path: str | Path) -> Configuration:
    """Return the configuration of a file that goes with the journal on its bus.

    Raises
    ------
    UsageError
        It is wrong, or the journal was begun with another one (``check_journal``).
    """
    configuration = load_configuration(path)
    bus = open_bus(configuration.bus, configuration.directory)
    try:
        check_journal(bus, configuration)
    finally:
        bus.close()
    return configuration


def check_journal(bus: Bus, configuration: Configuration) -> None:
    """Refuse a journal that was begun with another environment, issuer, number of shards, slice length or currency.

    Raises
    ------
    UsageError
        Names what differs. A first slice that retention took, or that is none, is left to those who need it.
    """
    for stored in bus.read("journal", 0, bus.start("journal", 0), 1):
        with contextlib.suppress(msgspec.MsgspecError):
            check_unchanged(configuration, decode_slice(stored.value).configuration or {})


def check_joins(bus: Bus, configuration: Configuration) -> None:
    """Refuse to go on with a live journal that is shorter than what was decided on it.

    Raises
    ------
    Gap
        Names the shard, where both end, and what to do.
    """
    for shard in range(configuration.shards if configuration.topics else 0):
        end, done = bus.end("journal", shard), decided(bus, shard)
        if done > end:
            text = f"audit/{shard} has decided on slice {done - 1}, but journal/{shard} ends before {end}"
            raise Gap(f"{text}: they do not join; bring the journal back from a backup that is as new as the audit")
