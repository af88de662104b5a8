"""Key pairs: made, written, read; and the two operations on them, sign and verify.

Private keys are PKCS#8 PEM (P-256 when we make them), public keys are SPKI PEM, so
``cosign.pub`` is one. A key's name everywhere is its fingerprint: ``sha256:<hex>``
over the DER SubjectPublicKeyInfo.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from trailgate.evidence import pkcs8
from trailgate.model.errors import MalformedError, TrailgateError
from trailgate.model.evidence import PublicKey
from trailgate.model.key import public_key

_MAX_PEM = 64 * 1024
_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_COSIGN_LABELS = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")
_COSIGN_ADVICE = (
    "got a private key in cosign's own encryption, expected PKCS#8 PEM; cosign cannot export "
    "it: sign with cosign (Trailgate reads its signatures and its cosign.pub), or make a key "
    "with 'trailgate key generate' and trust both public keys while you change over"
)

_Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
_Public = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class PassphraseError(TrailgateError):
    """The key is encrypted and the passphrase is missing or wrong."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A signing key in memory; its secret never appears in a ``repr``."""

    public: PublicKey
    secret: _Private = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Sign as cosign verifies: ECDSA (DER) and RSA PKCS#1 v1.5 with SHA-256; Ed25519."""
        match self.secret:
            case ec.EllipticCurvePrivateKey() as key:
                return key.sign(message, ec.ECDSA(hashes.SHA256()))
            case rsa.RSAPrivateKey() as key:
                return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            case _:
                return self.secret.sign(message)


def generate() -> PrivateKey:
    """Make a P-256 key."""
    return _wrap(ec.generate_private_key(ec.SECP256R1()))


def private_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Write PKCS#8 PEM, encrypted where there is a passphrase."""
    encoding = serialization.Encoding.DER if passphrase else serialization.Encoding.PEM
    plain = key.secret.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pkcs8.encrypt(plain, passphrase) if passphrase else plain


def public_pem(key: PublicKey) -> bytes:
    """Write SubjectPublicKeyInfo PEM, as ``cosign.pub`` is."""
    return _load(key.der).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def fingerprint(der: bytes) -> str:
    """Name a key: ``sha256:<hex>`` over its DER SubjectPublicKeyInfo."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def load_public_key(pem: bytes) -> PublicKey:
    """Read one SPKI PEM block (P-256, P-384, Ed25519, RSA 2048-8192): ``MalformedError``."""
    return public_key(pem)


def is_encrypted(pem: bytes) -> bool:
    """Whether a private key's PEM asks for a passphrase (``MalformedError`` as below)."""
    return _private_label(pem) == b"ENCRYPTED PRIVATE KEY"


def load_private_key(pem: bytes, passphrase: bytes | None) -> PrivateKey:
    """Read a PKCS#8 PEM private key.

    Raises ``MalformedError`` where it isn't one (cosign's own encryption among
    them), ``PassphraseError`` where the passphrase is missing or wrong.
    """
    encrypted = is_encrypted(pem)
    if encrypted and not passphrase:
        raise PassphraseError("the key is encrypted, and no passphrase was given")
    try:
        key = serialization.load_pem_private_key(pem, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise PassphraseError("the passphrase does not open the key") from error
        raise MalformedError(f"got a private key that cannot be read: {error}") from error
    if not isinstance(key, _Private):
        raise MalformedError(f"got a {type(key).__name__}, expected P-256, P-384, Ed25519 or RSA")
    return _wrap(key)


def is_ed25519(key: PublicKey) -> bool:
    """Whether a key is Ed25519, which cosign uses prehashed (Ed25519ph) for statements."""
    return isinstance(_load(key.der), ed25519.Ed25519PublicKey)


def kind(key: PublicKey) -> str:
    """Name a key's algorithm: ``P-256``, ``P-384``, ``Ed25519`` or ``RSA 3072``."""
    match _load(key.der):
        case rsa.RSAPublicKey() as found:
            return f"RSA {found.key_size}"
        case ec.EllipticCurvePublicKey() as found:
            return f"P-{found.curve.key_size}"
        case _:
            return "Ed25519"


def verifies(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether ``key`` made ``signature`` over ``message``; False for any other bytes.

    ECDSA is DER with SHA-256 (P-384 also with SHA-384, which newer signers choose);
    RSA is PKCS#1 v1.5 or PSS with SHA-256; Ed25519 is the pure one.
    """
    public = _load(key.der)
    match public:
        case ec.EllipticCurvePublicKey():
            choices: tuple[hashes.HashAlgorithm, ...] = (hashes.SHA256(),)
            if isinstance(public.curve, ec.SECP384R1):
                choices = (*choices, hashes.SHA384())
            return any(_ecdsa(public, signature, message, choice) for choice in choices)
        case rsa.RSAPublicKey():
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
            return any(
                _rsa(public, signature, message, scheme) for scheme in (padding.PKCS1v15(), pss)
            )
        case _:
            return _ed25519(public, signature, message)


def _ecdsa(
    key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, hash_: hashes.HashAlgorithm
) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(hash_))
    except InvalidSignature:
        return False
    return True


def _rsa(
    key: rsa.RSAPublicKey,
    signature: bytes,
    message: bytes,
    scheme: padding.PKCS1v15 | padding.PSS,
) -> bool:
    try:
        key.verify(signature, message, scheme, hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _ed25519(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _wrap(secret: _Private) -> PrivateKey:
    pem = secret.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PrivateKey(public_key(pem), secret)


@lru_cache(maxsize=256)
def _load(der: bytes) -> _Public:
    key = serialization.load_der_public_key(der)
    if not isinstance(key, _Public):
        raise MalformedError(f"got a {type(key).__name__}, expected P-256, P-384, Ed25519 or RSA")
    return key


def _private_label(pem: bytes) -> bytes:
    labels = _PEM_LABEL.findall(pem[:_MAX_PEM])
    if len(labels) != 1:
        raise MalformedError(f"got {len(labels)} PEM blocks, expected one private key")
    label = bytes(labels[0])
    if label in _COSIGN_LABELS:
        raise MalformedError(_COSIGN_ADVICE)
    if label not in (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"):
        raise MalformedError(
            f"got PEM '{label.decode('ascii')}', expected 'PRIVATE KEY' or "
            "'ENCRYPTED PRIVATE KEY' (PKCS#8); 'openssl pkcs8 -topk8' converts other private keys"
        )
    return label
