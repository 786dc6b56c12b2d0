"""Incidents as lines for a person and as plain values for a program."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from seawall.ops.incidents import Incident


def as_lines(incidents: list[Incident], total: int) -> Iterator[str]:
    """Yield the incidents, each with its story in order of time, and a last line that counts them."""
    for incident in incidents:
        yield f"{clock(incident.opened_us)}  {'OPEN  ' if incident.open else 'closed'}  {incident.cause}"
        for at_us, text in incident.story():
            yield f"    {clock(at_us)}  {text}"
        for target, state in incident.restricted().items():
            yield f"    {target} stands at {state} until people release it"
    still = sum(incident.open for incident in incidents)
    yield f"{still} open of {total} incidents"


def as_dicts(incidents: list[Incident]) -> list[dict[str, Any]]:
    """Return the incidents as plain values."""
    return [
        {
            "cause": incident.cause,
            "open": incident.open,
            "opened_us": incident.opened_us,
            "restricted": incident.restricted(),
            "story": [{"at_us": at_us, "text": text} for at_us, text in incident.story()],
            "commands": [
                {"id": one.payload["id"], "kind": one.payload["type"], "target": one.target, "state": one.state}
                for one in incident.commands
            ],
        }
        for incident in incidents
    ]


def clock(time_us: int) -> str:
    """Return an event time in UTC, to a tenth of a second."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:21]
