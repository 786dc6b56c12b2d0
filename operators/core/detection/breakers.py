"""Circuit-breaker rules as trading venues run them: deterministic, in event time, with bounded state.

* ``LookBackBand``, after CME's Dynamic Circuit Breaker: the price may not rise a set fraction above the lowest, nor
  fall as far below the highest, price of the past hour. A trip pauses for two minutes, then the look-back restarts.
* ``ReferenceBand``, after the US Limit Up-Limit Down plan: a band around the average of the past five minutes, 5 %
  wide, that must be left for 15 seconds; a trip pauses for five minutes.
* ``PremiumBand``, after OKX's price limits: a band around the index that follows the average premium of the contract
  over five minutes, inside a hard band around the index alone.
* ``Silence``: a feed without an update for too long is stale, and a stale reference is itself a reason to act.

Each answers with the trip's reason, or None. Time that goes backwards and prices that are not above zero are ignored:
such a row neither trips a rule nor moves its reference. When ten rows in a row lie behind, the one ahead of them was
wrong, and the rule starts anew from them: one false time stamp must not switch a rule off until that time comes.

References
----------
CME Group, "Dynamic Circuit Breakers"; SEC National Market System Plan to Address Extraordinary Market Volatility;
OKX, "Price limit rules".
"""

from math import inf

from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.minutes import MINUTE_US, Extremes, Means, Now
from seawall.operators.core.detection.samples import VALUE_MAX

SECOND_US = 1_000_000

_NEVER = -inf  # a time that none is
_LOOK_BACK_TAG, _REFERENCE_TAG, _PREMIUM_TAG, _SILENCE_TAG = "lookbk02", "refbnd02", "premiu02", "silenc01"


class LookBackBand:
    """Trip when the price moves by ``fraction`` against the past ``look_back_minutes``.

    Examples
    --------
    >>> band = LookBackBand(fraction=0.05)
    >>> [band.check(minute * 60_000_000, price) for minute, price in enumerate((100.0, 98.0, 94.0, 93.0, 92.5))]
    [None, None, 'price 94 is 6.0 % below its 60-minute high 100', None, None]
    """

    def __init__(self, fraction: float, look_back_minutes: int = 60, pause_us: int = 2 * MINUTE_US) -> None:
        self._fraction, self._minutes, self._pause_us = fraction, look_back_minutes, pause_us
        # One minute more, so that a bar exactly one look-back ago is seen: on hourly bars an hour is one step.
        self._seen = Extremes(look_back_minutes + 1)
        self._now, self._open_us = Now(), 0

    def check(self, time_us: int, price: float) -> str | None:
        """Take one price and say why it trips the rule, if it does."""
        if not 0.0 < price <= VALUE_MAX or not self._now.takes(time_us):
            return None
        if self._now.restarted:
            self._seen.clear()
            self._open_us = 0
        if time_us < self._open_us:
            return None
        self._seen.forget(time_us)
        low, high = self._seen.low() or price, self._seen.high() or price
        reason = None
        if price <= high * (1.0 - self._fraction):
            reason = (
                f"price {price:g} is {100 - 100 * price / high:.1f} % below its {self._minutes}-minute high {high:g}"
            )
        elif price >= low * (1.0 + self._fraction):
            reason = f"price {price:g} is {100 * price / low - 100:.1f} % above its {self._minutes}-minute low {low:g}"
        if reason is not None:
            self._seen.clear()
            self._open_us = time_us + self._pause_us
        self._seen.add(time_us, price)
        return reason

    def snapshot(self) -> bytes:
        """Encode the state: at most 32 bytes per minute of the look-back, most of the time far less."""
        return to_bytes(_LOOK_BACK_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same rule."""
        self.take(from_bytes(_LOOK_BACK_TAG, data))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        return [*self._now.numbers(), self._open_us, *self._seen.numbers()]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        now_us, behind, open_us, *seen = numbers
        self._now, self._open_us = Now(int(now_us), int(behind)), int(open_us)
        self._seen.take(seen)


class ReferenceBand:
    """Trip when the price stays outside ``fraction`` around its five-minute average for ``persistence_us``."""

    def __init__(
        self,
        fraction: float = 0.05,
        persistence_us: int = 15 * SECOND_US,
        reference_minutes: int = 5,
        pause_us: int = 5 * MINUTE_US,
    ) -> None:
        self._fraction, self._persistence_us, self._pause_us = fraction, persistence_us, pause_us
        self._seen = Means(reference_minutes)
        self._now, self._open_us = Now(), 0
        self._outside_since_us: int | None = None

    def check(self, time_us: int, price: float) -> str | None:
        """Take one price and say why it trips the rule, if it does."""
        if not 0.0 < price <= VALUE_MAX or not self._now.takes(time_us):
            return None
        if self._now.restarted:
            self._seen.clear()
            self._open_us, self._outside_since_us = 0, None
        if time_us < self._open_us:
            return None
        reference = self._seen.mean()
        if reference is None or abs(price - reference) <= self._fraction * reference:
            self._outside_since_us = None
            self._seen.add(time_us, price)
            return None
        if self._outside_since_us is None:
            self._outside_since_us = time_us
        outside_us = time_us - self._outside_since_us
        if outside_us < self._persistence_us:
            return None
        self._outside_since_us, self._open_us = None, time_us + self._pause_us
        self._seen.clear()
        return (
            f"price {price:g} was outside {100 * self._fraction:g} % of {reference:g} for {outside_us // SECOND_US} s"
        )

    def snapshot(self) -> bytes:
        """Encode the state: at most 24 bytes per minute of the reference."""
        return to_bytes(_REFERENCE_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same rule."""
        self.take(from_bytes(_REFERENCE_TAG, data))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        since_us = _NEVER if self._outside_since_us is None else self._outside_since_us
        return [*self._now.numbers(), self._open_us, since_us, *self._seen.numbers()]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        now_us, behind, open_us, since_us, *seen = numbers
        self._now, self._open_us = Now(int(now_us), int(behind)), int(open_us)
        self._outside_since_us = None if since_us == _NEVER else int(since_us)
        self._seen.take(seen)


class PremiumBand:
    """Trip when a derivative's price leaves the band around its index.

    Upper limit: min(max(index, index × (1 + inner) + premium), index × (1 + outer)), and the lower one mirrored.
    """

    def __init__(self, inner: float = 0.02, outer: float = 0.05, premium_minutes: int = 5) -> None:
        self._inner, self._outer = inner, outer
        self._premiums = Means(premium_minutes)
        self._now = Now()

    def check(self, time_us: int, price: float, index: float) -> str | None:
        """Take price and index of one moment and say why they trip the rule, if they do."""
        if not (0.0 < price <= VALUE_MAX and 0.0 < index <= VALUE_MAX) or not self._now.takes(time_us):
            return None
        if self._now.restarted:
            self._premiums.clear()
        premium = self._premiums.mean() or 0.0
        upper = min(max(index, index * (1.0 + self._inner) + premium), index * (1.0 + self._outer))
        lower = max(min(index, index * (1.0 - self._inner) + premium), index * (1.0 - self._outer))
        self._premiums.add(time_us, price - index)
        if price > upper:
            return f"price {price:g} is above its limit {upper:g} at index {index:g}"
        if price < lower:
            return f"price {price:g} is below its limit {lower:g} at index {index:g}"
        return None

    def snapshot(self) -> bytes:
        """Encode the state: at most 24 bytes per minute of the average premium."""
        return to_bytes(_PREMIUM_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same rule."""
        self.take(from_bytes(_PREMIUM_TAG, data))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        return [*self._now.numbers(), *self._premiums.numbers()]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        now_us, behind, *premiums = numbers
        self._now = Now(int(now_us), int(behind))
        self._premiums.take(premiums)


class Silence:
    """Say once when a feed has been silent for ``silence_us``, and again only after it has spoken."""

    def __init__(self, silence_us: int) -> None:
        self._silence_us = silence_us
        self._last_us: int | None = None
        self._said = False

    def update(self, time_us: int) -> None:
        """Take the time of an update; an earlier one than the last changes nothing."""
        if self._last_us is None or time_us > self._last_us:
            self._last_us, self._said = time_us, False

    def check(self, as_of_us: int) -> str | None:
        """Judge the feed at ``as_of_us``."""
        if self._last_us is None or self._said or as_of_us - self._last_us < self._silence_us:
            return None
        self._said = True
        return f"no update for {(as_of_us - self._last_us) // SECOND_US} s"

    def snapshot(self) -> bytes:
        """Encode the state: two numbers."""
        return to_bytes(_SILENCE_TAG, [_NEVER if self._last_us is None else self._last_us, self._said])

    def restore(self, data: bytes) -> None:
        """Take over a state of the same rule."""
        last_us, said = from_bytes(_SILENCE_TAG, data, 2)
        self._last_us, self._said = None if last_us == _NEVER else int(last_us), bool(said)
