"""Key files: private keys, and the public halves beside them.

``file:PATH`` holds a PKCS#8 PEM readable by its owner only. Beside it ``public.jwks.json`` holds the public half, which
is all that a verifier needs; ``sealer.jwks.json`` holds those that sign checkpoints, so that no key has both roles.
"""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.schemas import evidence
from seawall.schemas.errors import UsageError

PUBLIC_KEYS_FILE = "public.jwks.json"
SEALER_KEYS_FILE = "sealer.jwks.json"
KEY_BYTES_MAX = 64 * 1024


class FileSigner:
    """An Ed25519 key in a file of mode 0600.

    Raises
    ------
    UsageError
        The file is missing, readable by others, a link, or holds no such key; the message says what to do.
    """

    alg = "Ed25519"

    def __init__(self, path: Path) -> None:
        self._key = _load(path)
        self._jwk = evidence.public_jwk(_raw(self._key))
        self.keyid = self._jwk["kid"]
        probe = evidence.pae("application/vnd.seawall.self-test", b"{}")
        self._key.public_key().verify(self.sign(probe), probe)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return self._key.sign(message)

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JWK with its ``kid``."""
        return dict(self._jwk)


def key_path(uri: str, base: Path) -> Path | None:
    """Return the file of a ``file:`` signer, None for any other."""
    scheme, _, rest = uri.partition(":")
    return base / rest.partition("?")[0] if scheme == "file" else None


def public_path(uri: str, base: Path, name: str = PUBLIC_KEYS_FILE) -> Path:
    """Return where the public keys of a signer stand: beside its file, or else in the folder ``keys``."""
    return (key_path(uri, base) or base / "keys" / "any").with_name(name)


def new_key(path: Path, name: str = PUBLIC_KEYS_FILE) -> FileSigner:
    """Generate a key, mode 0600 in a folder of mode 0700; its public half goes into the file ``name`` beside it.

    Raises
    ------
    UsageError
        The file exists already.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(path, pem)
    signer = FileSigner(path)
    publish_public_key(path.with_name(name), signer)
    return signer


def write_private(path: Path, pem: bytes) -> None:
    """Write a private key, mode 0600 in a folder of mode 0700; `UsageError` where the file exists."""
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    partial = _written_aside(path, pem)
    try:
        os.link(partial, path)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already; choose another name, keys are never overwritten") from error
    finally:
        partial.unlink()


def publish_public_key(target: Path, signer: evidence.Signer) -> None:
    """Add a public key to a JWKS, whoever else adds one at the same time."""
    if _holds(_published(target), signer):
        return
    target.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    with _alone_in(target.parent):
        keys = _published(target)
        if _holds(keys, signer):
            return
        text = orjson.dumps({"keys": [*keys, signer.public_jwk()]}, option=orjson.OPT_INDENT_2) + b"\n"
        partial = _written_aside(target, text)
        partial.chmod(0o644)
        partial.replace(target)


def _published(target: Path) -> list[dict[str, str]]:
    return read_jwks(target)["keys"] if target.exists() else []


def _holds(keys: list[dict[str, str]], signer: evidence.Signer) -> bool:
    return any(jwk.get("kid") == signer.keyid for jwk in keys)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which dies with its process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def public_jwks(path: Path, name: str = PUBLIC_KEYS_FILE) -> dict[str, list[dict[str, str]]]:
    """Return the public keys beside a private key file, from the file ``name`` or else from the private key.

    Raises
    ------
    UsageError
        There is neither, or the file is no JWKS.
    """
    target = path.with_name(name)
    if target.exists():
        return read_jwks(target)
    if path.exists():
        return {"keys": [FileSigner(path).public_jwk()]}
    raise UsageError(f"no public keys: {target} does not exist; copy it from where the run was made")


def public_keys(path: Path, name: str = PUBLIC_KEYS_FILE) -> dict[str, evidence.PublicKey]:
    """Return the public keys beside a private key file, by key id."""
    return evidence.public_keys(public_jwks(path, name))


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _written_aside(path: Path, content: bytes) -> Path:
    """Return a new file of mode 0600 beside ``path``, on disk; its name is new even where process ids repeat."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def read_jwks(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the keys of a JWKS file; `UsageError` where it is none."""
    try:
        found = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON ({error}); copy it anew from where the run was made") from error
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not all(isinstance(jwk, dict) for jwk in keys):
        raise UsageError(f'{path} is no JWKS, an object with a list "keys"; copy it anew from where the run was made')
    return {"keys": keys}


def _read_private(path: Path) -> bytes:
    """Return the bytes of the very file whose owner and mode were found good, without following a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(f"the key file {path} does not exist; make one with: seawall keys new {path}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"the key {path} is a symbolic link; point the signer at the file itself") from error
        raise UsageError(f"the key file {path} cannot be read ({error.strerror}); check owner and mode") from error
    try:
        _check_custody(path, os.fstat(descriptor))
        return os.read(descriptor, KEY_BYTES_MAX)
    finally:
        os.close(descriptor)


def _check_custody(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise UsageError(f"the key {path} is not a regular file; point the signer at the file itself")
    if state.st_uid not in {0, os.geteuid()}:
        raise UsageError(f"the key file {path} belongs to another user; run: chown {os.geteuid()} {path}")
    if state.st_mode & 0o077:
        raise UsageError(f"the key file {path} can be read by others; run: chmod 600 {path}")


def _load(path: Path) -> Ed25519PrivateKey:
    raw = _read_private(path)
    try:
        key = serialization.load_pem_private_key(raw, password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the key file {path} holds no unencrypted PKCS#8 key ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"the key file {path} holds no Ed25519 key; make one with: seawall keys new PATH")
    return key
