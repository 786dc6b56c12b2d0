"""How many partitions each topic of a configuration has (architecture.md, "Exactly once")."""

from seawall.connectors.bus import TOPICS
from seawall.schemas.configuration import Configuration

ANY = 0


def topic_partitions(configuration: Configuration) -> dict[str, int]:
    """Return the partitions of Seawall's topics, and ``ANY`` for the live inputs, which others make."""
    counts = dict.fromkeys(TOPICS, configuration.shards + 1)
    counts |= {
        "journal": configuration.shards,
        "signals": configuration.market.groups,
        "acknowledgements": 1,
        "redrive": 1,
    }
    return {topic: ANY for topic in configuration.topics if topic not in TOPICS} | counts
