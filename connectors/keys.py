"""Key custody: where signatures come from.

``file:PATH`` holds a PKCS#8 PEM readable by its owner only. Beside it ``public.jwks.json`` holds the public half, which
is all that a verifier needs.
"""

import os
import stat
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from seawall.schemas import dsse
from seawall.schemas.errors import UsageError

PUBLIC = "public.jwks.json"


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
        self._jwk = dsse.public_jwk(_raw(self._key))
        self.keyid = self._jwk["kid"]
        probe = dsse.pae("application/vnd.seawall.self-test", b"{}")
        self._key.public_key().verify(self.sign(probe), probe)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return self._key.sign(message)

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JWK with its ``kid``."""
        return dict(self._jwk)


def open_signer(uri: str, base: Path) -> FileSigner:
    """Return the signer that ``uri`` names, relative to ``base``."""
    scheme, _, rest = uri.partition(":")
    if scheme != "file" or not rest:
        raise UsageError(f'signer = "{uri}" is not known; use "file:keys/dev.pem"')
    signer = FileSigner(base / rest)
    publish(base / rest, signer)
    return signer


def key_path(uri: str, base: Path) -> Path | None:
    """Return the file of a ``file:`` signer, None for any other."""
    scheme, _, rest = uri.partition(":")
    return base / rest if scheme == "file" else None


def new_key(path: Path) -> FileSigner:
    """Generate a key, mode 0600 in a folder of mode 0700.

    Raises
    ------
    UsageError
        The file exists already.
    """
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(partial, path)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already; choose another name, keys are never overwritten") from error
    finally:
        partial.unlink()
    signer = FileSigner(path)
    publish(path, signer)
    return signer


def publish(path: Path, signer: FileSigner) -> None:
    """Add a public key to ``public.jwks.json`` beside its private half."""
    target = path.with_name(PUBLIC)
    keys = {jwk["kid"]: jwk for jwk in (orjson.loads(target.read_bytes())["keys"] if target.exists() else ())}
    if signer.keyid in keys:
        return
    keys[signer.keyid] = signer.public_jwk()
    partial = target.with_name(f".{PUBLIC}.{os.getpid()}")
    partial.write_bytes(orjson.dumps({"keys": list(keys.values())}, option=orjson.OPT_INDENT_2) + b"\n")
    partial.replace(target)


def public_jwks(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the public keys beside a private key file, from ``public.jwks.json`` or else from the private key.

    Raises
    ------
    UsageError
        There is neither.
    """
    target = path.with_name(PUBLIC)
    if target.exists():
        found: dict[str, list[dict[str, str]]] = orjson.loads(target.read_bytes())
        return found
    if path.exists():
        return {"keys": [FileSigner(path).public_jwk()]}
    raise UsageError(f"no public keys: {target} does not exist; copy it from where the run was made")


def public_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """Return the public keys beside a private key file, by key id."""
    return dsse.public_keys(public_jwks(path))


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        state = path.lstat()
    except FileNotFoundError as error:
        raise UsageError(f"the key file {path} does not exist; make one with: seawall keys new {path}") from error
    if not stat.S_ISREG(state.st_mode):
        raise UsageError(f"the key {path} is not a regular file; point the signer at the file itself")
    if state.st_mode & 0o077:
        raise UsageError(f"the key file {path} can be read by others; run: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the key file {path} holds no unencrypted PKCS#8 key ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"the key file {path} holds no Ed25519 key; make one with: seawall keys new PATH")
    return key
