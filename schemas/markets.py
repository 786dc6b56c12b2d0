"""What ``[market]`` of a configuration may say: how the dataflow ``market`` cuts, scores and judges.

None of it is journaled: what ``market`` decided stands in the signals, and slices name the signals that were taken.
"""

from typing import Any

import msgspec

from seawall.schemas.tables import Field, Table, check_table, number_in

GROUPS_MAX = 4096


def _divides_a_second(value: Any) -> str:
    return "" if value == 0 or (value > 0 and 1000 % value == 0) else "must divide 1000"


_TABLE: Table = {
    "groups": Field("integer", 4, number_in(1, GROUPS_MAX)),
    "interval_ms": Field("integer", 0, _divides_a_second),
    "score_s": Field("integer", 1, number_in(1, 86_400)),
    "instruments_max": Field("integer", 10_000, number_in(1, 10_000_000)),
    "stale_s": Field("number", 30, number_in(0.001, 1e9)),
    "gap_bp": Field("number", 100, number_in(0, 1e6)),
    "gap_s": Field("number", 1, number_in(0, 1e6)),
    "look_back_fraction": Field("number", 0.07, number_in(0.0001, 1)),
    "reference_fraction": Field("number", 0.05, number_in(0.0001, 1)),
    "alert_score": Field("number", 0.6, number_in(0.5, 1)),
    "refractory_s": Field("number", 300, number_in(0, 1e9)),
    "challenger": Field("boolean", False),
}


class MarketTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Checked terms of the dataflow ``market``.

    Attributes
    ----------
    groups
        Instrument groups, also the partitions of ``signals``; never changes once records stand there.
    interval_ms
        One signal per group and interval in which anything happened; absent: the length of a slice.
    score_s
        Instruments are scored together, every so many seconds in which they were heard of.
    instruments_max
        Instruments remembered in each group; the one that was silent longest is forgotten first.
    stale_s
        A feed that is silent for longer while others go on is stale, and leaves the robust mark.
    gap_bp, gap_s
        Venues further apart than this for so long are an alert.
    look_back_fraction, reference_fraction
        The circuit breakers: against the past hour's range, and against the five-minute average for 15 seconds.
    alert_score, refractory_s
        A score from here on is an alert; the same kind is not repeated for an instrument within the refractory time.
    challenger
        Half-space trees, shared by each kind of instrument, challenge every model and answer where they prove better.
    """

    groups: int = 4
    interval_ms: int = 100
    score_s: int = 1
    instruments_max: int = 10_000
    stale_s: float = 30
    gap_bp: float = 100
    gap_s: float = 1
    look_back_fraction: float = 0.07
    reference_fraction: float = 0.05
    alert_score: float = 0.6
    refractory_s: float = 300
    challenger: bool = False

    @property
    def interval_us(self) -> int:
        """Length of an interval."""
        return self.interval_ms * 1000

    @property
    def stale_us(self) -> int:
        """Silence after which a feed is stale."""
        return int(self.stale_s * 1_000_000)


def read_market(content: dict[str, Any], slice_ms: int, file: str) -> MarketTerms:
    """Return the terms of a ``[market]`` table, defaults filled in.

    Raises
    ------
    UsageError
        Naming the file, the key and the nearest valid name, or the rule.
    """
    found = check_table(content, _TABLE, f"{file} [market]")
    found["interval_ms"] = found["interval_ms"] or slice_ms
    return MarketTerms(**found)
