"""Versions: what may work beside what, and who decides from where on.

`seawall.__version__` is ``MAJOR.MINOR.PATCH``. A release that changes any byte that follows from a journal raises MINOR
(or MAJOR), one that changes none raises PATCH only. The journal's ``configuration`` events carry the version (``code``)
that decides from their slice on, so who disagrees is known before anything is emitted:

- a process of another version that decides otherwise stops at the first slice that is not its own to decide;
- a journal never goes back to an older version; a newer one takes over once all that was cut is decided.

What a process keeps for itself (recovery stores, snapshots) carries layouts of its own: what cannot be read is set
aside and derived again from the journal. What is exchanged carries a format that is checked where it is read.
"""

import re
from collections.abc import Mapping
from typing import Any

import seawall
from seawall.schemas.errors import UsageError, VersionMismatch

CONFIGURATION = 1  # of configuration files
EMBEDDED_BUS = 1  # of the embedded bus, in its `pragma user_version`; stores of before say 0 and are laid out alike
_NUMBERS = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})\.[0-9]{1,6}")


def series(code: str) -> tuple[int, int] | None:
    """Return what two versions share that decide alike; None for a journal that no release has cut.

    Examples
    --------
    >>> series("1.4.2"), series("test")
    ((1, 4), None)
    """
    found = _NUMBERS.match(code)
    return None if found is None else (int(found[1]), int(found[2]))


def decides(code: str) -> bool:
    """Return whether this program gives the bytes that ``code`` gives; what no release has cut is not judged."""
    return series(code) in (None, series(seawall.__version__))


def check_decides(configuration: Mapping[str, Any], shard: int, seq: int) -> None:
    """Check that a slice is this program's to decide.

    Parameters
    ----------
    configuration
        The configuration event in force at the slice.
    shard, seq
        Of the slice.

    Raises
    ------
    VersionMismatch
        Another version decides there.
    """
    code = str(configuration.get("code", ""))
    if decides(code):
        return
    where, own = f"slice {seq} of shard {shard} is decided by Seawall {code}", seawall.__version__
    if series(code) > series(own):  # type: ignore[operator]
        raise VersionMismatch(f"{where}, and this process is {own}: stop it and install {code} here too")
    text = f"{where}, and this process is {own}, which decides otherwise"
    raise VersionMismatch(
        f"{text}: let {code} decide on all that it has cut, stop it, and start the sequencer of {own} first"
    )


def check_follows(code: str) -> None:
    """Check that this program may cut a journal on that ``code`` has cut so far.

    Raises
    ------
    UsageError
        The journal is a later version's.
    """
    there, own = series(code), series(seawall.__version__)
    if there is not None and own is not None and there > own:
        text = f"the journal was cut by Seawall {code}, and this is {seawall.__version__}, which is older"
        raise UsageError(f"{text}: install {code}; a journal never goes back")
