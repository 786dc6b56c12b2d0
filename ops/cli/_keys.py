"""``seawall keys``: make, show and export keys, and the ceremony that changes which keys are trusted."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from seawall.connectors.keys import (
    Trust,
    key_path,
    key_set_files,
    new_encrypted_key,
    new_key,
    public_jwks,
    public_path,
    read_jwks,
    read_key_sets,
    read_signer,
)
from seawall.ops import verify as verification
from seawall.ops.arguments import Where, say
from seawall.ops.cli import _key_ceremony
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import KeySet

keys_app = typer.Typer(help="Make, show and export keys; propose, sign and rotate key sets.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the key sets, such as keys/sets.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and write nothing.")]
Days = Annotated[int, typer.Option("--days", min=1, help="For how long the key set, and what is added, is valid.")]


@keys_app.command("new")
def new(
    path: Annotated[Path, typer.Argument(help="The file to make, such as keys/dev.pem.")],
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="Encrypt the key with the first line of this file.")
    ] = None,
) -> None:
    """Generate an Ed25519 key, readable by you only; its public half goes beside it.

    Example: seawall keys new keys/dev.pem
    """
    print((new_key(path) if passphrase_file is None else new_encrypted_key(path, passphrase_file)).keyid)


@keys_app.command("show")
def show(where: Where) -> None:
    """Show the ids and algorithms of a run's public keys, or a folder's newest key set and its proposal.

    Example: seawall keys show desk.toml
    """
    if key_set_files(where) or (where / _key_ceremony.PROPOSAL).exists():
        _show_folder(where)
        return
    configuration = find(where)
    if configuration.key_set is not None:
        for line in _key_ceremony.describe(read_key_sets(configuration)[-1]):
            print(line)
        return
    base = configuration.directory
    path = key_path(configuration.signer, base) or public_path(configuration.signer, base)
    for jwk in public_jwks(path)["keys"]:
        print(f"{jwk['kid']}  {jwk['alg']}")


@keys_app.command("export")
def export(where: Where) -> None:
    """Print the public keys as one JWKS: all that a foreign verifier needs.

    Example: seawall keys export desk.toml > keys.json
    """
    configuration = find(where)
    base = configuration.directory
    if configuration.key_set is not None:
        key_set = Trust.load(configuration).key_set
        assert key_set is not None
        listed = {"keys": [key.jwk() for key in key_set.keys_with("issuer")]}
    else:
        listed = public_jwks(key_path(configuration.signer, base) or public_path(configuration.signer, base))
    print(json.dumps(listed, indent=2))


@keys_app.command("propose")
def propose(  # noqa: PLR0913 - the options of the command
    folder: Folder,
    environment: Annotated[str, typer.Option("--environment", help="Of a first key set: dev, test or prod.")] = "",
    add: Annotated[list[str] | None, typer.Option("--add", help="OWNER:ROLE[,ROLE]:PUBLIC.jwks.json")] = None,
    activate: Annotated[list[str] | None, typer.Option("--activate", help="Make a key active.")] = None,
    retire: Annotated[list[str] | None, typer.Option("--retire", help="Make a key verify-only.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="Drop a key altogether.")] = None,
    root: Annotated[int | None, typer.Option("--root-threshold", min=1, help="Owners who sign key sets.")] = None,
    permissive: Annotated[
        int | None, typer.Option("--permissive-threshold", min=2, help="Owners who sign what loosens.")
    ] = None,
    epoch_floor: Annotated[list[str] | None, typer.Option("--epoch-floor", help="ISSUER=N: the lowest epoch.")] = None,
    valid_from: Annotated[str, typer.Option("--valid-from", help="YYYY-MM-DD: of what is added; now by default.")] = "",
    reset: Annotated[list[str] | None, typer.Option("--reset", help="ISSUER whose counts start anew.")] = None,
    days: Days = 365,
    dry_run: DryRun = False,
) -> None:
    """Draft the next key set (the first one in an empty folder); nothing is trusted until the owners have signed it.

    Example: seawall keys propose keys/sets --add "risk desk:issuer:next.jwks.json"
    """
    if not environment and _key_ceremony.latest(folder) is None:
        raise UsageError(f"{folder} holds no key set yet; say for which environment: --environment prod")
    draft = _key_ceremony.begin(folder, environment, _now_us(), days)
    draft.from_us = _day_us(valid_from) if valid_from else draft.from_us
    for text in add or ():
        owner, roles, jwk = _addition(text)
        draft.add(jwk, owner, roles)
    for kids, status in ((activate, "active"), (retire, "verify-only")):
        for kid in kids or ():
            draft.set_status(kid, status)
    for kid in remove or ():
        draft.remove(kid)
    thresholds = {"root": root, "permissive": permissive}
    draft.document["thresholds"] |= {name: count for name, count in thresholds.items() if count is not None}
    draft.document["epoch_floor"] |= _numbers(epoch_floor or [])
    for issuer in reset or ():
        draft.document["reset_seq"][issuer] = draft.document["reset_seq"].get(issuer, 0) + 1
    _propose(folder, draft, dry_run)


# A key's id is base64url: one in 64 begins with a dash, and is an argument all the same.
@keys_app.command("revoke", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
def revoke(
    folder: Folder,
    kid: Annotated[str, typer.Argument(help="The key's id, or its beginning.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="The run whose logs it signed: it counts as far as sealed.")
    ] = None,
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="It counts as far as that run was audited: it is stopped, and replayed.")
    ] = False,
    after: Annotated[
        list[str] | None, typer.Option("--after", help="ORIGIN=SIZE: it counts for these records.")
    ] = None,
    epoch_floor: Annotated[list[str] | None, typer.Option("--epoch-floor", help="ISSUER=N: the lowest epoch.")] = None,
    days: Days = 365,
    dry_run: DryRun = False,
) -> None:
    """Draft a key set in which a key is revoked at positions of logs: what was sealed before stays good.

    The last second of a live run that was stopped is not sealed. Where `seawall replay` gave the same, add --unsealed.

    Example: seawall keys revoke keys/sets KAsfVtU --run ./run --epoch-floor risk/desk=2
    """
    if unsealed and run is None:
        raise UsageError("--unsealed says how far a run counts; name the run with --run")
    draft = _key_ceremony.begin(folder, "", _now_us(), days)
    sizes = {} if run is None else verification.log_sizes(find(run), unsealed)
    draft.revoke(kid, sizes | _numbers(after or []))
    draft.document["epoch_floor"] |= _numbers(epoch_floor or [])
    _propose(folder, draft, dry_run)
    if not epoch_floor:
        say("its commands that no subscriber has taken yet: also raise --epoch-floor, and epoch in the configuration")


@keys_app.command("sign")
def sign(
    folder: Folder,
    signer: Annotated[str, typer.Option("--signer", help="Your root key: file:root.pem, pkcs11:…, exec:…")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Read what the proposal changes, and sign it with your root key.

    Example: seawall keys sign keys/sets --signer file:root-ada.pem
    """
    value, _ = _key_ceremony.read_proposal(folder)
    _explain(folder, KeySet.parse(value))
    key = read_signer(signer, Path.cwd())
    if dry_run:
        print(f"dry run: {key.keyid} would sign; nothing was written")
        return
    if not yes and not _confirmed("Sign exactly this?"):
        raise typer.Exit(1)
    lacking = _key_ceremony.sign(folder, key)
    print(
        f"signed with {key.keyid}; "
        + (f"still needed: {lacking}" if lacking else f"publish it: seawall keys rotate {folder}")
    )


@keys_app.command("rotate")
def rotate(folder: Folder, dry_run: DryRun = False) -> None:
    """Publish the proposal as the next version, once enough owners of the present and of the next one have signed.

    Example: seawall keys rotate keys/sets
    """
    target, key_set = _key_ceremony.publish(folder, dry_run)
    if dry_run:
        print(f"dry run: it would become {target}; nothing was written")
        return
    print(f"{target}: key set version {key_set.version} is in force for whoever reads this folder")
    if key_set.version == 1:
        print(f'pin it in every configuration: [keys] set = "{folder}", set_sha256 = "{key_set.sha256}"')
    else:
        print("give it to every subscriber, and wait until all have taken it, before you switch a signer")


def _propose(folder: Path, draft, dry_run: bool) -> None:  # type: ignore[no-untyped-def]

    value = draft.encode() if dry_run else _key_ceremony.propose(folder, draft)
    _explain(folder, KeySet.parse(value))
    if dry_run:
        print("dry run: nothing was written")
    else:
        print(f"proposed; owners of root keys now sign it: seawall keys sign {folder} --signer file:…")


def _explain(folder: Path, proposed) -> None:  # type: ignore[no-untyped-def]

    print(f"version {proposed.version} for {proposed.document.environment}, sha256 {proposed.sha256}")
    for line in _key_ceremony.changes(_key_ceremony.latest(folder), proposed):
        print(f"  {line}")


def _show_folder(folder: Path) -> None:
    current = _key_ceremony.latest(folder)
    for line in _key_ceremony.describe(current) if current is not None else ():
        print(line)
    if (folder / _key_ceremony.PROPOSAL).exists():
        value, signatures = _key_ceremony.read_proposal(folder)
        print(f"proposal with {len(signatures)} signatures; still needed: {_key_ceremony.missing(folder) or 'none'}")
        _explain(folder, KeySet.parse(value))


def _addition(text: str) -> tuple[str, list[str], dict[str, str]]:
    """Return owner, roles and public key of ``OWNER:ROLE[,ROLE]:FILE``; the last key of the file is taken."""
    parts = text.split(":", 2)
    if len(parts) != 3 or not all(parts):
        raise UsageError(f'--add {text!r} is not OWNER:ROLE[,ROLE]:FILE, such as "ada:root:ada.jwks.json"')
    path = Path(parts[2])
    if not path.is_file():
        raise UsageError(f"{path} does not exist; it is the public file beside a key made with seawall keys new")
    listed = read_jwks(path)["keys"]
    if not listed:
        raise UsageError(f"{path} holds no key")
    return parts[0], parts[1].split(","), listed[-1]


def _numbers(texts: list[str]) -> dict[str, int]:
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name or not number.isdecimal():
            raise UsageError(f"{text!r} is not NAME=NUMBER")
        found[name] = int(number)
    return found


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; read what changes, then give --yes")
    return typer.confirm(question)


def _day_us(text: str) -> int:
    try:
        return int(datetime.fromisoformat(f"{text}T00:00:00+00:00").timestamp()) * 1_000_000
    except ValueError as error:
        raise UsageError(f"--valid-from {text!r} is no day; write it as 2026-01-31") from error


def _now_us() -> int:
    return time.time_ns() // 1000
