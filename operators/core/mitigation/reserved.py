"""What is not a machine's to give, and why: the audit has it as ``withheld``, with what was worked out.

- Trading in our own books because of prices alone, ever; with ``[response]`` any trading in our own books.
- Closing out a counterparty's account where its terms do not say ``close_out``.
- What the playbook reserves for people, sizes above its bounds, and what would loosen a limit in force.
"""

from typing import Any

from seawall.operators.core.frames import Frame
from seawall.operators.core.mitigation.asked import Computed
from seawall.operators.core.mitigation.control import TRADING, strictness
from seawall.operators.core.mitigation.targets import WIDE_KEY
from seawall.operators.core.mitigation.triggers import Candidate

OURS = "trading in our own books takes a person"
Command = dict[str, Any]


def reserved(
    candidate: Candidate,
    command: Command,
    frame: Frame,
    computed: Computed | None,
    response: dict[str, Any],
    limits: dict[str, dict[str, Any]],
) -> str:
    """Say why a command is not a machine's to give; empty where it is. Wide targets hold our own books."""
    if command["kind"] in TRADING and (frame.key == WIDE_KEY or candidate.target in frame.house):
        if candidate.breach is not None and candidate.breach["cause"] == "passive":
            return "a passive breach never forces trading in our own books"
        if response:
            return OURS
    elif command["kind"] in TRADING and response and candidate.target not in frame.closable:
        return "its terms do not let us close it out (close_out)"
    if command.get("human"):
        return "the playbook reserves it for a person"
    if computed is not None and (computed.fault or computed.ours):
        return computed.fault or OURS
    return _too_large(command, computed, response) or (_loosens(command, computed, limits) if response else "")


def _too_large(command: Command, computed: Computed | None, response: dict[str, Any]) -> str:
    if computed is None:
        return ""
    bounds = [float(one) for one in (command.get("size_max"), response.get("human_above")) if one is not None]
    over = [bound for bound in bounds if computed.size > bound]
    return f"its size of {computed.size:.0f} is above {min(over):.0f}, which takes a person" if over else ""


def _loosens(command: Command, computed: Computed | None, limits: dict[str, dict[str, Any]]) -> str:
    """Say whether a SET_LIMIT would loosen the limit that it names."""
    limit = limits.get(command.get("limit", "")) if command["kind"] == "SET_LIMIT" else None
    told = merged(command, computed)
    if limit is None or "value" not in told:
        return ""
    bound = next(limit[level] for level in (command.get("to", "hard"), "hard", "soft", "warning") if level in limit)
    if strictness(told, limits) >= strictness({**told, "value": bound}, limits):
        return ""
    return f"a value of {told['value']} would loosen {limit['id']}, which stands at {bound:g}; that takes people"


def merged(command: Command, computed: Computed | None) -> Command:
    """Return a command with what was worked out for it."""
    return command if computed is None else {**command, **computed.action}
