"""Reading a public key that somebody trusts: SPKI PEM in, verification material out.

Here and not in ``evidence``, because a policy names keys and must not know how
evidence is verified. Pure: bytes in, value out.
"""

from __future__ import annotations

import hashlib
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from trailgate.model.errors import MalformedError
from trailgate.model.evidence import PublicKey

_MAX_PEM = 64 * 1024
_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_RSA_BITS = range(2048, 8193)
_CURVES = (ec.SECP256R1, ec.SECP384R1)


def public_key(pem: bytes) -> PublicKey:
    """Read one SPKI PEM block: P-256, P-384, Ed25519, or RSA of 2048 to 8192 bits.

    ``cosign.pub`` is one. The key is written anew as DER, so that one key has one
    fingerprint however it was spelled. Raises ``MalformedError`` (got, expected).
    """
    if len(pem) > _MAX_PEM:
        raise MalformedError(f"got {len(pem)} bytes, expected a PEM key of at most {_MAX_PEM}")
    labels = _PEM_LABEL.findall(pem)
    if len(labels) != 1:
        raise MalformedError(f"got {len(labels)} PEM blocks, expected one public key")
    if labels[0] != b"PUBLIC KEY":
        shown = labels[0].decode("ascii")
        secret = "; a private key does not belong here" if b"PRIVATE" in labels[0] else ""
        raise MalformedError(f"got PEM '{shown}', expected 'PUBLIC KEY' (SPKI){secret}")
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError(
            f"got a public key that cannot be read ({error}), expected SPKI PEM"
        ) from error
    return _describe(key)


def _describe(key: object) -> PublicKey:
    match key:
        case ec.EllipticCurvePublicKey() if not isinstance(key.curve, _CURVES):
            raise MalformedError(f"got curve {key.curve.name}, expected P-256 or P-384")
        case rsa.RSAPublicKey() if key.key_size not in _RSA_BITS:
            raise MalformedError(f"got RSA of {key.key_size} bits, expected 2048 to 8192")
        case ec.EllipticCurvePublicKey() | rsa.RSAPublicKey() | ed25519.Ed25519PublicKey():
            der = key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            return PublicKey(f"sha256:{hashlib.sha256(der).hexdigest()}", der)
        case _:
            raise MalformedError(
                f"got a {type(key).__name__}, expected P-256, P-384, Ed25519 or RSA"
            )
