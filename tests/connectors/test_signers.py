"""Signers: every way to reach a key signs what verifies, and says what to do when it cannot."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from seawall.connectors import agent as agents
from seawall.connectors.agent import Agent
from seawall.connectors.keys import AgentRefusal, _signers, check_signer, open_signer
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import COMMAND, STATE, _key_sets, pae, thumbprint
from seawall.schemas.evidence._documents import HEARTBEAT
from seawall_testing import signing
from seawall_testing.paths import TESTS
from seawall_testing.signing import ISSUER, NOW_US, STANDBY, command, encode, heartbeat, state

EDWARDS25519 = b"\x13\x0cedwards25519"  # CKA_EC_PARAMS as a PrintableString, which SoftHSM2 takes
MESSAGE = pae(COMMAND, encode(command()))
SOFTHSM = [
    Path(p)
    for p in (
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    )
]


@pytest.fixture(autouse=True)
def _helpers_for_programs(monkeypatch):
    """Let the programs that these tests start import the test helpers."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def check_verifies(signer) -> None:
    jwk = signer.public_jwk()
    raw = b"".join(_key_sets.decode_base64url(jwk[name]) for name in ("x", "y") if name in jwk)
    assert _key_sets.verify_signature(jwk["alg"], raw, MESSAGE, signer.sign(MESSAGE))
    assert signer.keyid == jwk["kid"] == thumbprint(jwk)
    assert (jwk["alg"], jwk["use"]) == (signer.alg, "sig")


def write_private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def pem(key, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())])
def test_an_encrypted_file_signs(tmp_path, key):
    write_private(tmp_path / "key.pem", pem(key, b"correct horse"))
    write_private(tmp_path / "pass", b"correct horse\n")
    check_verifies(open_signer("file:key.pem?passphrase-file=pass", tmp_path))


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())])
def test_a_signer_of_securesystemslib_signs_and_another_key_than_the_public_one_is_refused(tmp_path, key):
    other = ed25519.Ed25519PrivateKey.generate()
    private = write_private(tmp_path / "key.pem", pem(key))
    for name, one in (("public.pem", key), ("other.pem", other)):
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        (tmp_path / name).write_bytes(one.public_key().public_bytes(serialization.Encoding.PEM, form))
    check_verifies(open_signer(f"kms:file2:{private}?public=public.pem", tmp_path))
    with pytest.raises(UsageError):
        open_signer(f"kms:file2:{private}?public=other.pem", tmp_path)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("kms:file2:key.pem", "write kms:URI"),
        ("kms:nowhere:key?public=public.pem", "does not open"),
        ("kms:file2:none.pem?public=public.pem", "does not open"),
        ("kms:file2:none.pem?public=none.pem", "does not open"),
    ],
)
def test_a_signer_of_securesystemslib_that_does_not_open_says_so_in_one_line(tmp_path, uri, said):
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "public.pem").write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    with pytest.raises(UsageError, match=said):
        open_signer(uri, tmp_path)


def test_a_key_stretched_by_openssl_signs(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    write_private(tmp_path / "plain.pem", pem(ed25519.Ed25519PrivateKey.generate()))
    write_private(tmp_path / "pass", b"correct horse")
    arguments = [
        "-topk8",
        "-in",
        "plain.pem",
        "-out",
        "key.pem",
        "-passout",
        "file:pass",
        "-v2",
        "aes-256-cbc",
        "-iter",
        "600000",
    ]
    subprocess.run(["openssl", "pkcs8", *arguments], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "key.pem").chmod(0o600)
    check_verifies(open_signer("file:key.pem?passphrase-file=pass", tmp_path))


def test_a_wrong_passphrase_an_open_file_and_a_link_are_named(tmp_path):
    write_private(tmp_path / "key.pem", pem(ed25519.Ed25519PrivateKey.generate(), b"correct horse"))
    write_private(tmp_path / "pass", b"wrong")
    with pytest.raises(UsageError, match="does not open"):
        open_signer("file:key.pem?passphrase-file=pass", tmp_path)
    (tmp_path / "pass").chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        open_signer("file:key.pem?passphrase-file=pass", tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "key.pem")
    with pytest.raises(UsageError, match="regular file"):
        open_signer("file:link?passphrase-file=pass", tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        open_signer("file:key.pem?passphrase-file=none", tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path):
    write_private(tmp_path / "key.pem", pem(ec.generate_private_key(ec.SECP384R1()), b"p"))
    write_private(tmp_path / "pass", b"p")
    with pytest.raises(UsageError, match="neither an Ed25519 nor a P-256 key"):
        open_signer("file:key.pem?passphrase-file=pass", tmp_path)


def test_an_unencrypted_file_is_opened_as_before(tmp_path):
    write_private(tmp_path / "key.pem", pem(ed25519.Ed25519PrivateKey.generate()))
    check_verifies(open_signer("file:key.pem", tmp_path))


@pytest.mark.parametrize("uri", ["vault:x", "file:", "", "agent:", "exec:"])
def test_an_unknown_signer_is_named(tmp_path, uri):
    with pytest.raises(UsageError):
        open_signer(uri, tmp_path)


# --- exec ---

PROGRAM = """
import json, sys
from seawall_testing.signing import Holder
holder = Holder("external", alg=sys.argv[1])
if sys.argv[-1] == "public":
    print(json.dumps(holder.jwk()))
else:
    sys.stdout.buffer.write(holder.sign(sys.stdin.buffer.read()){changed})
"""


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_any_program_can_sign(tmp_path, alg):
    (tmp_path / "tool.py").write_text(PROGRAM.format(changed=""))
    check_verifies(open_signer(f"exec:{sys.executable} tool.py {alg}", tmp_path))


@pytest.mark.parametrize(("program", "message"), [
    (PROGRAM.format(changed="[::-1]"), "does not fit"),
    (PROGRAM.format(changed="[:10]"), "does not fit"),
    ("raise SystemExit('locked')", "locked"),
    ("print('hello')", "no JWK"),
    ("print('{}')", "no Ed25519 or P-256 JWK"),
])  # fmt: skip
def test_a_program_that_answers_wrongly_is_named(tmp_path, program, message):
    (tmp_path / "tool.py").write_text(program)
    with pytest.raises(UsageError, match=message):
        open_signer(f"exec:{sys.executable} tool.py Ed25519", tmp_path)


def test_a_program_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UsageError, match="did not run"):
        open_signer("exec:/no/such/program", tmp_path)


# --- pkcs11 ---


@pytest.fixture
def token(tmp_path, monkeypatch):
    """A SoftHSM2 token with an Ed25519 and a P-256 key, its PIN in a file of mode 0600."""
    pkcs11 = pytest.importorskip("pkcs11")
    library = next((path for path in SOFTHSM if path.exists()), None)
    if library is None or shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM2 on this machine")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    label = f"seawall-{os.getpid()}"
    init = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(init, check=True, capture_output=True)
    lib = pkcs11.lib(str(library))
    lib.reinitialize()
    with lib.get_token(token_label=label).open(rw=True, user_pin="1234") as session:
        make_key(
            pkcs11,
            session,
            "edwards",
            pkcs11.KeyType.EC_EDWARDS,
            EDWARDS25519,
        )
        make_key(pkcs11, session, "p256", pkcs11.KeyType.EC, pkcs11.util.ec.encode_named_curve_parameters("secp256r1"))
    write_private(tmp_path / "pin", b"1234\n")
    return f"token={label};object={{}}?module-path={library}&pin-source=file:pin"


def make_key(pkcs11, session, label: str, kind, curve: bytes) -> None:
    parameters = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: curve}, local=True)
    mechanism = pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN if label == "edwards" else None
    parameters.generate_keypair(store=True, label=label, mechanism=mechanism)


def test_a_token_signs_with_both_algorithms(tmp_path, token):
    for label, alg in (("edwards", "Ed25519"), ("p256", "ES256")):
        signer = open_signer("pkcs11:" + token.format(label), tmp_path)
        check_verifies(signer)
        assert signer.alg == alg
        signer._session.close()
    with pytest.raises(UsageError, match="does not open"):
        open_signer("pkcs11:" + token.format("no such key"), tmp_path)
    write_private(tmp_path / "pin", b"9999\n")
    with pytest.raises(UsageError, match="does not open"):
        open_signer("pkcs11:" + token.format("p256"), tmp_path)


# --- agent ---


class MemorySigner(_signers.CheckedSigner):
    """A test key that counts its signatures."""

    def __init__(self, holder: signing.Holder) -> None:
        self._holder, self.count = holder, 0
        super().__init__(holder.jwk())

    def _sign(self, message: bytes) -> bytes:
        self.count += 1
        return _signers.sign_raw(self._holder.private, message)


@pytest.fixture
def agent(tmp_path):
    found = Agent(MemorySigner(STANDBY), tmp_path / "ledger.db", "risk/prod", "prod")
    yield found
    found.close()


def message(document: dict, payload_type: str = COMMAND) -> bytes:
    return pae(payload_type, encode(document))


def test_the_agent_returns_the_same_signature_for_the_same_bytes_also_after_a_restart(agent, tmp_path):
    first = agent.sign(message(command()))
    count = agent._signer.count
    assert agent.sign(message(command())) == first
    assert agent._signer.count == count
    again = Agent(MemorySigner(STANDBY), tmp_path / "ledger.db", "risk/prod", "prod")
    assert again.sign(message(command())) == first
    again.close()


@pytest.mark.parametrize(("signed", "text"), [
    (message(command(id="other")), "other bytes"),
    (message(command(action={"x": "1"})), "other bytes"),
    (message(command(seq=2, env="test")), "for test"),
    (message(command(seq=2, iss="risk/asia")), "by risk/asia"),
    (message(command("REINSTATE", 2)), "by people"),
    (message(command("SET_LIMIT", 2, action={"direction": "loosen"})), "by people"),
    (message(command(seq=2, extra=1)), "malformed"),
    (pae(COMMAND, b'{"v":1,"v":1}'), "malformed"),
    (pae("application/vnd.seawall.keyset.v1+json", b"{}"), "no document of type"),
    (message(command(seq=2)) + b" ", "no DSSE encoding"),
    (message(command(seq=2)).replace(b"DSSEv1", b"DSSEv2"), "no DSSE encoding"),
    (b"", "no DSSE encoding"),
    (b"DSSEv1 -1 x 0 ", "no DSSE encoding"),
])  # fmt: skip
def test_the_agent_refuses_what_it_must_not_sign(agent, signed, text):
    agent.sign(message(command()))
    with pytest.raises(AgentRefusal, match=text):
        agent.sign(signed)


def test_the_agent_signs_snapshots_and_heartbeats_once_each(agent):
    for document, payload_type in ((state(1), STATE), (heartbeat(1), HEARTBEAT)):
        agent.sign(message(document, payload_type))
        with pytest.raises(AgentRefusal, match="other bytes"):
            agent.sign(message(document | {"exp_us": NOW_US + 1}, payload_type))


def test_over_its_socket_the_agent_is_a_signer(agent, tmp_path):
    with agents.serve(agent, tmp_path / "agent.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        assert (tmp_path / "agent.sock").stat().st_mode & 0o777 == 0o600
        signer = open_signer("agent:agent.sock", tmp_path)
        check_verifies(signer)
        assert signer.keyid == STANDBY.kid
        with pytest.raises(AgentRefusal, match="other bytes"):
            signer.sign(message(command(id="other")))
        server.shutdown()
        thread.join()
    with pytest.raises(UsageError, match="did not answer"):
        signer.sign(MESSAGE)


def test_the_agent_keeps_its_key_in_a_process_of_its_own(tmp_path):
    write_private(tmp_path / "key.pem", pem(ISSUER.private))
    command_line = [
        sys.executable, "-m", "seawall.connectors.agent", "--signer", "file:key.pem", "--socket", "agent.sock",
        "--ledger", "ledger.db", "--issuer", "risk/prod", "--environment", "prod",
    ]  # fmt: skip
    process = subprocess.Popen(command_line, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == ISSUER.kid
        check_verifies(open_signer("agent:agent.sock", tmp_path))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    ledger = sqlite3.connect(tmp_path / "ledger.db")
    assert ledger.execute("SELECT count(*) FROM signed").fetchone() == (1,)
    ledger.close()


# --- the key set at start ---


def entries(**changes) -> list[dict]:
    return [ISSUER.entry("issuer", **changes), *signing.entries()[1:]]


@pytest.mark.parametrize(("changes", "environment", "text"), [
    ({}, "test", "for prod"),
    ({"exp_us": NOW_US - 1}, "prod", "expired"),
    ({"keys": entries(status="verify-only")}, "prod", "verify-only"),
    ({"keys": entries(roles=["sealer"])}, "prod", "sealer"),
    ({"keys": entries(exp_us=NOW_US - 1)}, "prod", "validity"),
    ({"keys": signing.entries()[1:]}, "prod", "not in it"),
])  # fmt: skip
def test_a_signer_that_the_key_set_does_not_allow_stops_the_start(changes, environment, text):
    signer = MemorySigner(ISSUER)
    check_signer(signer, signing.keys(), "prod", NOW_US)
    with pytest.raises(UsageError, match=text):
        check_signer(signer, signing.keys(**changes), environment, NOW_US)
