"""Verifiers that share no code with ours agree: Go, Java, Node, OpenSSL, golang.org/x/mod, securesystemslib.

The logs have two independent readers: golang.org/x/mod/sumdb, and a program in JavaScript with Node's own modules only.
"""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from seawall.ops.demo.scenario import write_scenario
from seawall.schemas.evidence import COMMAND, pae
from seawall.schemas.transparency import Checkpoint, LogEdge, Note, _notes
from seawall_testing import signing
from seawall_testing.command_line import seawall
from seawall_testing.paths import FOREIGN
from seawall_testing.signing import CHECKER, ISSUER, MAKER, STANDBY, command, encode, record

VERIFIERS = {
    "go": ["go", "run", "."],
    "java": ["java", str(FOREIGN / "java" / "Verify.java")],
    "node": ["node", str(FOREIGN / "node" / "verify.mjs")],
}
TLOG = {"go_tlog": ["go", "run", "."], "node_tlog": ["node", "verify.mjs"]}
LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ORIGIN = "risk.example/audit/dev/audit/0"
LOG_KEY = _notes.NoteKey.named(ORIGIN, LOG.public_key().public_bytes_raw())


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} on this machine")


def dump_line(item) -> str:
    value, headers = item
    return json.dumps(
        {"partition": 0, "offset": 0, "headers": {"dsse": headers[0][1].decode()}, "value": value.decode()}
    )


@pytest.fixture
def dump(tmp_path: Path) -> tuple[Path, Path]:
    """Ten commands, signed by Ed25519 and ES256 keys and one by both, with text beyond ASCII."""
    signers = [[ISSUER], [STANDBY], [ISSUER, STANDBY]]
    documents = [command("CANCEL_ORDERS", seq, reason={"text": 'naïve "€" 😀\n'}) for seq in range(1, 11)]
    lines = [dump_line(record(document, *signers[at % 3])) for at, document in enumerate(documents)]
    (tmp_path / "jwks.json").write_text(json.dumps(signing.keys().jwks()))
    (tmp_path / "commands.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "jwks.json", tmp_path / "commands.jsonl"


def run_verifier(name: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    need(VERIFIERS[name][0])
    folder = FOREIGN / name
    return subprocess.run(
        [*VERIFIERS[name], *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_another_language_verifies_all_commands(name, dump):
    result = run_verifier(name, *dump)
    assert (result.returncode, result.stdout) == (0, "10 commands verified\n"), result.stderr


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_another_language_finds_the_changed_lines(name, dump):
    jwks, commands = dump
    lines = commands.read_text().splitlines()
    lines[2] = lines[2].replace("CANCEL_ORDERS", "HALT_TRADING_")
    lines[4] = dump_line(record(command(), signing.Holder("mallory")))
    other = signing.header(encode(command()), [STANDBY]).replace(STANDBY.kid.encode(), ISSUER.kid.encode())
    lines[6] = dump_line((encode(command()), [("dsse", other)]))
    commands.write_text("\n".join(lines) + "\n")
    result = run_verifier(name, jwks, commands)
    assert result.returncode == 1
    assert [line.split()[1] for line in result.stdout.splitlines()[:3]] == ["3", "5", "7"]


def test_openssl_verifies_one_command_with_no_code(tmp_path):
    need("openssl")
    value, headers = record(command())
    sig = base64.b64decode(json.loads(headers[0][1])["signatures"][0]["sig"])
    pem = ISSUER.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for changed, code in ((b"", 0), (b" ", 1)):
        (tmp_path / "command.pae").write_bytes(pae(COMMAND, value) + changed)
        (tmp_path / "command.sig").write_bytes(sig)
        (tmp_path / "pub.pem").write_bytes(pem)
        files = ["-inkey", "pub.pem", "-rawin", "-in", "command.pae", "-sigfile", "command.sig"]
        result = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-pubin", *files], cwd=tmp_path, capture_output=True, check=False
        )
        assert result.returncode == code


def test_securesystemslib_agrees_on_thresholds():
    dsse = pytest.importorskip("securesystemslib.dsse")
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    value = encode(command("REINSTATE", 2))
    envelope = dsse.Envelope.from_dict(json.loads(signing.envelope(value, [MAKER, CHECKER], COMMAND)))
    keys = [
        SSlibKey(holder.kid, "ed25519", "ed25519", {"public": holder.private.public_key().public_bytes_raw().hex()})
        for holder in (MAKER, CHECKER, ISSUER)
    ]
    assert set(envelope.verify(keys, 2)) == {MAKER.kid, CHECKER.kid}
    with pytest.raises(VerificationError):
        envelope.verify(keys, 3)


def write_log(folder: Path, count: int, checkpoints: tuple[int, ...]) -> list[Path]:
    """Write a log's tiles and its checkpoint; return files with checkpoints at earlier sizes."""
    edge, older = LogEdge(), []
    for index in range(count):
        if index in checkpoints:
            older.append(folder / f"checkpoint.{index}")
            older[-1].write_bytes(signed(edge))
        write(folder, edge.extend([f'{{"seq":{index}}}'.encode()]))
    write(folder, edge.partial_tiles())
    (folder / "checkpoint").write_bytes(signed(edge))
    return older


def signed(edge: LogEdge) -> bytes:
    return LOG_KEY.sign(_notes.Checkpoint(ORIGIN, edge.size, edge.root()).text(), LOG.sign).encode()


def write(folder: Path, files) -> None:
    for path, data in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def run_tlog(name: str, folder: Path, older: list[Path], vkey: str = LOG_KEY.vkey) -> subprocess.CompletedProcess[str]:
    need(TLOG[name][0])
    arguments = [*TLOG[name], vkey, str(folder), *map(str, older)]
    result = subprocess.run(arguments, cwd=FOREIGN / name, capture_output=True, text=True, check=False)
    if "dial tcp" in result.stderr or "no required module" in result.stderr:
        pytest.skip("golang.org/x/mod cannot be fetched here")
    return result


@pytest.mark.parametrize("name", TLOG)
@pytest.mark.parametrize("count", [1, 255, 256, 700])
def test_other_peoples_log_code_verifies_our_tiles_and_checkpoints(tmp_path, count, name):
    older = write_log(tmp_path, count, (1, 200, 256, 300, 512))
    result = run_tlog(name, tmp_path, older)
    assert (result.returncode, result.stdout) == (0, f"{count} records, {len(older)} older checkpoints verified\n"), (
        result.stderr
    )


@pytest.mark.parametrize("name", TLOG)
def test_other_peoples_log_code_refuses_a_changed_record(tmp_path, name):
    older = write_log(tmp_path, 300, (10,))
    bundle = tmp_path / "tile/entries/000"
    bundle.write_bytes(bundle.read_bytes().replace(b'{"seq":7}', b'{"seq":8}'))
    assert run_tlog(name, tmp_path, older).returncode == 1


@pytest.mark.parametrize("name", TLOG)
def test_other_peoples_log_code_refuses_a_rewritten_log(tmp_path, name):
    older = write_log(tmp_path, 300, (10,))
    fork = LogEdge()
    fork.extend([b"another history"])
    older[0].write_bytes(signed(fork))
    assert run_tlog(name, tmp_path, older).returncode == 1


# --- a real run -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's crisis, run by the command line; its public keys and dumps lie beside it, as a stranger gets them."""
    scenario = write_scenario(tmp_path_factory.mktemp("demo") / "run", 7)
    folder = scenario.configuration.parent
    assert seawall("run", scenario.configuration).returncode == 0
    for name, words in (("jwks.json", ["keys", "export", folder]), ("logs.vkeys", ["audit", "keys", folder])):
        (folder / name).write_text(seawall(*words).stdout)
    (folder / "commands.jsonl").write_text(seawall("dump", folder, "commands").stdout)
    return folder


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_another_language_verifies_every_command_of_the_demo(demo, name):
    count = len((demo / "commands.jsonl").read_text().splitlines())
    result = run_verifier(name, demo / "jwks.json", demo / "commands.jsonl")
    assert (result.returncode, result.stdout) == (0, f"{count} commands verified\n"), result.stderr
    assert count > 20


@pytest.mark.parametrize("name", TLOG)
def test_other_peoples_log_code_verifies_every_log_of_the_demo(demo, tmp_path, name):
    for partition, vkey in enumerate((demo / "logs.vkeys").read_text().splitlines()):
        notes = [json.loads(line) for line in seawall("dump", demo, "checkpoints").stdout.splitlines()]
        mine = [note["value"] for note in notes if note["partition"] == partition]
        older = []
        for at in range(0, len(mine), max(1, len(mine) // 5)):
            older.append(tmp_path / f"{partition}-{at}")
            older[-1].write_text(mine[at])
        result = run_tlog(name, demo / "tiles" / "audit" / str(partition), older, vkey)
        size = Checkpoint.parse(Note.parse(mine[-1].encode()).text).size
        assert (result.returncode, result.stdout) == (0, f"{size} records, {len(older)} older checkpoints verified\n")


def test_openssl_verifies_every_command_of_the_demo(demo, tmp_path):
    need("openssl")
    jwks = {key["kid"]: key for key in json.loads((demo / "jwks.json").read_text())["keys"]}
    for line in (demo / "commands.jsonl").read_text().splitlines():
        record = json.loads(line)
        envelope = json.loads(record["headers"]["dsse"])
        (signature,) = envelope["signatures"]
        x = base64.urlsafe_b64decode(jwks[signature["keyid"]]["x"] + "=")
        (tmp_path / "pub.der").write_bytes(bytes.fromhex("302a300506032b6570032100") + x)
        (tmp_path / "command.pae").write_bytes(pae(envelope["payloadType"], record["value"].encode()))
        (tmp_path / "command.sig").write_bytes(base64.b64decode(signature["sig"]))
        files = ["-inkey", "pub.der", "-keyform", "DER", "-rawin", "-in", "command.pae", "-sigfile", "command.sig"]
        words = ["openssl", "pkeyutl", "-verify", "-pubin", *files]
        assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_securesystemslib_verifies_the_demos_commands_as_envelopes(demo):
    dsse = pytest.importorskip("securesystemslib.dsse")
    from securesystemslib.signer import SSlibKey

    listed = json.loads((demo / "jwks.json").read_text())["keys"]
    known = [
        SSlibKey(key["kid"], "ed25519", "ed25519", {"public": base64.urlsafe_b64decode(key["x"] + "=").hex()})
        for key in listed
    ]
    for line in (demo / "commands.jsonl").read_text().splitlines():
        record = json.loads(line)
        payload = base64.b64encode(record["value"].encode()).decode()
        envelope = dsse.Envelope.from_dict(json.loads(record["headers"]["dsse"]) | {"payload": payload})
        assert len(envelope.verify(known, 1)) == 1
