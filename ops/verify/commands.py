"""Commands about the records of a run.

``dump``, ``verify`` and ``replay`` print and check all topics; ``audit`` proves one record to an outsider.
"""

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from seawall.connectors.bus import TOPICS, Bus, read_all
from seawall.connectors.keys import Trust, read_key_sets
from seawall.ops import verify as verification
from seawall.ops.arguments import Json, Where, open_run
from seawall.schemas.configuration import Configuration
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError
from seawall.schemas.transparency import NoteKey

# ``seawall dump``, ``verify`` and ``replay``: what stands on the topics, and whether it is what it should be.

_SHOWN_MAX = 10  # findings per topic: one changed record makes all that follow it unexpected


def _dump(where: Where, topic: Annotated[str, typer.Argument(help="journal, exposures, commands, audit, …")]) -> None:
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


def _verify(where: Where, as_json: Json = False) -> None:
    """Verify every signature, chain, id sequence and hash; say exactly what is wrong and where.

    Example: seawall verify ./run
    """
    configuration, bus = open_run(where)
    _report(_verified(configuration, bus), as_json, "verified")


def _verified(configuration: Configuration, bus: Bus) -> Any:
    trust, logs = Trust.load(configuration), verification.trusted_logs(configuration)
    topics = configuration.topics
    report = verification.verify(
        bus, trust, configuration.environment, configuration.issuer, logs, topics, bounded=not topics
    )
    key_sets = {found.sha256: found for found in read_key_sets(configuration)}
    if key_sets:
        verification.verify_limits(bus, key_sets, report)
    return report


def _replay(where: Where, as_json: Json = False) -> None:
    """Derive all outputs again from the journal and compare them byte for byte.

    Example: seawall replay ./run
    """
    configuration, bus = open_run(where)
    report, slices, seconds = verification.replay(bus, Trust.load(configuration), configuration.shards)
    rejected = sum(bus.end("rejects", partition) for partition in bus.partitions("rejects"))
    if as_json:
        totals = {"slices": slices, "events": sum(report.records.values()), "seconds": seconds}
        print(json.dumps({"dataflows": {"risk": totals}, "rejected": rejected}))
    out = sys.stderr if as_json else sys.stdout
    if report.earlier:
        report.findings += _verified(configuration, bus).findings
        text = f"the first {report.earlier:,} of {slices:,} slices were decided by the rules of an earlier version:"
        print(f"{text} signatures, chains and seals are verified, nothing is derived again", file=out)
    _report(report, False, "replayed", out)


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
            if shown[finding.topic] <= _SHOWN_MAX:
                print(f"{finding} [{finding.rule}]", file=out)
        for topic, count in shown.items():
            if count > _SHOWN_MAX:
                print(f"{topic}: {count - _SHOWN_MAX} more findings follow from these; --json lists them all", file=out)
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

_audit = typer.Typer(help="Prove audit records to outsiders, and check such proofs offline.", no_args_is_help=True)

_Keys = Annotated[Path, typer.Option("--keys", help="Public keys, one vkey per line: seawall audit keys WHERE.")]


@_audit.command("prove")
def _prove_record(
    record: Annotated[str, typer.Argument(metavar="ID", help="0-17-2, commands:0-17-0, or a command's own id.")],
    where: Annotated[Path, typer.Argument(metavar="[WHERE]", help="A run directory or a configuration file.")] = Path(),
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; standard output by default.")] = None,
) -> None:
    """Give a C2SP tlog-proof of one record: whoever has the log's public key can check it offline.

    Example: seawall audit prove commands:0-17-0 ./run --out command.tlog-proof
    """
    configuration, bus = open_run(where)
    proof = verification.prove_record(bus, configuration.directory, record)
    if out is None:
        sys.stdout.buffer.write(proof)
    else:
        out.write_bytes(proof)
        print(f"{out}: proves {record} to whoever has the keys of: seawall audit keys {where}", file=sys.stderr)


@_audit.command("check")
def _check_proof(
    proof: Annotated[Path, typer.Argument(metavar="PROOF", help="A proof, or a folder such as RUN/tiles/audit/0.")],
    keys: _Keys,
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


@_audit.command("keys")
def _export_log_keys(
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


COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "dump": _dump,
    "verify": _verify,
    "replay": _replay,
    "audit": _audit,
}
