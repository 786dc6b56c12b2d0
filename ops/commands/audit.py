"""``seawall audit``: prove a record, check a proof or a log, export the logs' public keys."""

import json
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from seawall.schemas.errors import UsageError
from seawall.schemas.evidence.note import NoteKey

app = typer.Typer(help="Prove audit records to outsiders, and check such proofs offline.", no_args_is_help=True)

Keys = Annotated[Path, typer.Option("--keys", help="Public keys, one vkey per line: seawall audit keys WHERE.")]


@app.command("prove")
def prove(
    record: Annotated[str, typer.Argument(metavar="ID", help="0-17-2, commands:0-17-0, or a command's own id.")],
    where: Annotated[Path, typer.Argument(metavar="[WHERE]", help="A run directory or a configuration file.")] = Path(),
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; standard output by default.")] = None,
) -> None:
    """Give a C2SP tlog-proof of one record: whoever has the log's public key can check it offline.

    Example: seawall audit prove commands:0-17-0 ./run --out command.tlog-proof
    """
    from seawall.connectors.bus import open_bus
    from seawall.ops.audit import prove as make
    from seawall.schemas.configuration import where as find

    configuration = find(where)
    proof = make(open_bus(configuration.bus, configuration.directory), configuration.directory, record)
    if out is None:
        sys.stdout.buffer.write(proof)
    else:
        out.write_bytes(proof)
        print(f"{out}: proves {record} to whoever has the keys of: seawall audit keys {where}", file=sys.stderr)


@app.command("check")
def check(
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
    from seawall.ops.audit import check as verify
    from seawall.ops.audit import read_keys

    known = read_keys(_text(keys))
    if proof.is_dir():
        _check_folder(proof, known, older or [], as_json)
        return
    if not proof.is_file():
        raise UsageError(f"{proof} does not exist; name a proof made with seawall audit prove, or a log's folder")
    proven = verify(proof.read_bytes(), known, witnesses)
    content = orjson.loads(proven.entry)
    if as_json:
        told = {"good": True, "origin": proven.checkpoint.origin, "size": proven.checkpoint.size}
        print(json.dumps({**told, "index": proven.leaf, "witnesses": proven.witnesses, "record": content}))
        return
    seen = f", cosigned by {', '.join(proven.witnesses)}" if proven.witnesses else ""
    print(f"proven: record {proven.leaf} of {proven.checkpoint.size} in {proven.checkpoint.origin}{seen}")
    print(f"        {content['kind']} {json.dumps(content['body'])}")


@app.command("keys")
def keys(
    where: Annotated[Path, typer.Argument(metavar="WHERE", help="A run directory or a configuration file.")],
) -> None:
    """Print the public keys of a run's logs and of their witnesses, one vkey per line.

    Example: seawall audit keys ./run > logs.vkeys
    """
    from seawall.connectors.logs import log_key
    from seawall.operators.core.sealing import origin_of
    from seawall.ops.verification.logs import trusted_logs
    from seawall.schemas.configuration import where as find

    configuration = find(where)
    logs = trusted_logs(configuration)
    for partition in range(configuration.shards + 1):
        origin = origin_of(configuration.issuer, configuration.environment, partition)
        for jwk in logs.sealers:
            print(log_key(origin, jwk).vkey)
    for witness in logs.witnesses:
        print(witness.vkey)


def _check_folder(folder: Path, known: list[NoteKey], older: list[Path], as_json: bool) -> None:
    from seawall.ops.audit import check_log

    if gone := next((path for path in older if not path.is_file()), None):
        raise UsageError(f"{gone} does not exist; name a checkpoint that was kept, as RUN/tiles/audit/0/checkpoint")
    checkpoint, findings = check_log(folder, known, older)
    if as_json:
        listed = [{"at": found.at, "fault": found.fault, "text": found.text} for found in findings]
        told = {"good": not findings, "origin": checkpoint.origin, "size": checkpoint.size}
        print(json.dumps({**told, "findings": listed}))
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
