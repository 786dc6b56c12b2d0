"""Does what was decided join what was journaled? Looked at before a live run cuts its next slice.

A journal that lost its end, by a backup that was older than the other topics, would be cut anew: with live inputs in
other places, under decisions that stand already. With bounded inputs the same slices come again, so nothing is refused.
(A recovery store that stands behind another journal is the source's to tell, ``connectors/engine.py``.)
"""

from seawall.connectors.appending import decided
from seawall.connectors.bus import Bus
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import Gap


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
