"""Signers: private keys wherever they are kept, behind the one protocol `seawall.schemas.evidence.Signer`.

==========================  ==========================================================================
``file:PATH``               PKCS#8 PEM, mode 0600; ``?passphrase-file=PATH`` opens an encrypted one
``exec:PROGRAM ARGUMENTS``  any program: with ``public`` it prints a JWK, with ``sign`` it signs its input
``agent:SOCKET``            a separate signing process on a Unix socket (`seawall.connectors.agent`)
``pkcs11:URI``              a token by RFC 7512 (module-path, token, object, pin-source); extra ``pkcs11``
``kms:URI?public=PATH``     a signer of securesystemslib (``awskms:``, ``gcpkms:``, ``azurekms:``, ``hv:``, …) and
                            its public key as PEM; extra ``kms``
==========================  ==========================================================================

Ed25519, or ES256 where a key store has no Ed25519; signatures are 64 raw bytes for both. Whatever signs elsewhere is
checked here before it is used: a faulty or wrong key must not leave as a signature that nobody can verify. No key
object is ever logged, pickled or part of an operator's state; make the signer where it is used.
"""

import base64
import hashlib
import importlib
import json
import shlex
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from seawall.connectors.keys import _key_files
from seawall.schemas.errors import UsageError, VerificationError
from seawall.schemas.evidence import (
    KeySet,
    Malformed,
    Role,
    Signer,
    decode_base64url,
    encode_base64url,
    pae,
    thumbprint,
    verify_signature,
)

PROGRAM_TIMEOUT_S = 30
PASSPHRASE_BYTES_MIN = 22  # 128 bits in base64
ALGORITHMS = {"OKP": "Ed25519", "EC": "ES256"}
_MEMBERS: tuple[str, ...] = ("kty", "crv", "x", "y")
_PROBE = pae("application/vnd.seawall.self-test", b"{}")
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def open_signer(uri: str, base: Path, public: str = _key_files.PUBLIC_KEYS_FILE) -> Signer:
    """Return the signer that ``uri`` names, paths relative to ``base``; it has signed and verified a probe.

    Its public key is added to the JWKS named ``public`` that stands with it, which is what verifiers read.

    Raises
    ------
    UsageError
        The scheme is unknown, or the key cannot be used; one line that says what to do.
    """
    signer = read_signer(uri, base)
    _key_files.publish_public_key(_key_files.public_path(uri, base, public), signer)
    return signer


def new_encrypted_key(path: Path, passphrase_file: Path) -> Signer:
    """Generate an Ed25519 key under a passphrase, which must be random and long: PBKDF2 runs 2048 times only."""
    check_private(passphrase_file)
    passphrase = passphrase_file.read_bytes().rstrip(b"\r\n")
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise UsageError(
            f"{passphrase_file} holds {len(passphrase)} bytes; make a random passphrase of at least "
            f"{PASSPHRASE_BYTES_MIN}: openssl rand -base64 24 > {passphrase_file}"
        )
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
    _key_files.write_private(path, pem)
    signer = EncryptedFileSigner(path, passphrase_file)
    _key_files.publish_public_key(path.with_name(_key_files.PUBLIC_KEYS_FILE), signer)
    return signer


def read_signer(uri: str, base: Path) -> Signer:
    """Return the signer that ``uri`` names, as `open_signer` does, and publish nothing."""
    scheme, _, rest = uri.partition(":")
    if scheme == "file" and rest:
        path, _, options = rest.partition("?")
        passphrase_file = dict(parse_qsl(options)).get("passphrase-file")
        if passphrase_file:
            return EncryptedFileSigner(base / path, base / passphrase_file)
        return _key_files.FileSigner(base / rest)
    if scheme == "exec" and rest:
        return ExecSigner(shlex.split(rest), base)
    if scheme == "pkcs11" and rest:
        return Pkcs11Signer(rest, base)
    if scheme == "agent" and rest:
        return AgentSigner(base / rest)
    if scheme == "kms" and rest:
        return KmsSigner(rest, base)
    known = "file:PATH, exec:PROGRAM, agent:SOCKET, pkcs11:URI or kms:URI?public=PATH"
    raise UsageError(f'signer = "{uri}" is not known; use {known}')


def check_signer(signer: Signer, key_set: KeySet, environment: str, now_us: int, role: Role = "issuer") -> None:
    """Raise `UsageError` unless the key set gives this key its role here and now; asked before the first record."""
    key = key_set.by_kid.get(signer.keyid)
    if key_set.document.environment != environment:
        raise UsageError(f"the key set is for {key_set.document.environment}, this run for {environment}")
    if key_set.document.exp_us < now_us:
        raise UsageError(f"key set version {key_set.version} has expired; publish the next one: seawall keys rotate")
    if key is None or key.status != "active" or role not in key.roles:
        state = "not in it" if key is None else f"{key.status} with roles {', '.join(key.roles)}"
        raise UsageError(f"the signer's key {signer.keyid} is no active {role} of the key set: it is {state}")
    if not key.valid_at(now_us):
        raise UsageError(
            f"the signer's key {signer.keyid} is outside its validity; rotate it first: seawall keys rotate"
        )


class CheckedSigner:
    """Base of signers whose key lies elsewhere: ``keyid`` from the public key, every signature verified."""

    def __init__(self, jwk: dict[str, str]) -> None:
        try:
            self.alg = ALGORITHMS[jwk["kty"]]
            self._jwk: dict[str, str] = {name: jwk[name] for name in _MEMBERS if name in jwk}
            self._raw = b"".join(decode_base64url(jwk[name]) for name in ("x", "y") if name in jwk)
            self.keyid = thumbprint(self._jwk)
        except (KeyError, TypeError, Malformed) as error:
            raise UsageError(f"the signer's public key is no Ed25519 or P-256 JWK ({error})") from error
        self.sign(_PROBE)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message; `UsageError` when the key store answers with anything else."""
        signature = self._sign(message)
        if not verify_signature(self.alg, self._raw, message, signature):
            raise UsageError(f"the key store's signature does not fit its public key {self.keyid}")
        return signature

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JWK with its ``kid``."""
        return {**self._jwk, "kid": self.keyid, "alg": self.alg, "use": "sig"}

    def _sign(self, message: bytes) -> bytes:
        raise NotImplementedError


class EncryptedFileSigner(CheckedSigner):
    """A PKCS#8 PEM under a passphrase. Both files must be readable by their owner only."""

    def __init__(self, path: Path, passphrase_file: Path) -> None:
        check_private(path)
        check_private(passphrase_file)
        passphrase = passphrase_file.read_bytes().rstrip(b"\r\n")
        try:
            found = serialization.load_pem_private_key(path.read_bytes(), passphrase)
        except (ValueError, TypeError) as error:
            raise UsageError(f"the key file {path} does not open with {passphrase_file} ({error})") from error
        p256 = isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(found.curve, ec.SECP256R1)
        if not isinstance(found, PrivateKey) or not (p256 or isinstance(found, ed25519.Ed25519PrivateKey)):
            raise UsageError(f"the key file {path} holds neither an Ed25519 nor a P-256 key")
        self._key = found
        super().__init__(jwk_of_public_key(found.public_key()))

    def _sign(self, message: bytes) -> bytes:
        return sign_raw(self._key, message)


class ExecSigner(CheckedSigner):
    """An external program: a cloud key service's client, a hardware token's tool. No shell is involved."""

    def __init__(self, command: list[str], base: Path) -> None:
        self._command, self._base = command, base
        try:
            jwk = json.loads(self._run("public", b""))
        except ValueError as error:
            raise UsageError(f"{command[0]} public printed no JWK ({error})") from error
        super().__init__(jwk)

    def _sign(self, message: bytes) -> bytes:
        return self._run("sign", message)

    def _run(self, verb: str, text: bytes) -> bytes:
        try:
            run = subprocess.run(
                [*self._command, verb],
                input=text, capture_output=True, timeout=PROGRAM_TIMEOUT_S, cwd=self._base, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"the signer {self._command[0]} did not run: {error}") from error
        if run.returncode != 0:
            said = run.stderr.decode("utf-8", "replace").strip()[-200:]
            raise UsageError(f"the signer {self._command[0]} {verb} ended with {run.returncode}: {said!a}")
        return run.stdout


class Pkcs11Signer(CheckedSigner):
    """A key in a PKCS#11 token, Ed25519 or P-256; the session is held open."""

    def __init__(self, uri: str, base: Path) -> None:
        try:
            pkcs11: Any = importlib.import_module("pkcs11")
        except ImportError as error:
            raise UsageError('pkcs11: needs an extra: pip install "bytewax-seawall[pkcs11]"') from error
        path, _, query = uri.partition("?")
        parts = dict(item.partition("=")[::2] for item in path.split(";")) | dict(parse_qsl(query))
        pin_file = base / parts.get("pin-source", "").removeprefix("file:")
        check_private(pin_file)
        try:
            token = pkcs11.lib(parts["module-path"]).get_token(token_label=unquote(parts["token"]))
            self._session = token.open(user_pin=pin_file.read_text().strip())
            label = {"label": unquote(parts["object"])}
            self._key = self._session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, **label)
            public = self._session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, **label)
            point = bytes(public[pkcs11.Attribute.EC_POINT])
        except (KeyError, OSError, RuntimeError, pkcs11.exceptions.PKCS11Error) as error:
            raise UsageError(f"the PKCS#11 key does not open: {type(error).__name__} {error}") from error
        self._edwards = self._key.key_type == pkcs11.KeyType.EC_EDWARDS
        self._mechanism = pkcs11.Mechanism.EDDSA if self._edwards else pkcs11.Mechanism.ECDSA
        self._failure: type[Exception] = pkcs11.exceptions.PKCS11Error
        super().__init__(_jwk_of_point(point))

    def _sign(self, message: bytes) -> bytes:
        """Tokens hash for Ed25519 themselves; few know ECDSA with SHA-256, all know ECDSA over a digest."""
        text = message if self._edwards else hashlib.sha256(message).digest()
        try:
            return bytes(self._key.sign(text, mechanism=self._mechanism))
        except self._failure as error:
            raise UsageError(f"the token does not sign: {type(error).__name__}") from error


class KmsSigner(CheckedSigner):
    """A key in a cloud's key service or a vault, by securesystemslib's URI; the service's own way gives access."""

    def __init__(self, text: str, base: Path) -> None:
        uri, _, public_path = text.rpartition("?public=")
        if not uri:
            raise UsageError("kms: needs the public key; write kms:URI?public=PATH, PATH a PEM file")
        try:
            library: Any = importlib.import_module("securesystemslib.signer")
        except ImportError as error:
            raise UsageError('kms: needs an extra: pip install "bytewax-seawall[kms]"') from error
        try:
            public: Any = serialization.load_pem_public_key((base / public_path).read_bytes())
            self._signer = library.Signer.from_priv_key_uri(uri, library.SSlibKey.from_crypto(public))
        except Exception as error:  # each service's library raises errors of its own
            raise UsageError(f"the key {uri} does not open: {type(error).__name__} {str(error)[:200]}") from error
        if not isinstance(public, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
            raise UsageError(f"{public_path} is no Ed25519 or P-256 key")
        super().__init__(jwk_of_public_key(public))

    def _sign(self, message: bytes) -> bytes:
        try:
            signature = bytes.fromhex(self._signer.sign(message).signature)
            return signature if self.alg == "Ed25519" else raw_ecdsa(signature)
        except Exception as error:
            raise UsageError(f"the key service does not sign: {type(error).__name__} {str(error)[:200]}") from error


def check_private(path: Path) -> None:
    """Raise `UsageError` unless the path is a regular file that only its owner can read."""
    try:
        state = path.lstat()
    except FileNotFoundError as error:
        raise UsageError(f"the file {path} does not exist") from error
    if not stat.S_ISREG(state.st_mode):
        raise UsageError(f"{path} is not a regular file; name the file itself")
    if state.st_mode & 0o077:
        raise UsageError(f"{path} can be read by others; run: chmod 600 {path}")


def sign_raw(key: PrivateKey, message: bytes) -> bytes:
    """Return the 64-byte signature by a key in memory."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return raw_ecdsa(key.sign(message, ec.ECDSA(hashes.SHA256())))


def raw_ecdsa(signature: bytes) -> bytes:
    """Return a P-256 signature in DER as 64 raw bytes."""
    r, s = decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def jwk_of_public_key(public: Any) -> dict[str, str]:
    """Return the JWK members of a public key of either algorithm."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(public.public_bytes_raw())}
    form = serialization.PublicFormat.UncompressedPoint
    return _jwk_of_point(public.public_bytes(serialization.Encoding.X962, form))


def _jwk_of_point(point: bytes) -> dict[str, str]:
    """Return the JWK of a point, bare or inside a DER OCTET STRING, as tokens give it."""
    if len(point) in (34, 67) and point[0] == 0x04 and point[1] == len(point) - 2:
        point = point[2:]
    if len(point) == 32:
        return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(point)}
    return {"kty": "EC", "crv": "P-256", "x": encode_base64url(point[1:33]), "y": encode_base64url(point[33:65])}


# Client of a signing agent (`seawall.connectors.agent`): a signer whose key is in another process.

FRAME_BYTES_MAX = 1 << 20
AGENT_TIMEOUT_S = 30


class AgentRefusal(VerificationError):
    """The agent does not sign this."""


class AgentSigner(CheckedSigner):
    """The client: a `Signer` whose key is in an agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(self._ask({"op": "public"})["jwk"])

    def _sign(self, message: bytes) -> bytes:
        answer = self._ask({"op": "sign", "message": base64.b64encode(message).decode()})
        return base64.b64decode(answer["signature"])

    def _ask(self, request: dict[str, str]) -> Any:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(AGENT_TIMEOUT_S)
                connection.connect(str(self._path))
                send_frame(connection, request)
                answer = receive_frame(connection)
        except (OSError, ValueError) as error:
            raise UsageError(f"the signing agent at {self._path} did not answer: {error}") from error
        if "refused" in answer:
            raise AgentRefusal(str(answer["refused"]))
        return answer


def send_frame(connection: socket.socket, content: dict[str, Any]) -> None:
    """Send one JSON object, its length in four bytes before it."""
    data = json.dumps(content).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)


def receive_frame(connection: socket.socket) -> Any:
    """Return the value of the next frame; raises ValueError where it is larger than ``FRAME_BYTES_MAX``."""
    size = int.from_bytes(_read_exactly(connection, 4), "big")
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes")
    return json.loads(_read_exactly(connection, size))


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ValueError("the connection ended within a frame")
        data += part
    return data
