"""Runs whose keys lie elsewhere: a signing agent, an encrypted file, the second algorithm; public keys verify all."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from seawall.connectors.agent import Agent, serve
from seawall.connectors.keys import AgentRefusal, new_key, open_signer
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import STATE, pae
from seawall_testing import crisis
from seawall_testing.command_line import bus_contents, seawall


def with_signer(path: Path, signer: str) -> Path:
    path.write_text(path.read_text() + f"[keys]\nsigner = {json.dumps(signer)}\n")
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """A signing agent with its ledger; yields its socket."""
    signing = Agent(new_key(tmp_path / "held" / "key.pem"), tmp_path / "ledger.db", "risk/dev", "dev")
    with serve(signing, tmp_path / "agent.sock") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "agent.sock"
        server.shutdown()
    signing.close()


def test_a_run_signs_through_an_agent_and_a_second_run_gets_the_same_signatures(agent: Path, tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        path = with_signer(crisis.write_crisis(tmp_path / name, 2), f"agent:{agent}")
        if folders:
            shutil.copytree(folders[0] / "keys", path.parent / "keys")
        done = seawall("run", path)
        assert done.returncode == 0, done.stderr
        assert seawall("verify", path).returncode == 0
        assert seawall("replay", path).returncode == 0
        assert not (path.parent / "keys" / "dev.pem").exists()
        folders.append(path.parent)
    assert bus_contents(folders[0]) == bus_contents(folders[1])
    assert bus_contents(folders[0], ["commands"])


def test_an_agent_signs_all_documents_of_a_state_and_no_other_for_their_place(agent: Path, tmp_path: Path) -> None:
    signer = open_signer(f"agent:{agent}", tmp_path)
    head = {"v": 1, "iss": "risk/dev", "aud": ["*"], "env": "dev", "seq": 5, "iat_us": 1, "nbf_us": 1, "exp_us": 2}

    def state(name: str, seq: int) -> bytes:
        listed = [{"target": {"scope": "account", "id": name}, "epoch": 1, "seq": seq, "id": "i", "in_force": []}]
        return pae(STATE, json.dumps({**head, "targets": listed}).encode())

    first = signer.sign(state("a", 1))
    signer.sign(state("b", 1))
    assert signer.sign(state("a", 1)) == first
    with pytest.raises(AgentRefusal, match="other bytes were signed"):
        signer.sign(state("a", 2))


def test_a_second_agent_does_not_take_the_socket_of_one_that_lives(agent: Path, tmp_path: Path) -> None:
    other = Agent(new_key(tmp_path / "other.pem"), tmp_path / "other.db", "risk/dev", "dev")
    with pytest.raises(UsageError, match="another signing agent listens"):
        serve(other, agent)
    assert open_signer(f"agent:{agent}", tmp_path).keyid != other.public_jwk()["kid"]


def test_a_run_with_es256_verifies_replays_and_continues_without_signing_again(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "run", 2)
    keys = tmp_path / "run" / "keys"
    keys.mkdir(mode=0o700)
    for name, content in (
        ("word", b"a-long-and-random-passphrase\n"),
        ("p256.pem", ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a-long-and-random-passphrase"),
        )),
    ):  # fmt: skip
        (keys / name).touch(mode=0o600)
        (keys / name).write_bytes(content)
    with_signer(path, "file:keys/p256.pem?passphrase-file=keys/word")
    assert seawall("run", path).returncode == 0
    before = bus_contents(path.parent)
    assert json.loads(seawall("keys", "export", path).stdout)["keys"][0]["alg"] == "ES256"
    shutil.rmtree(path.parent / "recovery")  # everything is derived again and compared; nothing is signed anew
    assert seawall("run", path).returncode == 0
    assert bus_contents(path.parent) == before
    assert seawall("verify", path).returncode == 0
    assert seawall("replay", path).returncode == 0
