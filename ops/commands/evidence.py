"""``seawall dump``, ``verify`` and ``replay``: what stands on the topics, and whether it is what it should be."""

import json
import sys
from typing import Annotated, Any

import orjson
import typer

from seawall.ops.commands.options import Json, Where, opened
from seawall.schemas.errors import UsageError

SHOWN_MAX = 10  # findings per topic: one changed record makes all that follow it unexpected


def dump(where: Where, topic: Annotated[str, typer.Argument(help="journal, exposures, commands, audit, …")]) -> None:
    """Print the records of a topic as JSON lines, ordered by partition and offset.

    Example: seawall dump desk.toml commands
    """
    from seawall.connectors.bus import TOPICS, read_all

    configuration, bus = opened(where)
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
                import base64

                line["value_base64"] = base64.b64encode(stored.value).decode()
            write(orjson.dumps(line) + b"\n")


def verify(where: Where, as_json: Json = False) -> None:
    """Verify every signature, chain, id sequence and hash; say exactly what is wrong and where.

    Example: seawall verify ./run
    """
    from seawall.connectors.limit_documents import read_key_sets
    from seawall.connectors.trust import load_trust
    from seawall.ops.verification.limits import verify_limits
    from seawall.ops.verification.logs import trusted_logs
    from seawall.ops.verification.verify import verify as check

    configuration, bus = opened(where)
    trust, logs = load_trust(configuration), trusted_logs(configuration)
    topics = configuration.topics
    report = check(bus, trust, configuration.environment, configuration.issuer, logs, topics, bounded=not topics)
    key_sets = {found.sha256: found for found in read_key_sets(configuration)}
    if key_sets:
        verify_limits(bus, key_sets, report)
    _report(report, as_json, "verified")


def replay(where: Where, as_json: Json = False) -> None:
    """Derive all outputs again from the journal and compare them byte for byte.

    Example: seawall replay ./run
    """
    from seawall.connectors.trust import load_trust
    from seawall.ops.verification.replay import replay as derive

    configuration, bus = opened(where)
    report, slices, seconds = derive(bus, load_trust(configuration), configuration.shards)
    rejected = sum(bus.end("rejects", partition) for partition in bus.partitions("rejects"))
    if as_json:
        totals = {"slices": slices, "events": sum(report.records.values()), "seconds": seconds}
        print(json.dumps({"dataflows": {"risk": totals}, "rejected": rejected}))
    _report(report, False, "replayed", sys.stderr if as_json else sys.stdout)


def _is_cut(report: Any) -> bool:
    return any(finding.topic == "journal" for finding in report.behind)


def _report(report: Any, as_json: bool, done: str, out: Any = None) -> None:
    """Print a report like a compiler: where and what, then why and what next; leave with 1 where it is not good."""
    from seawall.ops.verification.findings import RULES

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
            print(f"{rule}  why: {RULES[rule][0]}\n{'':{len(rule)}} next: {RULES[rule][1]}", file=out)
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
