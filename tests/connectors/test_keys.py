"""Key custody: a private key that others could read is never used, and verifying needs public keys only."""

import multiprocessing
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.connectors.keys import _key_files, _signers
from seawall.schemas.errors import SeawallError, UsageError
from seawall.schemas.evidence import _envelopes
from seawall_testing.command_line import make_keys


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "keys" / "dev.pem"
    _key_files.new_key(found)
    return found


def test_a_new_key_is_readable_by_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        _key_files.new_key(tmp_path / "keys" / "dev.pem")
    finally:
        os.umask(before)
    assert mode(tmp_path / "keys" / "dev.pem") == 0o600
    assert mode(tmp_path / "keys") == 0o700
    assert sorted(found.name for found in (tmp_path / "keys").iterdir()) == ["dev.pem", "public.jwks.json"]


def test_a_key_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        _key_files.new_key(path)
    assert path.read_bytes() == before
    assert sorted(found.name for found in path.parent.iterdir()) == ["dev.pem", "public.jwks.json"]


def test_a_key_left_half_made_by_a_process_of_the_same_id_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f".dev.pem.{os.getpid()}").write_bytes(b"half")
    assert _key_files.new_key(tmp_path / "dev.pem").alg == "Ed25519"


def test_keys_that_are_published_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    made = [_key_files.new_key(tmp_path / "made" / f"{number}.pem", f"{number}.jwks.json") for number in range(16)]
    with ThreadPoolExecutor(len(made)) as pool:
        list(pool.map(lambda signer: _key_files.publish_public_key(tmp_path / "public.jwks.json", signer), made))
    assert {jwk["kid"] for jwk in _key_files.read_jwks(tmp_path / "public.jwks.json")["keys"]} == {
        k.keyid for k in made
    }


def test_the_same_file_gives_the_same_key_id_and_signature(path: Path) -> None:
    first, second = _key_files.FileSigner(path), _signers.open_signer("file:keys/dev.pem", path.parent.parent)
    assert first.keyid == second.keyid == _envelopes.thumbprint(first.public_jwk())
    assert first.sign(b"a") == second.sign(b"a")


def test_the_private_key_is_plain_pkcs8_for_other_tools(path: Path) -> None:
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert len(path.read_bytes()) == 119


def test_verifying_needs_the_public_keys_only(path: Path) -> None:
    signer = _key_files.FileSigner(path)
    envelope = _envelopes.sign_payload(signer, _envelopes.COMMAND_TYPE, b"{}")
    path.unlink()
    assert _envelopes.verify_envelope(b"{}", envelope, _key_files.public_keys(path), _envelopes.COMMAND_TYPE) == b"{}"


def test_public_keys_of_all_keys_of_a_folder_stay_listed_and_no_private_part_is(path: Path) -> None:
    old = _key_files.FileSigner(path).keyid
    new = _key_files.new_key(path.with_name("next.pem")).keyid
    _signers.open_signer("file:next.pem", path.parent)
    listed = orjson.loads((path.parent / "public.jwks.json").read_bytes())["keys"]
    assert [jwk["kid"] for jwk in listed] == [old, new]
    assert set(_key_files.public_keys(path)) == {old, new}
    assert all(set(jwk) == {"kty", "crv", "x", "kid", "alg", "use"} for jwk in listed)


def test_without_the_public_file_the_private_key_gives_its_public_half(path: Path) -> None:
    (path.parent / "public.jwks.json").unlink()
    assert list(_key_files.public_keys(path)) == [_key_files.FileSigner(path).keyid]
    path.unlink()
    with pytest.raises(UsageError, match="no public keys"):
        _key_files.public_keys(path)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601, 0o644, 0o777])
def test_a_key_that_others_may_touch_is_refused_with_the_remedy(path: Path, bits: int) -> None:
    path.chmod(bits)
    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        _key_files.FileSigner(path)


def test_a_symbolic_link_is_refused_even_to_a_good_key(path: Path) -> None:
    link = path.with_name("link.pem")
    link.symlink_to(path)
    with pytest.raises(UsageError, match="symbolic link"):
        _key_files.FileSigner(link)


def test_a_key_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid() or 1000
    if os.geteuid() == 0:
        os.chown(path, 1000, -1)
        with pytest.raises(UsageError, match="belongs to another user"):
            _key_files.FileSigner(path)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        with pytest.raises(UsageError, match="belongs to another user"):
            _key_files.FileSigner(path)


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_without_waiting(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"), 0o600)
    (path.parent / "folder").mkdir(mode=0o700)
    for name in ("pipe", "folder"):
        with pytest.raises(UsageError, match="not a regular file"):
            _key_files.FileSigner(path.with_name(name))


def test_a_missing_key_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seawall keys new"):
        _signers.open_signer("file:none.pem", tmp_path)


@pytest.mark.parametrize("uri", ["dev.pem", "file:", "vault:token", ""])
def test_a_signer_of_an_unknown_kind_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UsageError, match="use file:PATH"):
        _signers.open_signer(uri, tmp_path)


def _private(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key at all",
        _private(Ed25519PrivateKey.generate())[:60],
        _private(Ed25519PrivateKey.generate(), b"secret"),
        _private(ec.generate_private_key(ec.SECP256R1())),
    ],
    ids=["empty", "text", "cut off", "encrypted", "another algorithm"],
)
def test_a_file_without_a_plain_ed25519_key_is_refused_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        _key_files.FileSigner(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"keys": 5}', '{"keys": [5]}', "null"])
def test_a_damaged_public_file_is_named_and_not_overwritten(path: Path, text: str) -> None:
    public = path.parent / "public.jwks.json"
    public.write_text(text)
    for use in (lambda: _key_files.public_keys(path), lambda: _signers.open_signer("file:dev.pem", path.parent)):
        with pytest.raises(SeawallError, match=r"public\.jwks\.json"):
            use()
    assert public.read_text() == text


def test_of_several_processes_that_make_the_same_key_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "dev.pem"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make_keys, args=(str(path), 3)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert list(_key_files.public_keys(path)) == [_key_files.FileSigner(path).keyid]


def test_a_signer_shows_no_part_of_its_key_when_printed(path: Path) -> None:
    assert "FileSigner object" in repr(_key_files.FileSigner(path))
    with pytest.raises(TypeError):
        __import__("pickle").dumps(_key_files.FileSigner(path))
