"""Champion and challenger on identical inputs: the shadow record of a trial, and the rule that ends it.

Nothing labels a market while it happens. Two things can be judged all the same:

* **noise**: in ordinary times well below one row in ten is unusual. A model that calls more has fallen behind its
  market;
* **incidents that a circuit-breaker rule confirmed**: did the model call a row unusual in the ten rows up to the trip?

A rival is promoted when the champion is noisy, it is at most half as noisy and catches no fewer confirmed incidents; or
when it catches more of them and is not the noisier one beyond that level. A tie keeps the champion.

References
----------
Federal Reserve, SR 11-7, Supervisory Guidance on Model Risk Management: outcomes analysis, benchmarking, parallel runs.
"""

from typing import NamedTuple, Self

NOISY_RATE = 0.1  # of unusual rows in ordinary times: beyond it a model says too much to be heeded
LEAD_ROWS = 10  # a call this long before a trip counts as its warning
INCIDENT_ROWS = 60  # after a trip, in which calls are no noise


class Verdict(NamedTuple):
    """Whether the rival is better, and the figures behind it."""

    promote: bool
    text: str


class Trial:
    """Two models on identical inputs, as ten counters.

    Examples
    --------
    >>> trial = Trial()
    >>> for row in range(1000):
    ...     trial.count(champion=row % 5 == 0, rival=row % 100 == 0, tripped=False)
    >>> trial.verdict()
    Verdict(promote=True, text='unusual rows 1.0 % against 20.0 %, incidents caught 0 against 0 of 0, in 1,000 rows')
    """

    __slots__ = ("caught_champion", "caught_rival", "incidents", "rows", "since_champion", "since_rival", "since_trip",
                 "unusual_champion", "unusual_rival")  # fmt: skip

    def __init__(self) -> None:
        self.rows = self.unusual_champion = self.unusual_rival = 0.0
        self.incidents = self.caught_champion = self.caught_rival = 0.0
        self.since_champion = self.since_rival = LEAD_ROWS + 1.0
        self.since_trip = INCIDENT_ROWS + 1.0

    def count(self, champion: bool, rival: bool, tripped: bool) -> None:
        """Count one row: which of the two called it unusual, and whether a rule tripped on it."""
        self.since_champion = 0.0 if champion else self.since_champion + 1.0
        self.since_rival = 0.0 if rival else self.since_rival + 1.0
        if tripped and self.since_trip >= INCIDENT_ROWS:
            self.incidents += 1.0
            self.caught_champion += self.since_champion <= LEAD_ROWS
            self.caught_rival += self.since_rival <= LEAD_ROWS
        self.since_trip = 0.0 if tripped else self.since_trip + 1.0
        if self.since_trip > INCIDENT_ROWS:
            self.rows += 1.0
            self.unusual_champion += champion
            self.unusual_rival += rival

    def verdict(self) -> Verdict:
        """Judge the rows so far."""
        rows = max(self.rows, 1.0)
        champion, rival = self.unusual_champion / rows, self.unusual_rival / rows
        more = self.caught_rival > self.caught_champion and rival <= max(champion, NOISY_RATE)
        calmer = self.caught_rival >= self.caught_champion and champion > NOISY_RATE and rival <= champion / 2.0
        caught = f"{self.caught_rival:.0f} against {self.caught_champion:.0f} of {self.incidents:.0f}"
        rates = f"{100 * rival:.1f} % against {100 * champion:.1f} %"
        return Verdict(more or calmer, f"unusual rows {rates}, incidents caught {caught}, in {self.rows:,.0f} rows")

    def numbers(self) -> list[float]:
        """Return the counters as a flat list."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def of(cls, numbers: list[float]) -> Self:
        """Make a trial of what ``numbers`` returned."""
        trial = cls()
        for name, number in zip(cls.__slots__, numbers, strict=True):
            setattr(trial, name, number)
        return trial


TRIAL_NUMBERS = len(Trial.__slots__)
