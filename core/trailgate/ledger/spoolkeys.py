"""The spool's two key pairs: each gate process signs (Ed25519), the recorder unseals (X25519).

Files are PEM: PKCS#8 without a passphrase for private keys (a Secret's volume guards
them), SubjectPublicKeyInfo for public ones.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError


def key_id(key: Ed25519PublicKey | X25519PublicKey) -> Digest:
    """SHA-256 of the key's DER SubjectPublicKeyInfo: how a batch names it."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Digest.of(der)


def private_pem(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    """PKCS#8 PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_pem(key: Ed25519PublicKey | X25519PublicKey) -> bytes:
    """SubjectPublicKeyInfo PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def load_signing_key(pem: bytes) -> Ed25519PrivateKey:
    """Read a gate's private key; raises ``MalformedError``."""
    key = _private(pem)
    if not isinstance(key, Ed25519PrivateKey):
        raise _other(key, "Ed25519")
    return key


def load_verifying_key(pem: bytes) -> Ed25519PublicKey:
    """Read a gate's public key; raises ``MalformedError``."""
    key = _public(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise _other(key, "Ed25519")
    return key


def load_unsealing_key(pem: bytes) -> X25519PrivateKey:
    """Read the recorder's private key; raises ``MalformedError``."""
    key = _private(pem)
    if not isinstance(key, X25519PrivateKey):
        raise _other(key, "X25519")
    return key


def load_sealing_key(pem: bytes) -> X25519PublicKey:
    """Read the recorder's public key; raises ``MalformedError``."""
    key = _public(pem)
    if not isinstance(key, X25519PublicKey):
        raise _other(key, "X25519")
    return key


def _private(pem: bytes) -> object:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedError(f"got no private key, expected PKCS#8 PEM: {error}") from error


def _public(pem: bytes) -> object:
    try:
        return serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError(f"got no public key, expected SPKI PEM: {error}") from error


def _other(key: object, expected: str) -> MalformedError:
    return MalformedError(f"got a {type(key).__name__}, expected an {expected} key")
