"""The key ceremony on the command line, and a rotation under live subscribers: nothing is lost or wrongly refused.

Runs, and every command of the first test, have processes of their own, as a user's do; the many other commands are
given in this one.
"""

import base64
import hashlib
import itertools
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from seawall.connectors.keys import key_set_files, new_key, open_signer
from seawall.connectors.subscriber import Outcome, Subscriber, sqlite_subscriber
from seawall.schemas.evidence import AcceptancePolicy, KeySet, Refusal, _envelopes
from seawall.schemas.evidence._key_sets import RotationError
from seawall_testing import crisis
from seawall_testing.command_line import CommandResult, bus_contents, run_command, seawall
from seawall_testing.signing import RecordingEffects

SINCE = ("--valid-from", "2023-01-01")  # the crisis plays in that year, and its clock is that of its events
PEOPLE = ("ada", "bob", "cleo")


Way = Callable[..., "subprocess.CompletedProcess[str] | CommandResult"]


def ended(*arguments: object, folder: Path, by: Way = run_command) -> str:
    done = (seawall if arguments[0] == "run" else by)(*arguments, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kid(folder: Path, name: str) -> str:
    return open_signer(f"file:{name}/{name}.pem", folder).keyid


def sign(folder: Path, *names: str, by: Way = run_command) -> None:
    for name in names:
        ended("keys", "sign", "sets", "--signer", f"file:{name}/{name}.pem", "--yes", folder=folder, by=by)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everybody's keys and the first key set in force."""
    folder = tmp_path_factory.mktemp("founded")
    for name in (*PEOPLE, "old", "new", "audit"):
        ended("keys", "new", f"{name}/{name}.pem", folder=folder)
    added = [f"{name}:root:{name}/public.jwks.json" for name in PEOPLE]
    added += ["risk desk:issuer:old/public.jwks.json", "auditor:sealer:audit/public.jwks.json"]
    options = [part for one in added for part in ("--add", one)]
    ended("keys", "propose", "sets", "--environment", "test", *SINCE, *options, folder=folder)
    sign(folder, "ada", "bob")
    ended("keys", "rotate", "sets", folder=folder)
    return folder


@pytest.fixture
def ceremony(founded: Path, tmp_path: Path) -> Path:
    """A copy of that folder for one test."""
    return shutil.copytree(founded, tmp_path, dirs_exist_ok=True)


def pin(folder: Path) -> str:
    shown = ended("keys", "show", "sets", folder=folder)
    payload = json.loads(key_set_files(folder / "sets")[0].read_bytes())["payload"]
    found = hashlib.sha256(base64.b64decode(payload)).hexdigest()
    assert len(key_set_files(folder / "sets")) > 1 or found in shown
    return found


def configure(folder: Path, signer: str, **top: object) -> Path:
    """Write the crisis with the key sets and one signer; it is written anew in place, with the journal kept."""
    path = crisis.write_crisis(folder / "run", 6, per_second=30, environment="test", price_max_age_s=3600, **top)
    keys = {"signer": f"file:../{signer}/{signer}.pem", "sealer": "file:../audit/audit.pem", "set": "../sets"}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in {**keys, "set_sha256": pin(folder)}.items())
    path.write_text(path.read_text() + f"[keys]\n{lines}")
    return path


class Listener:
    """A live subscriber: takes what stands on the topics and has not been taken, and key sets as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.taken, self.receipts, self.desk = folder, 0, [], RecordingEffects()
        first = KeySet.open_pinned(key_set_files(folder / "sets")[0].read_bytes(), pin(folder))
        connection = sqlite3.connect(":memory:", isolation_level=None)
        policy = AcceptancePolicy("oms", "test", ("risk/dev",))
        self.subscriber: Subscriber[sqlite3.Connection] = sqlite_subscriber(connection, policy, first, self.desk)

    def listen(self) -> None:
        for file in key_set_files(self._folder / "sets")[self.subscriber.keys.version :]:
            self.subscriber.rotate(file.read_bytes())
        found = bus_contents(self._folder / "run", ["commands"])
        records = [record for place in sorted(found) for record in found[place]]
        for _, _, headers, value in records:
            wire = [(name, text.encode()) for name, text in headers]
            self.receipts += self.subscriber.receive(value, wire, json.loads(value)["iat_us"] + 1)
        self.taken = len(records)


def test_a_proposal_needs_the_threshold_of_owners_and_a_dry_run_writes_nothing(ceremony: Path) -> None:
    before = sorted(path.name for path in (ceremony / "sets").iterdir())
    options = ("--add", "risk desk:issuer:new/public.jwks.json")
    told = ended("keys", "propose", "sets", *options, "--dry-run", folder=ceremony, by=seawall)
    assert f"+ {kid(ceremony, 'new')}  verify-only issuer of risk desk" in told
    assert sorted(path.name for path in (ceremony / "sets").iterdir()) == before
    ended("keys", "propose", "sets", *options, folder=ceremony, by=seawall)
    sign(ceremony, "cleo", by=seawall)
    refused = seawall("keys", "rotate", "sets", cwd=ceremony)
    assert refused.returncode == 1
    assert "1 more of the present key set (ada, bob)" in refused.stderr
    again = seawall("keys", "sign", "sets", "--signer", "file:cleo/cleo.pem", "--yes", cwd=ceremony)
    assert (again.returncode, "has signed this proposal already" in again.stderr) == (2, True)
    stranger = seawall("keys", "sign", "sets", "--signer", "file:old/old.pem", "--yes", cwd=ceremony)
    assert (stranger.returncode, "is no root key" in stranger.stderr) == (2, True)
    asked = seawall("keys", "sign", "sets", "--signer", "file:ada/ada.pem", cwd=ceremony)
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    sign(ceremony, "ada", by=seawall)
    assert "0002.json" in ended("keys", "rotate", "sets", "--dry-run", folder=ceremony, by=seawall)
    assert len(key_set_files(ceremony / "sets")) == 1
    ended("keys", "rotate", "sets", folder=ceremony)
    assert len(key_set_files(ceremony / "sets")) == 2


def test_a_changed_key_set_is_not_trusted_by_a_run(ceremony: Path) -> None:
    path = configure(ceremony, "old")
    first = key_set_files(ceremony / "sets")[0]
    content = json.loads(first.read_text())
    content["signatures"][0]["sig"] = content["signatures"][1]["sig"]
    first.write_text(json.dumps(content))
    done = seawall("run", path)
    assert done.returncode == 1
    assert "1 of 2 owners of its own root keys signed" in done.stderr


def test_a_rotation_under_live_subscribers_loses_no_command_and_refuses_the_old_key_afterwards(ceremony: Path) -> None:
    path, listener = configure(ceremony, "old"), Listener(ceremony)
    not_yet = seawall("run", configure(ceremony, "new"))
    assert (not_yet.returncode, "is no active issuer of the key set" in not_yet.stderr) == (2, True)

    # 1. The first half, under the old key; subscribers listen.
    path = configure(ceremony, "old")
    book, whole = ceremony / "run" / "book.jsonl", (ceremony / "run" / "book.jsonl").read_bytes()
    book.write_bytes(b"".join(whole.splitlines(keepends=True)[:100]))
    ended("run", path, folder=ceremony)
    listener.listen()
    first_half = listener.taken
    assert first_half > 0

    # 2. The new key is announced; every subscriber takes that version; then it becomes the active one.
    ended("keys", "propose", "sets", "--add", "risk desk:issuer:new/public.jwks.json", *SINCE, folder=ceremony)
    sign(ceremony, "ada", "cleo")
    ended("keys", "rotate", "sets", folder=ceremony)
    listener.listen()
    ended("keys", "propose", "sets", "--activate", kid(ceremony, "new")[:12], folder=ceremony)
    sign(ceremony, "bob", "cleo")
    ended("keys", "rotate", "sets", folder=ceremony)

    # 3. The signer is switched, and the rest follows under the new key.
    path = configure(ceremony, "new")
    book.write_bytes(whole)
    ended("run", path, folder=ceremony)
    listener.listen()
    assert listener.taken > first_half
    assert {receipt.outcome for receipt in listener.receipts} <= {
        Outcome.APPLIED,
        Outcome.SUPERSEDED,
        Outcome.DUPLICATE,
    }
    kept = {receipt.document.id for receipt in listener.receipts if receipt.outcome is not Outcome.REFUSED}
    assert len(kept) == listener.taken
    assert "verified:" in ended("verify", path, folder=ceremony)
    assert "replayed:" in ended("replay", path, folder=ceremony)
    commands = [record for records in bus_contents(ceremony / "run", ["commands"]).values() for record in records]
    signers = {_envelopes.envelope_key_ids(dict(headers)["dsse"])[0] for _, _, headers, _ in commands}
    assert signers == {kid(ceremony, "old"), kid(ceremony, "new")}

    # 4. The old key is revoked at the sealed sizes: what it signed stays good, what it signs now is refused.
    ended("keys", "revoke", "sets", kid(ceremony, "old"), "--run", path, folder=ceremony)
    sign(ceremony, "ada", "bob")
    ended("keys", "rotate", "sets", folder=ceremony)
    assert "verified:" in ended("verify", path, folder=ceremony)
    listener.subscriber.rotate(key_set_files(ceremony / "sets")[-1].read_bytes())
    *_, value = next(iter(bus_contents(ceremony / "run", ["commands"]).values()))[0]
    stolen = open_signer("file:old/old.pem", ceremony)
    content = {**json.loads(value), "seq": 900, "id": "f" * 64}
    forged = json.dumps(content, separators=(",", ":")).encode()
    wire = [("dsse", _envelopes.sign_payload(stolen, _envelopes.COMMAND_TYPE, forged).encode())]
    assert listener.subscriber.receive(forged, wire, content["iat_us"])[0].reason is Refusal.KEY_REVOKED
    old = seawall("run", configure(ceremony, "old"))
    assert (old.returncode, "revoked" in old.stderr) == (2, True)


def test_what_a_revoked_key_signed_after_its_revocation_is_a_finding(ceremony: Path) -> None:
    path = configure(ceremony, "old")
    ended("run", path, folder=ceremony)
    ended("keys", "propose", "sets", "--add", "risk desk:issuer:new/public.jwks.json", *SINCE, folder=ceremony)
    sign(ceremony, "ada", "bob")
    ended("keys", "rotate", "sets", folder=ceremony)
    sizes = [f"risk/dev/audit/test/{partition}=3" for partition in range(3)]
    options = [part for size in sizes for part in ("--after", size)]
    told = ended("keys", "revoke", "sets", kid(ceremony, "old"), *options, folder=ceremony)
    assert "active -> revoked issuer" in told
    sign(ceremony, "ada", "bob")
    ended("keys", "rotate", "sets", folder=ceremony)
    done = seawall("verify", path)
    assert done.returncode == 1
    assert "which was revoked before audit record" in done.stdout


@pytest.fixture(scope="module")
def finished_folder(founded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The founded folder with a run that ended."""
    folder = shutil.copytree(founded, tmp_path_factory.mktemp("ran"), dirs_exist_ok=True)
    ended("run", configure(folder, "old"), folder=folder)
    return folder


def revoke(ran: Path, folder: Path, name: str, *options: str) -> Path:
    """Revoke a key in a copy of the run; return the copy."""
    shutil.copytree(ran, folder, dirs_exist_ok=True)
    sets = folder / "sets"
    assert run_command("keys", "revoke", sets, kid(folder, name), *options).returncode == 0
    for owner in ("ada", "bob"):
        signed = run_command("keys", "sign", sets, "--signer", f"file:{folder / owner / owner}.pem", "--yes")
        assert signed.returncode == 0, signed.stderr
    assert run_command("keys", "rotate", sets).returncode == 0
    return folder / "run"


def test_what_a_key_that_was_revoked_at_no_position_signed_counts_nowhere(
    finished_folder: Path, tmp_path: Path
) -> None:
    run = revoke(finished_folder, tmp_path, "old")
    done = run_command("verify", run)
    told = {line.split("/")[0] for line in done.stdout.splitlines() if "which was revoked before audit record" in line}
    assert (done.returncode, told) == (1, {"commands", "state"})
    again = run_command("replay", run)
    assert (again.returncode, "which was revoked before audit record" in again.stdout) == (1, True)


def test_what_a_sealer_sealed_before_its_revocation_stays_good(finished_folder: Path, tmp_path: Path) -> None:
    done = run_command("verify", revoke(finished_folder, tmp_path, "audit", "--run", str(finished_folder / "run")))
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "verified")


def test_what_a_sealer_sealed_beyond_the_size_of_its_revocation_is_a_finding(
    finished_folder: Path, tmp_path: Path
) -> None:
    done = run_command("verify", revoke(finished_folder, tmp_path, "audit", "--after", "risk/dev/audit/test/0=3"))
    told = done.stdout
    assert done.returncode == 1
    assert (
        "checkpoints/0 offset 0: is no checkpoint of the sealer: its key was revoked and counts for the first 3" in told
    )
    assert (
        "checkpoints/1 offset 0: is no checkpoint of the sealer: its key was revoked and counts for the first 0" in told
    )


def test_a_key_whose_id_begins_with_a_dash_can_be_revoked(ceremony: Path) -> None:
    made = (new_key(ceremony / str(number) / "key.pem") for number in itertools.count())
    dashed = next(key.keyid for key in made if key.keyid.startswith("-"))
    public = next(path for path in ceremony.glob("*/public.jwks.json") if dashed in path.read_text())
    ended("keys", "propose", "sets", "--add", f"risk desk:issuer:{public}", *SINCE, folder=ceremony)
    sign(ceremony, "ada", "bob")
    ended("keys", "rotate", "sets", folder=ceremony)
    told = ended("keys", "revoke", "sets", dashed, "--after", "risk/dev/audit/test/0=3", folder=ceremony)
    assert f"{dashed}  active -> revoked issuer" in told or f"{dashed}  verify-only -> revoked issuer" in told


@pytest.mark.parametrize("beginning", ["-8Ab", "-hA", "--_x"])
def test_a_beginning_of_no_key_is_said_to_be_that_and_not_an_option(ceremony: Path, beginning: str) -> None:
    refused = seawall("keys", "revoke", "sets", beginning, cwd=ceremony)
    assert (refused.returncode, f"{beginning!r}" in refused.stderr) == (2, True), refused.stderr


@pytest.mark.parametrize(
    ("arguments", "lacking"),
    [
        (["revoke", "{}", "KAsfVtU"], "key set"),
        (["sign", "{}", "--signer", "file:ada.pem", "--yes"], "proposal"),
        (["rotate", "{}"], "proposal"),
    ],
)
def test_a_folder_of_key_sets_that_is_not_there_is_told_from_one_that_is_empty(
    arguments: list[str], lacking: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, told in (
        ("gone", "the folder {0} does not exist; name the one of the key sets, such as keys/sets"),
        ("file", "{0} is no folder; name the one of the key sets, such as keys/sets"),
        ("empty", f"{{0}} holds no {lacking}; make one with: seawall keys propose {{0}}"),
    ):
        folder = str(tmp_path / name)
        done = run_command("keys", *(part.format(folder) for part in arguments))
        assert (done.returncode, done.stderr) == (2, f"seawall: {told.format(folder)}\n")
    assert not (tmp_path / "gone").exists()


def test_key_sets_that_lower_the_epoch_floor_or_skip_a_version_are_refused(ceremony: Path) -> None:
    ended("keys", "propose", "sets", "--epoch-floor", "risk/dev=4", folder=ceremony)
    sign(ceremony, "ada", "bob")
    ended("keys", "rotate", "sets", folder=ceremony)
    ended("keys", "propose", "sets", "--epoch-floor", "risk/dev=3", folder=ceremony)
    sign(ceremony, "ada", "bob")
    lowered = run_command("keys", "rotate", "sets", cwd=ceremony)
    assert (lowered.returncode, "epoch floor of risk/dev falls below 4" in lowered.stderr) == (1, True)
    listener = Listener(ceremony)
    (ceremony / "sets" / "0002.json").rename(ceremony / "sets" / "0003.json")
    with pytest.raises(RotationError):
        listener.subscriber.rotate(key_set_files(ceremony / "sets")[0].read_bytes())


def test_prod_does_not_run_on_keys_that_nobody_vouches_for(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "run", 1, environment="prod", price_max_age_s=3600)
    path.write_text(path.read_text().partition("[limits]")[0])
    done = seawall("run", path)
    assert done.returncode == 2
    assert "set [keys] set and set_sha256" in done.stderr
    assert not (tmp_path / "run" / "keys").exists()


def files_that_hold(folder: Path, secret: bytes) -> list[str]:
    """Return the files in which a secret stands in any usual spelling."""
    spellings = [secret, secret.hex().encode(), base64.b64encode(secret)[:42], base64.urlsafe_b64encode(secret)[:42]]
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) > 10
    return [path.name for path in found if any(spelling in path.read_bytes() for spelling in spellings)]


def test_an_encrypted_key_signs_a_run_and_never_stands_in_the_clear(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "run", 1)
    word = tmp_path / "run" / "word"
    word.write_text("long-and-random-0123456789\n")
    word.chmod(0o600)
    ended("keys", "new", "keys/dev.pem", "--passphrase-file", "word", folder=tmp_path / "run")
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "run" / "keys" / "dev.pem").read_bytes()
    path.write_text(path.read_text() + '[keys]\nsigner = "file:keys/dev.pem?passphrase-file=word"\n')
    ended("run", path, folder=tmp_path)
    assert "verified:" in ended("verify", path, folder=tmp_path)
    secret = load_pem_private_key((tmp_path / "run/keys/dev.pem").read_bytes(), word.read_bytes().strip())
    assert isinstance(secret, Ed25519PrivateKey)
    assert files_that_hold(tmp_path / "run", secret.private_bytes_raw()) == []
    word.write_text("short\n")
    weak = run_command("keys", "new", "keys/weak.pem", "--passphrase-file", "word", cwd=tmp_path / "run")
    assert (weak.returncode, "openssl rand" in weak.stderr) == (2, True)


def test_unsealed_records_are_those_of_a_run_that_is_named(ceremony: Path) -> None:
    done = run_command("keys", "revoke", ceremony / "sets", "kid", "--unsealed")
    assert (done.returncode, "name the run with --run" in done.stderr) == (2, True)
