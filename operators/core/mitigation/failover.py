"""Failover with hysteresis: which venues may be relied on, by what they say of themselves and by their feeds.

A venue is ill at once: by a status other than ``up``, or when its feed has died. It is well again only after it has
been told to be ``up``, and its feed to speak again, for ``recover_s`` without a break; until then it is ``recovering``,
and whatever breaks in begins the time anew. So a venue that flaps stays out. When the time is over this is news of its
own, ``venue_status = "recovered"``, told once; what was halted stays halted until people release it.
"""

from typing import Any, NamedTuple

from seawall.operators.core.frames import News

NEVER_US = 1 << 62
WELL = "up"
RECOVERED, RECOVERING = "recovered", "recovering"
AGAIN = "venue_recovered"  # begins the evidence of a recovery
DIED, SPEAKS = "dead_feed", "feed_back"  # alerts of the market dataflow on a venue


class _Venue(NamedTuple):
    """What a venue said last, where its feed is dead, and since when it has been well again."""

    told: str
    dead: list[str]  # the instrument groups that hear nothing of it
    well_us: int

    @property
    def ill(self) -> bool:
        """Whether it may not be relied on, whatever the time."""
        return bool(self.dead) or self.told != WELL


class VenueHealth:
    """The venues that were ever ill and are not well yet; ``due_us`` is when the next of them recovers."""

    def __init__(self) -> None:
        self.due_us = NEVER_US
        self._recover_us = 0
        self._venues: dict[str, _Venue] = {}

    def configure(self, response: dict[str, Any]) -> None:
        """Take the terms of a playbook."""
        self._recover_us = int(float(response.get("recover_s", 0)) * 1_000_000)
        self._set_due()

    def hear(self, news: News, now_us: int) -> list[News]:
        """Take a venue's status or an alert on its feed; return that it recovered, where that takes no time."""
        kind, _, name = news.subject.partition(":")
        if news.kind == "venue_status":
            return self._change(news.subject, now_us, told=news.state)
        if news.kind == "alert" and kind == "venue" and news.state in (DIED, SPEAKS):
            group = news.evidence.split(":")[1].partition("-")[0]  # signal:<group>-<seq>:<n>
            others = [one for one in self._venues[name].dead if one != group] if name in self._venues else []
            return self._change(name, now_us, dead=[*others, group] if news.state == DIED else others)
        return []

    def states(self, now_us: int) -> dict[str, str]:
        """Return the state of every venue that is not simply well: its status, ``dead_feed`` or ``recovering``."""
        found = {}
        for name, venue in self._venues.items():
            if venue.ill:
                found[name] = venue.told if venue.told != WELL else DIED
            elif now_us < venue.well_us + self._recover_us:
                found[name] = RECOVERING
        return found

    def advance(self, now_us: int) -> list[News]:
        """Return that venues recovered whose time is over; from here on they are well."""
        over = [
            name for name, venue in self._venues.items() if not venue.ill and venue.well_us + self._recover_us <= now_us
        ]
        for name in over:
            del self._venues[name]
        self._set_due()
        return [News("venue_status", name, RECOVERED, f"{AGAIN}:{name}:{now_us}") for name in over]

    def _change(self, name: str, now_us: int, **fields: Any) -> list[News]:
        before = self._venues.get(name, _Venue(WELL, [], 0))
        after = before._replace(**fields)
        if not (after.ill or name in self._venues):
            return []
        began = now_us if before.ill and not after.ill else before.well_us
        self._venues[name] = after._replace(well_us=began)
        self._set_due()
        return self.advance(now_us) if self.due_us <= now_us else []

    def _set_due(self) -> None:
        times = (venue.well_us + self._recover_us for venue in self._venues.values() if not venue.ill)
        self.due_us = min([NEVER_US, *times])

    def snapshot(self) -> list[Any]:
        """Return the state as plain values."""
        return [[name, *venue] for name, venue in self._venues.items()]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self._venues = {name: _Venue(*venue) for name, *venue in state}
        self._set_due()
