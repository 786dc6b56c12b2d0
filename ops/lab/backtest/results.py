"""What a variant came to, as plain values: everything a report, a gate in CI or a cache needs of it."""

from collections import Counter
from typing import Any

from seawall.ops.lab.backtest.observed import FIGURES
from seawall.ops.lab.backtest.play import Backtest
from seawall.ops.lab.backtest.verdict import verdict

Json = dict[str, Any]
LISTED_MAX = 5_000  # breaches and commands listed one by one; all are counted
SCOPES_MAX = 40  # counterparties whose figures are tested, of most observations
TARGET_KEYS = ("type", "target", "iat_us", "reason")


def summary(name: str, played: Backtest, clients: list[str]) -> Json:
    """Return the result of one variant.

    Parameters
    ----------
    clients
        Accounts of clients: what they cannot pay is the firm's loss.
    """
    result, trace = played.result, played.trace
    delays = sorted(result.delays_s())
    return {
        "name": name,
        "journal_sha256": played.sha256,
        "slices": played.slices,
        "records": played.records,
        "rejected": played.rejected,
        "loss": result.loss(clients),
        "shortfall": result.shortfall(clients),
        "closed_out": played.closed_out,
        "shortfall_max": result.shortfall_max,
        "clients": len(clients),
        "insolvent": sum(result.equity.get(one, 0.0) < 0 for one in clients),
        "paper_pnl": result.firm.get("pnl", 0.0),
        "peak_exposure": result.peaks.get("firm", 0.0),
        "breach_levels": dict(Counter(f"{one['limit']} {one['level']}" for one in result.breaches)),
        "command_kinds": dict(Counter(one["type"] for one in result.commands)),
        "withheld": dict(Counter(one["kind"] for one in result.withheld)),
        "delay_s": {"median": delays[len(delays) // 2], "most": delays[-1]} if delays else {},
        "dropped": result.dropped,
        "equity": result.equity,
        "breaches": [_breach(one) for one in result.breaches[:LISTED_MAX]],
        "commands": [_command(one) for one in result.commands[:LISTED_MAX]],
        "trace": {
            "times_us": trace.times_us,
            "worst_us": trace.worst_us,
            "firm": trace.firm,
            "shortfall": trace.shortfall,
            "hours": {account: sorted(hours.items()) for account, hours in trace.hours.items()},
        },
        "verdicts": verdicts(played),
    }


def verdicts(played: Backtest) -> list[Json]:
    """Return what the tests say of the figures that ran live, firm first."""
    found = []
    rows = played.hourly.rows
    parties = sorted((scope for scope in rows if scope != "firm"), key=lambda scope: (-len(rows[scope]), scope))
    for every in FIGURES:
        for scope in ("firm", *parties[:SCOPES_MAX]):
            observed = played.hourly.observations(scope, every)
            if observed:
                found.append(verdict(scope, every, observed).as_dict())
    return found


def _breach(one: Json) -> Json:
    kept = ("as_of_us", "limit", "scope", "measure", "value", "bound", "level", "previous_level", "cause")
    return {name: one[name] for name in kept}


def _command(one: Json) -> Json:
    target = f"{one['target']['scope']}:{one['target']['id']}"
    return {"as_of_us": one["iat_us"], "type": one["type"], "target": target, "rule": one["reason"].get("rule", "")}
