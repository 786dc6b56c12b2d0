"""Payload of a command: target, action, validity and reason, as they are signed (contract.md, "Commands")."""

import hashlib
from decimal import Decimal
from typing import Any

import orjson

from seawall.operators.core.base import Decision, Measures
from seawall.operators.core.mitigation._requests import ComputationResult, Limits, amount_to_cent, is_change_limit
from seawall.operators.core.mitigation._triggers import CommandCandidate
from seawall.schemas.configuration import HANDLING
from seawall.schemas.evidence import COMMAND_BYTES_MAX

EXPIRES_S = 60
SUPERSEDES_BYTES = 64  # of the id that may take the place of null when the command is given


def payload_of(
    candidate: CommandCandidate,
    rule: dict[str, Any],
    measures: Measures,
    configuration: dict[str, Any],
    place: list[Any],
    computed: ComputationResult | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Return the payload of a command, times in microseconds.

    Parameters
    ----------
    place
        Of its target: seq and id of the command before, and the rung.
    computed
        What was worked out: part of the action, and what it was worked out from, part of the evidence.
    limits
        Those in force, by id.
    """
    command = rule["commands"][candidate.at]
    policy = {key: configuration["playbook"][key] for key in ("version", "sha256")}
    kind, _, name = candidate.target.partition(":")
    evidence = {key: value for key, value in candidate.evidence.items() if key != "with"}
    # A rule may give one target several commands of a kind.
    at = [rule["id"], candidate.at, candidate.target]
    cause = [configuration["issuer"], *at, evidence, policy, measures.moment.key, measures.moment.seq]
    return {
        "v": 1,
        "type": command["kind"],
        "id": sha256_hex(orjson.dumps(cause)),
        "iss": configuration["issuer"],
        "aud": ["*"],
        "env": configuration["environment"],
        "target": {"scope": kind, "id": name or kind},
        "epoch": configuration.get("epoch", 1),  # journals of the first version have none
        "seq": place[0] + 1,
        "prev_id": place[1],
        "supersedes": None,
        "iat_us": measures.moment.cut_us,
        "nbf_us": measures.moment.cut_us,
        "exp_us": measures.moment.cut_us + valid_for_us(rule),
        "effect_until_us": None,
        "action": _action(candidate, command, measures, configuration["reporting_currency"], computed, limits or {}),
        "reason": _reason(candidate, rule),
        "policy": policy,
        "evidence": {
            **evidence,
            "as_of_us": measures.moment.as_of_us,
            "causes": [*(candidate.breach or {}).get("evidence", ()), *candidate.evidence.get("with", ())],
            **({"plan": computed.plan} if computed else {}),
        },
    }


def fit_payload(payload: dict[str, Any]) -> dict[str, Any] | None:
    """Return a payload that a subscriber takes: with as many of its causes as there is room for, None without room.

    In a crisis a rule that joins conditions has hundreds of causes. The last one named then says how many are left out;
    what alerts, breaches and news there were stands in the journal and on their topics.
    """
    room = COMMAND_BYTES_MAX - SUPERSEDES_BYTES - len(orjson.dumps(payload))
    if room >= 0:
        return payload
    evidence = payload["evidence"]
    causes: list[str] = evidence["causes"]
    room -= len(f'"more:{len(causes)}",')
    kept = len(causes)
    while kept and room < 0:
        kept -= 1
        room += len(orjson.dumps(causes[kept])) + 1
    if room < 0:
        return None
    return {**payload, "evidence": {**evidence, "causes": [*causes[:kept], f"more:{len(causes) - kept}"]}}


def _reason(candidate: CommandCandidate, rule: dict[str, Any]) -> dict[str, Any]:
    """Return the rule and, where a limit broke, which, by how much."""
    reason, breach = {"rule": rule["id"]}, candidate.breach
    if breach is not None:
        reason |= {key: breach[key] for key in ("limit", "scope", "measure", "level")}
        reason |= {"observed": repr(breach["value"]), "bound": repr(breach["bound"])}
    return reason


def _action(
    candidate: CommandCandidate,
    command: dict[str, Any],
    measures: Measures,
    currency: str,
    computed: ComputationResult | None,
    limits: Limits,
) -> dict[str, Any]:
    """Return what is to be done: as the rule says, and what was worked out."""
    action = {k: value_text(v) for k, v in command.items() if k not in HANDLING} | (computed.action if computed else {})
    breach = candidate.breach
    if (
        command["kind"] == "CALL_MARGIN"
        and breach is not None
        and computed is None
        and not is_change_limit(breach, limits)
    ):
        action |= margin_call_amount(breach, measures, currency)
    return action


def valid_for_us(rule: dict[str, Any]) -> int:
    """Return for how long the commands of a rule are valid."""
    return int(float(rule.get("expires_s", EXPIRES_S)) * 1_000_000)


def margin_call_amount(breach: dict[str, Any], measures: Measures, currency: str) -> dict[str, Any]:
    """Return the amount that brings the margin ratio back to the bound that was broken, to the cent upwards.

    No amount brings it to a bound of nothing: then the call names none.
    """
    table = measures.tables.get("account")
    kind, _, name = breach["scope"].partition(":")
    if kind != "account" or breach["measure"] != "margin_ratio" or table is None or breach["bound"] <= 0:
        return {}
    values = dict(zip(table.measures, table.values[:, table.names.index(name)].tolist(), strict=True))
    missing = values["maintenance_margin"] / breach["bound"] - values["equity"]
    return {"amount": amount_to_cent(max(missing, 0.0)), "currency": currency}


def shadowed_record(payload: dict[str, Any], target: str) -> Decision:
    """Return what the audit hears of a command that was decided and not given."""
    head = {"rule": payload["reason"]["rule"], "kind": payload["type"], "target": target}
    summary = {"id": payload["id"], "action": payload["action"], "evidence": payload["evidence"]["id"]}
    return Decision("shadowed", head | summary)


def withheld_record(
    candidate: CommandCandidate, rule: dict[str, Any], why: str, computed: ComputationResult | None = None
) -> Decision:
    """Return what the audit hears of a command that is not given; with what was worked out for a person."""
    body = {"rule": rule["id"], "kind": rule["commands"][candidate.at]["kind"], "target": candidate.target}
    body |= {"breach": candidate.evidence["id"], "why": why}
    if computed is not None and computed.action:
        body |= {"action": computed.action}
    return Decision("withheld", body)


def value_text(value: Any) -> str:
    """Return a word as it is and a number as a decimal text: parsers differ on numbers, and signed bytes are final."""
    return value if isinstance(value, str) else format(Decimal(repr(value)), "f")


def sha256_hex(value: bytes) -> str:
    """Return the hash in hex."""
    return hashlib.sha256(value).hexdigest()
