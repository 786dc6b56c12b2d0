"""Commands about the records of a run.

``dump``, ``verify`` and ``replay`` print and check all topics; ``audit`` proves one record to an outsider; ``rejects``
lists what was rejected and sends it in again once its cause is mended.
"""

import base64
import getpass
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from seawall.connectors.bus import TOPICS, Bus, open_bus, read_all
from seawall.connectors.keys import Trust, read_key_sets
from seawall.connectors.mapping import load_mappings
from seawall.ops import reports
from seawall.ops import verify as verification
from seawall.ops.cli._arguments import Json, Where, open_run
from seawall.schemas.configuration import Configuration
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError
from seawall.schemas.records import REDRIVE
from seawall.schemas.transparency import NoteKey

# ``seawall dump``, ``verify`` and ``replay``: what stands on the topics, and whether it is what it should be.

SHOWN_MAX = 10  # findings per topic: one changed record makes all that follow it unexpected


def dump(where: Where, topic: Annotated[str, typer.Argument(help="journal, exposures, commands, audit, …")]) -> None:
    """Print the records of a topic as JSON lines, ordered by partition and offset.

    Example: seawall dump desk.toml commands
    """
    configuration, bus = open_run(where)
    if topic not in (*TOPICS, *configuration.topics):
        raise UsageError(f"there is no topic {topic}; choose from {', '.join(TOPICS)}")
    write = sys.stdout.buffer.write
    for partition in bus.partitions(topic):
        for stored in read_all(bus, topic, partition):
            line: dict[str, Any] = {
                "partition": partition,
                "offset": stored.offset,
                "key": stored.key,
                "headers": stored.headers,
            }
            try:
                line["value"] = stored.value.decode()
            except UnicodeDecodeError:
                line["value_base64"] = base64.b64encode(stored.value).decode()
            write(orjson.dumps(line) + b"\n")


def verify(where: Where, as_json: Json = False) -> None:
    """Verify every signature, chain, id sequence and hash; say exactly what is wrong and where.

    Example: seawall verify ./run
    """
    configuration, bus = open_run(where)
    trust, logs = Trust.load(configuration), verification.trusted_logs(configuration)
    topics = configuration.topics
    report = verification.verify(
        bus, trust, configuration.environment, configuration.issuer, logs, topics, bounded=not topics
    )
    key_sets = {found.sha256: found for found in read_key_sets(configuration)}
    if key_sets:
        verification.verify_limits(bus, key_sets, report)
    _report(report, as_json, "verified")


def replay(where: Where, as_json: Json = False) -> None:
    """Derive all outputs again from the journal and compare them byte for byte.

    Example: seawall replay ./run
    """
    configuration, bus = open_run(where)
    report, slices, seconds = verification.replay(bus, Trust.load(configuration), configuration.shards)
    rejected = sum(bus.end("rejects", partition) for partition in bus.partitions("rejects"))
    if as_json:
        totals = {"slices": slices, "events": sum(report.records.values()), "seconds": seconds}
        print(json.dumps({"dataflows": {"risk": totals}, "rejected": rejected}))
    _report(report, False, "replayed", sys.stderr if as_json else sys.stdout)


def _is_cut(report: Any) -> bool:
    return any(finding.topic == "journal" for finding in report.behind)


def _report(report: Any, as_json: bool, done: str, out: Any = None) -> None:
    """Print a report like a compiler: where and what, then why and what next; leave with 1 where it is not good."""
    out = out or sys.stdout
    findings = [*report.findings, *report.behind]
    if as_json:
        listed = [finding.explained() for finding in findings]
        print(json.dumps({"good": report.good, "records": report.records, "findings": listed}), file=out)
    else:
        shown: dict[str, int] = {}
        for finding in findings:
            shown[finding.topic] = shown.get(finding.topic, 0) + 1
            if shown[finding.topic] <= SHOWN_MAX:
                print(f"{finding} [{finding.rule}]", file=out)
        for topic, count in shown.items():
            if count > SHOWN_MAX:
                print(f"{topic}: {count - SHOWN_MAX} more findings follow from these; --json lists them all", file=out)
        for rule in dict.fromkeys(finding.rule for finding in findings):
            why, following = verification.RULES[rule]
            print(f"{rule}  why: {why}\n{'':{len(rule)}} next: {following}", file=out)
        total = sum(report.records.values())
        if report.good:
            counts = ", ".join(f"{count:,} {topic}" for topic, count in sorted(report.records.items()))
            print(f"{done}: {total:,} records, nothing changed, removed, added or swapped ({counts})", file=out)
        elif not report.findings:
            late = "the journal is behind its inputs" if _is_cut(report) else "outputs are behind the journal"
            print(f"{late}: unfinished or cut; run again to finish", file=out)
        else:
            print(f"{len(report.findings)} findings in {total:,} records: do not trust this run", file=out)
    if not report.good:
        raise typer.Exit(1)


# ``seawall audit``: prove a record, check a proof or a log, export the logs' public keys.

audit_app = typer.Typer(help="Prove audit records to outsiders, and check such proofs offline.", no_args_is_help=True)

Keys = Annotated[Path, typer.Option("--keys", help="Public keys, one vkey per line: seawall audit keys WHERE.")]


@audit_app.command("prove")
def prove_record(
    record: Annotated[str, typer.Argument(metavar="ID", help="0-17-2, commands:0-17-0, or a command's own id.")],
    where: Annotated[Path, typer.Argument(metavar="[WHERE]", help="A run directory or a configuration file.")] = Path(),
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; standard output by default.")] = None,
) -> None:
    """Give a C2SP tlog-proof of one record: whoever has the log's public key can check it offline.

    Example: seawall audit prove commands:0-17-0 ./run --out command.tlog-proof
    """
    configuration, bus = _open(where)
    proof = verification.prove_record(bus, configuration.directory, record)
    if out is None:
        sys.stdout.buffer.write(proof)
    else:
        out.write_bytes(proof)
        print(f"{out}: proves {record} to whoever has the keys of: seawall audit keys {where}", file=sys.stderr)


@audit_app.command("check")
def check_proof(
    proof: Annotated[Path, typer.Argument(metavar="PROOF", help="A proof, or a folder such as RUN/tiles/audit/0.")],
    keys: Keys,
    older: Annotated[
        list[Path] | None, typer.Option("--older", help="Of a folder: a checkpoint kept from before; may be repeated.")
    ] = None,
    witnesses: Annotated[int, typer.Option("--witnesses", min=0, help="How many witnesses must have cosigned.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
) -> None:
    """Check a proof offline, with public keys only; of a folder, every record and tile of its log.

    Example: seawall audit check command.tlog-proof --keys logs.vkeys
    """
    known = verification.read_log_keys(_text(keys))
    if proof.is_dir():
        _check_folder(proof, known, older or [], as_json)
        return
    if not proof.is_file():
        raise UsageError(f"{proof} does not exist; name a proof made with seawall audit prove, or a log's folder")
    proven = verification.check_proof(proof.read_bytes(), known, witnesses)
    content = orjson.loads(proven.entry)
    if as_json:
        answer = {"good": True, "origin": proven.checkpoint.origin, "size": proven.checkpoint.size}
        print(json.dumps({**answer, "index": proven.leaf, "witnesses": proven.witnesses, "record": content}))
        return
    seen = f", cosigned by {', '.join(proven.witnesses)}" if proven.witnesses else ""
    print(f"proven: record {proven.leaf} of {proven.checkpoint.size} in {proven.checkpoint.origin}{seen}")
    print(f"        {content['kind']} {json.dumps(content['body'])}")


@audit_app.command("keys")
def export_log_keys(
    where: Annotated[Path, typer.Argument(metavar="WHERE", help="A run directory or a configuration file.")],
) -> None:
    """Print the public keys of a run's logs and of their witnesses, one vkey per line.

    Example: seawall audit keys ./run > logs.vkeys
    """
    for key in verification.log_keys(find(where)):
        print(key.vkey)


def _check_folder(folder: Path, known: list[NoteKey], older: list[Path], as_json: bool) -> None:
    if gone := next((path for path in older if not path.is_file()), None):
        raise UsageError(f"{gone} does not exist; name a checkpoint that was kept, as RUN/tiles/audit/0/checkpoint")
    checkpoint, findings = verification.check_log(folder, known, older)
    if as_json:
        listed = [{"at": found.at, "fault": found.fault, "text": found.text} for found in findings]
        answer = {"good": not findings, "origin": checkpoint.origin, "size": checkpoint.size}
        print(json.dumps({**answer, "findings": listed}))
    else:
        for found in findings:
            print(f"{folder}: {found.fault}: {found.text}")
        if not findings:
            print(f"verified: {checkpoint.size:,} records of {checkpoint.origin}, chain, tree and signature")
    if findings:
        raise typer.Exit(1)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); write one with: seawall audit keys WHERE > {path}"
        ) from None


# ``seawall rejects``: list and show what was rejected, and send it in again once its cause is mended.

rejects_app = typer.Typer(help="See what was rejected and why, and send it in again.", no_args_is_help=True)

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Of this reason; may be repeated.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="From this file or topic; may be repeated.")]
DETAIL_MAX = 100


@rejects_app.command("list")
def list_rejects(
    where: Where,
    reason: Reasons = None,
    source: Sources = None,
    waiting: Annotated[bool, typer.Option("--open", help="Only what was not sent in again.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table; --json has all.")] = 50,
    as_json: Json = False,
) -> None:
    """List rejected records: place, reason, where they stood, what was wrong, and whether they went in again.

    Example: seawall rejects list desk.toml --reason ACCOUNT_MUST_BE_KNOWN --open
    """
    _, bus = _open(where)
    chosen = reports.choose_dead_letters(reports.read_dead_letters(bus), (), reason or (), source or ())
    chosen = [one for one in chosen if one.redriven < 0 or not waiting]
    counts = Counter(one.body["reason"] for one in chosen)
    if as_json:
        print(json.dumps({"reasons": counts, "rejects": [_plain(one) for one in chosen]}))
        return
    table = Table(title=f"{len(chosen)} rejected records", title_justify="left")
    for name in ("place", "reason", "stood at", "detail", "redriven"):
        table.add_column(name, overflow="fold")
    for one in chosen[:limit]:
        went = "" if one.redriven < 0 else f"{REDRIVE}/0 offset {one.redriven}"
        table.add_row(one.place, one.body["reason"], one.where(), str(one.body["detail"])[:DETAIL_MAX], went)
    console = Console()
    console.print(table, markup=False)
    for name, count in counts.most_common():
        console.print(f"{count:>8,}  {name}", markup=False)
    if len(chosen) > limit:
        print(f"{len(chosen) - limit} more; --limit {len(chosen)} shows them", file=sys.stderr)


@rejects_app.command("show")
def show_rejects(
    where: Where,
    place: Annotated[str, typer.Argument(metavar="PLACE", help="PARTITION/OFFSET on rejects, or the seawall-id.")],
    raw: Annotated[bool, typer.Option("--raw", help="Only the original bytes, exactly.")] = False,
) -> None:
    """Show one rejected record: why, where it stood, and its original bytes.

    Example: seawall rejects show desk.toml 4/17 --raw > record.json
    """
    _, bus = _open(where)
    for one in reports.choose_dead_letters(reports.read_dead_letters(bus), [place]):
        if raw:
            sys.stdout.buffer.write(one.original)
        else:
            print(json.dumps({**_plain(one), **one.body}, indent=1))


@rejects_app.command("redrive")
def redrive_rejects(  # noqa: PLR0913 - the options of the command
    where: Where,
    places: Annotated[list[str] | None, typer.Argument(metavar="[PLACE…]", help="PARTITION/OFFSET on rejects.")] = None,
    reason: Reasons = None,
    source: Sources = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever was rejected.")] = False,
    why: Annotated[str, typer.Option("--why", help="What was mended; it is kept as evidence.")] = "",
    by: Annotated[str, typer.Option("--by", help="Who sends it; you by default.")] = "",
    replace: Annotated[
        Path | None, typer.Option("--replace", help="Of one record: the file with its corrected form.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Send rejected records in again; what was sent before is not sent twice. Exit 1 when any would fail again.

    Example: seawall rejects redrive desk.toml --reason ACCOUNT_MUST_BE_KNOWN --why "accounts of May were missing"
    """
    configuration, bus = _open(where)
    if not (places or reason or source or everything):
        raise UsageError("say which: places such as 4/17, --reason, --source or --all; see: seawall rejects list")
    if not why.strip():
        raise UsageError('say what was mended: --why "accounts of May were missing"; it is kept as evidence')
    chosen = reports.choose_dead_letters(reports.read_dead_letters(bus), places or (), reason or (), source or ())
    sender = reports.Redriver(bus, load_mappings(configuration), by or getpass.getuser(), why.strip())
    outcomes = sender.send(chosen, _replacement(replace, chosen), dry_run)
    counts = Counter(one.state for one in outcomes)
    if as_json:
        totals = {state: counts[state] for state in ("sent", "already", "refused")}
        print(json.dumps({**totals, "records": [one._asdict() for one in outcomes]}))
    else:
        for one in outcomes:
            if one.state != "sent":
                print(f"{one.place}: {one.state}: {one.detail}")
        live = "a live run takes them within a second, a bounded one when it runs again"
        verb = "would be sent in" if dry_run else "sent in"
        print(f"{counts['sent']} {verb}, {counts['already']} were before, {counts['refused']} refused; {live}")
    if counts["refused"]:
        raise typer.Exit(1)


def _replacement(path: Path | None, chosen: "list[reports.DeadLetter]") -> str:
    if path is None:
        return ""
    if len(chosen) != 1:
        raise UsageError(f"--replace is for one record, and {len(chosen)} are chosen; name its place")
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from None
    if not text:
        raise UsageError(f"{path} is empty; write the corrected record into it")
    return text


def _plain(one: "reports.DeadLetter") -> dict[str, object]:
    return {
        "place": one.place,
        "id": one.id,
        "reason": one.body["reason"],
        "detail": one.body["detail"],
        "source": one.body["source"],
        "redriven": None if one.redriven < 0 else one.redriven,
    }


def _open(where: Path) -> tuple[Configuration, Bus]:
    configuration = find(where)
    return configuration, open_bus(configuration.bus, configuration.directory)
