"""Certificates of a cluster on this machine: an authority, the brokers' and one per client name, as PEM files.

Decides nothing about production: the authority's key is thrown away after use, and everything ends after a week. It
begins two days ago, for brokers whose clock is behind.
"""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAYS = 7
DAYS_BEFORE = 2


def write_certificates(folder: Path, clients: list[str]) -> None:
    """Write ``ca.pem``, ``broker.pem`` (key and chain) and ``NAME.key`` with ``NAME.pem`` per client name."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = _authority()
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for name in ["localhost", *clients]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(name, key, authority, authority_key).public_bytes(serialization.Encoding.PEM)
        if name == "localhost":
            chain = authority.public_bytes(serialization.Encoding.PEM)
            _write_secret(folder / "broker.pem", _pem(key) + certificate + chain)
        else:
            _write_secret(folder / f"{name}.key", _pem(key))
            (folder / f"{name}.pem").write_bytes(certificate)


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Seawall test authority", "Seawall test authority", key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def _signed(
    name: str, key: ec.EllipticCurvePrivateKey, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    builder = _builder(name, "Seawall test authority", key)
    local = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(local), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    return builder.sign(authority_key, hashes.SHA256())


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=DAYS_BEFORE))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
