"""Where one version of Seawall ends and the next begins: at a slice behind all that the earlier one has decided.

The journal says which version decides from which slice on (``schemas/versions.py``). The sequencer of a version that
decides otherwise therefore cuts nothing before every slice of the earlier one has its audit record.
"""

from collections.abc import Mapping
from typing import Any

import seawall
from seawall.connectors.appending import decided
from seawall.connectors.bus import Bus
from seawall.schemas.errors import UsageError
from seawall.schemas.versions import decides


def check_drained(bus: Bus, shards: int, previous: Mapping[str, Any] | None) -> None:
    """Check that nothing of an earlier version waits for its decision.

    Parameters
    ----------
    bus
        Of the journal.
    shards
        Of the journal.
    previous
        The last configuration event of the journal; None where there is none.

    Raises
    ------
    UsageError
        Names the first shard with slices that only the earlier version can decide, and what to do.
    """
    code = str((previous or {}).get("code", ""))
    if decides(code):
        return
    for shard in range(shards):
        done, end = decided(bus, shard), bus.end("journal", shard)
        if done < end:
            text = f"slices {done} to {end - 1} of shard {shard} were cut by Seawall {code} and are not decided yet"
            raise UsageError(
                f"{text}: let {code} finish them (`seawall run` with --only risk, until it idles), then start "
                f"{seawall.__version__}"
            )
