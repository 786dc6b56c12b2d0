"""``seawall limits``: propose, approve, show and history, for a risk officer at a terminal."""

import base64
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from seawall.connectors.keys import open_signer, read_key_sets
from seawall.ops import reports
from seawall.ops.arguments import Json, Where, parse_time, say
from seawall.schemas.configuration import Configuration
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import LIMIT_REASONS, LIMITS_VALID_DAYS, LimitDocument

limits_app = typer.Typer(help="Propose, approve and show limits; see how they came about.", no_args_is_help=True)

AsOf = Annotated[str, typer.Option("--as-of", help="Event time: 2021-05-19T13:00, or microseconds.")]
Signer = Annotated[str, typer.Option("--signer", help="Your key: file:PATH, exec:, agent:, pkcs11: or kms:.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; sign and write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@limits_app.command()
def show(where: Where, as_of: AsOf = "", as_json: Json = False) -> None:
    """Show the limits in force, and what waits for a checker.

    Example: seawall limits show desk.toml --as-of 2021-05-19T13:00
    """
    configuration, at_us = find(where), parse_time(as_of)
    found = reports.read_limits(configuration, at_us)
    now_us = at_us if at_us is not None else found.as_of_us
    in_force, changes_us = found.policy.in_force(now_us)
    if as_json:
        body: dict[str, Any] = {"version": found.policy.version, "sha256": found.policy.sha256, "as_of_us": now_us}
        body |= {"valid_to_us": found.policy.valid_to_us, "unratified": found.policy.unratified}
        limits = [{**limit, "expired": expired} for limit, expired in in_force]
        print(json.dumps({**body, "changes_us": changes_us, "limits": limits}))
        return
    table = Table(title=f"Limits, version {found.policy.version}", title_justify="left")
    for name in ("limit", "scope", "measure", "warning", "soft", "hard", "moves", "state"):
        number = name in ("warning", "soft", "hard")
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for limit, expired in in_force:
        table.add_row(*_row(limit, expired, found.policy))
    console = Console()
    console.print(table)
    _print_state(console, configuration, found, changes_us)


def _row(limit: dict[str, Any], expired: bool, policy: Any) -> list[str]:
    levels = [f"{limit[level]:g}" if level in limit else "" for level in ("warning", "soft", "hard")]
    sign = "below" if limit.get("direction") == "below" else "above"
    moves = f"{limit['floor']:g} to {limit['ceiling']:g}" if "scaling" in limit else ""
    moves = f"over {limit['window_s']:g} s" if "window_s" in limit else moves
    state = "[red]past its validity: tightest[/red]" if expired else ""
    if limit["id"] in policy.overrides and policy.overrides[limit["id"]] is limit:
        state = f"[yellow]override until {reports.time_text(limit['valid_to_us'])}[/yellow]"
    elif not expired and "valid_to_us" in limit:
        state = f"until {reports.time_text(limit['valid_to_us'])}"
    return [limit["id"], limit["scope"], f"{limit['measure']} {sign}", *levels, moves, state]


def _print_state(
    console: Console, configuration: Configuration, found: "reports.LimitsInForce", changes_us: int | None
) -> None:
    policy = found.policy
    if policy.valid_to_us is not None:
        console.print(
            f"The policy holds until {reports.time_text(policy.valid_to_us)}; then every limit is at its tightest."
        )
    if changes_us is not None:
        console.print(f"The next change by time alone: {reports.time_text(changes_us)}.")
    if not configuration.limit_documents:
        return
    for stored in reports.pending_documents(configuration, policy):
        console.print(
            f"[yellow]Waits for a checker:[/yellow] version {stored.document.version}, {stored.path.name}. "
            f"Next: seawall limits approve {configuration.path.name} --signer YOUR_KEY"
        )


@limits_app.command()
def history(where: Where, as_json: Json = False) -> None:
    """Show every change of limits: when, why, by whom, and what it loosened or tightened.

    Example: seawall limits history desk.toml
    """
    configuration = find(where)
    found, owners = reports.read_limits(configuration).history, _owners(configuration)
    if as_json:
        print(json.dumps([{**e._asdict(), "signed_by": [owners.get(k, k) for k in e.keys]} for e in found]))
        return
    table = Table(title="History of limits", title_justify="left")
    for name in ("version", "from", "outcome", "reason", "signed by", "what changed"):
        table.add_column(name, overflow="fold")
    for entry in found:
        who = ", ".join(owners.get(key, key[:12]) for key in entry.keys)
        why = " ".join(part for part in (entry.reason, f"({entry.comment})" if entry.comment else "") if part)
        what = "\n".join(entry.changes)
        table.add_row(str(entry.version), reports.time_text(entry.as_of_us), entry.outcome, why, who, what)
    Console().print(table)


@limits_app.command()
def propose(  # noqa: PLR0913 - the options of the command
    where: Where,
    signer: Signer,
    reason: Annotated[str, typer.Option("--reason", help=f"One of {', '.join(LIMIT_REASONS)}.")],
    file: Annotated[Path | None, typer.Option("--file", help="TOML with [[limit]], [[override]], remove.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="LIMIT.FIELD=VALUE; may be repeated.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="LIMIT; may be repeated.")] = None,
    until: Annotated[str, typer.Option("--until", help="Make --set an override that ends at this time.")] = "",
    comment: Annotated[str, typer.Option("--comment", help="Why, in a sentence.")] = "",
    valid_days: Annotated[
        int, typer.Option("--valid-days", min=1, help="How long the policy holds.")
    ] = LIMITS_VALID_DAYS,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Propose a change of limits as its maker. What only tightens counts at once and is ratified afterwards.

    Example: seawall limits propose desk.toml --set client-margin.soft=0.9 --reason market --signer file:keys/ada.pem
    """
    configuration, keys = _open(where)
    if reason not in LIMIT_REASONS:
        raise UsageError(f"--reason {reason}: choose one of {', '.join(LIMIT_REASONS)}")
    found = reports.read_limits(configuration)
    policy = found.policy
    changes = reports.read_requested_changes(file, change or [], remove or [], parse_time(until), policy)
    if not any(changes):
        raise UsageError("nothing to propose; use --set LIMIT.FIELD=VALUE, --remove LIMIT or --file CHANGES.toml")
    now_us = _now_us()
    valid_us = _validity(configuration, policy, valid_days, now_us)
    value = found.propose(configuration, changes, reason, comment, now_us, valid_us)
    document = LimitDocument.parse(value)
    _print_change(document, policy)
    if dry_run:
        say("dry run: nothing was signed or written")
        return
    _confirm(f"Sign version {document.version} as its maker?", yes)
    envelope = LimitDocument.envelope(value, [reports.sign_document(_signer(signer), value)])
    _finish(configuration, policy, envelope, keys)


@limits_app.command()
def approve(
    where: Where,
    signer: Signer,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Which proposal, where several wait.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Approve a proposal, or ratify a tightening, as its checker: sign the same bytes that the maker signed.

    Example: seawall limits approve desk.toml --signer file:keys/bob.pem
    """
    configuration, keys = _open(where)
    ready = reports.read_limits(configuration)
    stored = _chosen(reports.pending_documents(configuration, ready.policy), file)
    ratifies = stored.document.version in ready.policy.unratified
    before = reports.limits_before(configuration, stored.document.version) if ratifies else ready.policy
    _print_change(stored.document, before)
    if dry_run:
        say("dry run: nothing was signed or written")
        return
    _confirm(f"Sign version {stored.document.version} as its checker?", yes)
    value = base64.b64decode(stored.envelope["payload"])
    signatures = [*stored.envelope["signatures"], reports.sign_document(_signer(signer), value)]
    _finish(configuration, before, LimitDocument.envelope(value, signatures), keys, checker=True)


def _finish(
    configuration: Configuration, policy: Any, envelope: dict[str, Any], keys: Any, checker: bool = False
) -> None:
    """Check the document as a run would, write it where it belongs, and say what comes next."""
    as_of_us = LimitDocument.of_envelope(envelope)[0].valid_from_us if not configuration.topics else _now_us()
    document, complete = reports.check_signed_document(configuration, policy, envelope, keys, as_of_us)
    if checker and not complete:
        raise UsageError("your key is no checker's for limits of this issuer; the proposal waits as it was")
    path = reports.save_document(configuration, document, envelope, complete)
    print(path)
    if not complete:
        say(
            f"It loosens, so it waits for a checker: seawall limits approve {configuration.path.name} --signer YOUR_KEY"
        )
    elif len(envelope["signatures"]) == 1:
        say(
            "It only tightens: it counts from the next run, or at once in a live one. "
            f"To ratify: seawall limits approve {configuration.path.name} --signer YOUR_KEY"
        )
    else:
        say(f"Signed by maker and checker: it counts from the next run, or at once in a live one: {path.name}")


def _validity(configuration: Configuration, policy: Any, valid_days: int, now_us: int) -> tuple[int, int]:
    """Return valid from and valid to. What is bounded has its own time, so its limits hold whenever that was."""
    from_us, to_us = (now_us if configuration.topics else 0, now_us + valid_days * reports.DAY_US)
    if policy.valid_to_us is not None and valid_days == LIMITS_VALID_DAYS:
        to_us = policy.valid_to_us if policy.valid_to_us > now_us else to_us
    return from_us, to_us


def _chosen(found: list[Any], file: Path | None) -> Any:
    if file is not None:
        found = [stored for stored in found if stored.path.name == file.name]
    if not found:
        raise UsageError("nothing waits for a checker; see: seawall limits show WHERE")
    if len(found) > 1:
        names = ", ".join(stored.path.name for stored in found)
        raise UsageError(f"several wait for a checker: {names}; name the one that you mean")
    return found[0]


def _print_change(document: LimitDocument, policy: Any) -> None:
    console = Console(file=sys.stderr)
    looser = document.loosenings(policy)
    table = Table(title=f"Version {document.version}: {document.reason}. {document.comment}", title_justify="left")
    table.add_column("change", overflow="fold")
    for line in reports.describe_document(document, policy):
        table.add_row(line)
    console.print(table)
    for line in looser:
        console.print(f"[yellow]loosens[/yellow]: {line}")
    if not looser:
        console.print("[green]only tightens[/green]")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("signing asks first; say --yes to sign without being asked")
    if not typer.confirm(question, err=True):
        raise UsageError("nothing was signed")


def _signer(uri: str) -> Any:
    return open_signer(uri if ":" in uri else f"file:{uri}", Path.cwd())


def _owners(configuration: Configuration) -> dict[str, str]:
    return {key.kid: key.owner for found in read_key_sets(configuration) for key in found.document.keys}


def _open(where: Path) -> tuple[Configuration, Any]:
    """Return a configuration that takes limit documents, and the key set in force."""
    configuration = find(where)
    if not configuration.limit_documents:
        raise UsageError(
            f'{configuration.path.name} takes limits from a file; edit it, or set documents = ["limits"] in [limits]'
        )
    return configuration, reports.last_key_set(configuration)


def _now_us() -> int:
    return time.time_ns() // 1000
