"""``seawall map``: check a mapping of foreign records, and see what it makes of some."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from seawall.schemas.errors import Rejected, UsageError

app = typer.Typer(help="Map foreign records onto input records, by a TOML file.", no_args_is_help=True)

Mapping = Annotated[Path, typer.Argument(metavar="MAPPING.toml", help="The mapping file.")]
SHOWN_MAX = 10


@app.command("check")
def check(
    mapping: Mapping,
    sample: Annotated[Path | None, typer.Option("--sample", help="Foreign records, one per line (.gz too).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
) -> None:
    """Check a mapping, exit 2 where it cannot hold; with a sample, exit 1 where it rejects any of it.

    Example: seawall map check oms.toml --sample oms-2026-11-20.jsonl
    """
    from seawall.connectors.feeds import load_feed

    feed = load_feed(mapping)
    counts: Counter[str] = Counter()
    findings = []
    for line, found in _mapped(feed, sample) if sample is not None else ():
        kind = "skipped" if found is None else found.reason.value if isinstance(found, Rejected) else found[1]
        counts[kind] += 1
        if isinstance(found, Rejected):
            findings.append({"line": line, "reason": found.reason.value, "detail": found.detail})
    if as_json:
        told = {"good": not findings, "kinds": sorted(feed.kinds), "records": counts, "findings": findings}
        print(json.dumps(told))
    else:
        print(f"{mapping.name} makes {', '.join(sorted(feed.kinds))}")
        for kind, count in counts.most_common():
            print(f"{count:>8,}  {kind}")
        for one in findings[:SHOWN_MAX]:
            print(f"line {one['line']}: {one['reason']}: {one['detail']}")
        if len(findings) > SHOWN_MAX:
            print(f"{len(findings) - SHOWN_MAX} more; --json lists them all")
    if findings:
        raise typer.Exit(1)


@app.command("apply")
def apply(
    mapping: Mapping,
    records: Annotated[Path, typer.Argument(metavar="RECORDS", help="Foreign records, one per line (.gz too).")],
) -> None:
    """Print what a mapping makes of records, as JSON lines; what it rejects is said on standard error, exit 1.

    Example: seawall map apply oms.toml oms-2026-11-20.jsonl > events.jsonl
    """
    from seawall.connectors.feeds import load_feed

    rejected = 0
    for line, found in _mapped(load_feed(mapping), records):
        if isinstance(found, Rejected):
            rejected += 1
            print(f"line {line}: {found}", file=sys.stderr)
        elif found is not None:
            sys.stdout.buffer.write(found[0] + b"\n")
    if rejected:
        raise typer.Exit(1)


def _mapped(feed: Any, path: Path) -> Any:
    """Yield line and what becomes of it: an input record and its type, None where it is skipped, or why not."""
    from seawall.connectors.files import Lines
    from seawall.schemas.errors import Reason

    if not feed.lines:
        raise UsageError("framed records may hold line feeds; only JSON stands one record per line")
    lines = Lines(path)
    for chunk in iter(lines.read, []):
        for number, _, content in chunk:
            if not isinstance(content, bytes):
                yield number, Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, f"the record has {content.bytes} bytes")
                continue
            try:
                found = feed.read(content)
                yield number, None if found is None else (found[1], found[0].__struct_config__.tag)
            except Rejected as rejected:
                yield number, rejected
    lines.close()
