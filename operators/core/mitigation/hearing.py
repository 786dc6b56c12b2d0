"""Hearing: what rules ask for because of breaches, news and answers to commands.

A breach that rises over several levels at once is heard at each of them, the lower first. A level or a venue's status
that is left ends the conditions that stood on it. What venues say also goes to ``failover``, which may say more.
"""

from typing import Any

from seawall.operators.core.frames import Enforced, Frame, News
from seawall.operators.core.limit_rules import LEVELS
from seawall.operators.core.mitigation.failover import VenueHealth
from seawall.operators.core.mitigation.loop import Change
from seawall.operators.core.mitigation.payload import sha256
from seawall.operators.core.mitigation.targets import resolve
from seawall.operators.core.mitigation.triggers import Candidate, Heard, Triggers
from seawall.schemas.playbook import VENUE_STATES

SCOPES = {"venue_status": "venue", "notice": "notice"}  # of news that names its subject without saying what it is


class Hearing:
    """The rules of one writer, what holds of their conditions, and how venues are."""

    def __init__(self) -> None:
        self.triggers, self.venues = Triggers([]), VenueHealth()
        self._configuration: dict[str, Any] = {}

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take the rules of a configuration; what rules of the same name had heard stays heard."""
        kept, before = self.triggers.snapshot(), self.triggers.rules
        self._configuration = configuration
        self.triggers = Triggers(configuration["playbook"]["rules"])
        self.triggers.restore(kept, before)
        self.venues.configure(configuration["playbook"].get("response", {}))

    def breaches(self, enforced: Enforced) -> list[Candidate]:
        """Return what rules ask for because levels of limits changed."""
        found: list[Candidate] = []
        for breach, record in zip(enforced.breaches, enforced.records, strict=True):
            before, level = LEVELS.index(breach["previous_level"]), LEVELS.index(breach["level"])
            for left in range(level + 1, before + 1):
                self.triggers.end(("limit", breach["limit"], LEVELS[left]), breach["scope"])
            for risen in range(before + 1, level + 1):
                key = ("limit", breach["limit"], LEVELS[risen])
                evidence = {"topic": "breaches", "id": record.id, "sha256": sha256(record.value)}
                found += self._hear(Heard(key, breach["scope"], evidence, breach), enforced.frame)
        return found

    def news(self, news: News, frame: Frame) -> list[Candidate]:
        """Return what rules ask for because of a status, a notice, an alert or a fill."""
        told = self.venues.hear(news, frame.as_of_us)
        return [candidate for one in (news, *told) for candidate in self._news(one, frame)]

    def changes(self, changes: list[Change], frame: Frame) -> list[Candidate]:
        """Return what rules ask for because of what became of commands."""
        found: list[Candidate] = []
        for what, command, _ in changes:
            why = {"topic": "commands", "id": command["id"]}
            heard = Heard(("acknowledgement", what), command["target"], why, None, None, command["rule"])
            found += self._hear(heard, frame)
        return found

    def due(self, frame: Frame) -> list[Candidate]:
        """Return what rules ask for because time has passed."""
        found: list[Candidate] = []
        if frame.as_of_us >= self.venues.due_us:
            for news in self.venues.advance(frame.as_of_us):
                found += self._news(news, frame)
        if frame.as_of_us >= self.triggers.due_us:
            found += self.triggers.advance(frame.as_of_us)
        return found

    def _news(self, news: News, frame: Frame) -> list[Candidate]:
        scope = f"{SCOPES[news.kind]}:{news.subject}" if news.kind in SCOPES else news.subject
        for status in VENUE_STATES if news.kind == "venue_status" else ():
            if status != news.state:
                self.triggers.end((news.kind, status), scope)
        return self._hear(Heard((news.kind, news.state), scope, {"id": news.evidence}, None, news), frame)

    def _hear(self, heard: Heard, frame: Frame) -> list[Candidate]:
        def targets(kind: str, scope: str, news: News | None) -> list[str]:
            return resolve(kind, scope, frame, news, self._configuration)

        return self.triggers.hear(heard, frame.as_of_us, targets)

    def snapshot(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.triggers.snapshot(), self.venues.snapshot()]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self.triggers.restore(state[0])
        self.venues.restore(state[1])
