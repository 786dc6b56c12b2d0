"""Targets: which accounts, sets, parties and wider scopes a trigger stands for.

A target has one writer (architecture.md, "Evidence"): accounts, netting sets and counterparties their shard, everything
wider the key ``all``, which never addresses those three.
"""

from typing import Any

from seawall.operators.core.directory import shard_of
from seawall.operators.core.frames import Frame, News
from seawall.schemas.measures import SHARD_SCOPES

WIDE_KEY = "all"


def resolve(kind: str, scope: str, frame: Frame, news: News | None, configuration: dict[str, Any]) -> list[str]:
    """Return the targets of one kind that a scope stands for, of those that the writer of a frame may address."""
    if (kind in SHARD_SCOPES) == (frame.key == WIDE_KEY):
        return []
    name = scope.partition(":")[2]
    if kind == "firm":
        return ["firm"]
    if kind == "strategy" and not scope.startswith("strategy:"):
        return _strategies(scope, name, frame, news)
    if frame.key == WIDE_KEY:
        return _wide(kind, scope, name, frame, news)
    if news is not None and news.kind in ("venue_status", "notice"):
        subject = f"venue:{name}" if news.kind == "venue_status" else f"counterparty:{name}"
        if kind == "counterparty":
            mine = shard_of(name, configuration["shards"]) == frame.partition
            return [f"counterparty:{name}"] if mine else []
        return members(kind, subject, frame)
    if scope.startswith(f"{kind}:"):
        return [scope]
    return members(kind, scope, frame)


def _wide(kind: str, scope: str, name: str, frame: Frame, news: News | None) -> list[str]:
    """Return the target across shards: the scope itself, the venue of a status, what a notice is about."""
    if news is None or news.kind not in ("venue_status", "notice"):
        return [scope] if scope.startswith(f"{kind}:") else []
    if news.kind == "venue_status":
        return [f"venue:{name}"] if kind == "venue" else []
    table = frame.tables.get(kind)
    return [f"{kind}:{name}"] if table is not None and name in table.names else []


def _strategies(scope: str, name: str, frame: Frame, news: News | None) -> list[str]:
    """Return the strategies that hold something in a scope, at the venue of a status, in what a notice is about."""
    scopes = [scope]
    if news is not None and news.kind in ("venue_status", "notice"):
        kinds = ("venue",) if news.kind == "venue_status" else ("counterparty", "underlying", "instrument")
        scopes = [f"{kind}:{name}" for kind in kinds]
    found = (strategy for one in scopes for strategy in (frame.strategies or {}).get(one, ()))
    return [f"strategy:{strategy}" for strategy in dict.fromkeys(found)]


def members(kind: str, scope: str, frame: Frame) -> list[str]:
    """Return the scopes of ``kind`` that hold, or are held by, the accounts of a scope, in order of account."""
    table = frame.tables.get("account")
    if table is None:
        return []
    found: dict[str, None] = {}
    for name, owners in zip(table.names, frame.owners, strict=False):
        circle = (f"account:{name}", *owners)
        if scope in circle:
            found.update((member, None) for member in circle if member.startswith(f"{kind}:"))
    return list(found)
