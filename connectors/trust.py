"""Trust: which public keys a run's verifiers accept, and for what.

With ``[keys] set`` and ``set_sha256`` the answer is the newest key set there: the first must have the pinned hash, each
further one must follow from the one before by the root owners' signatures. Without, in ``dev`` and ``test``, it is the
plain JWKS beside the signers' keys, for which nobody vouches.

A revoked key's signatures stay good up to the log positions that its revocation names, and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from seawall.connectors import keys
from seawall.connectors.limit_documents import read_key_sets
from seawall.schemas import dsse
from seawall.schemas.configuration import Configuration
from seawall.schemas.evidence.documents import DOCUMENTS
from seawall.schemas.evidence.keyset import Key, KeySet


@dataclass(frozen=True)
class Trust:
    """What a verifier knows.

    Attributes
    ----------
    issuers
        Keys whose signatures on commands and state documents count, by id.
    sealers
        Public keys of the sealers, as JWKs; those of revoked ones too, for what they sealed before.
    revoked
        Per revoked key, how many records of each log its signatures still count for; none of a log that is not named.
    key_set
        The key set behind this; None where keys are plain files.
    """

    issuers: Mapping[str, dsse.PublicKey]
    sealers: list[dict[str, str]]
    revoked: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    key_set: KeySet | None = None

    def covers(self, kid: str, origin: str, leaf: int) -> bool:
        """Return whether what a key signed counts at a leaf of a log."""
        return kid not in self.revoked or leaf < self.revoked[kid].get(origin, 0)

    def knows(self, kid: str) -> bool:
        """Return whether a key is an issuer's, or stands in the key set for any other role."""
        return kid in self.issuers or (self.key_set is not None and kid in self.key_set.by_kid)

    def counts(self, envelope: str, origin: str, leaf: int) -> bool:
        """Return False where all issuers' keys that signed an envelope were revoked before this leaf of a log."""
        known = [kid for kid in dsse.key_ids(envelope) if kid in self.issuers]
        return not known or any(self.covers(kid, origin, leaf) for kid in known)


def load_trust(configuration: Configuration) -> Trust:
    """Return the trust that a configuration names.

    Raises
    ------
    UsageError
        There are no public keys, or the key set is not the pinned one.
    VerificationError
        A key set does not follow from the one before it.
    """
    if configuration.key_set is not None:
        return trust_of(read_key_sets(configuration)[-1])
    base = configuration.directory
    issuers = keys.public_path(configuration.signer, base)
    sealers = keys.public_path(configuration.sealer, base, keys.SEALERS)
    own = keys.key_path(configuration.signer, base) or issuers
    listed = keys.public_jwks(sealers, keys.SEALERS)["keys"] if sealers.exists() else []
    return Trust(dsse.public_keys(keys.public_jwks(own)), listed)


def trust_of(key_set: KeySet) -> Trust:
    """Return the trust that a key set gives."""
    listed = key_set.document.keys
    issuers = [key for key in listed if "issuer" in key.roles and set(key.types) & set(DOCUMENTS)]
    sealers = [key for key in listed if "sealer" in key.roles]
    revoked = {
        key.kid: {p.origin: p.size for p in key.revoked_after or ()} for key in listed if key.status == "revoked"
    }
    return Trust(
        dsse.public_keys({"keys": [jwk_of(key) for key in issuers]}), list(map(jwk_of, sealers)), revoked, key_set
    )


def jwk_of(key: Key) -> dict[str, str]:
    """Return the public key of an entry as a JWK."""
    found = {name: getattr(key, name) for name in ("kty", "crv", "x", "y", "kid", "alg", "use")}
    return {name: value for name, value in found.items() if value is not None}
