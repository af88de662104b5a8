"""Passphrase encryption of a private key: PKCS#8 with PBES2, scrypt and AES-256-CBC.

``cryptography`` writes encrypted PKCS#8 with 2,048 rounds of PBKDF2, which a
graphics card guesses through; the container (RFC 5958, RFC 8018) and scrypt's
place in it (RFC 7914 §7) are standard, so OpenSSL and ``cryptography`` read the
result. Formats: DER inside, PEM outside.
"""

from __future__ import annotations

import base64
import os
import textwrap

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
_OID_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_OID_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_OID_AES256_CBC = bytes.fromhex("060960864801650304012a")
# 16 MiB a guess, five times over: the cost that OWASP advises, below the 32 MiB
# that OpenSSL is willing to spend on reading a key.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 5


def _tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:  # noqa: PLR2004  DER's short form
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _integer(value: int) -> bytes:
    return _tlv(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def encrypt(pkcs8_der: bytes, passphrase: bytes) -> bytes:
    """Encrypt a PKCS#8 ``PrivateKeyInfo`` (DER); returns ``ENCRYPTED PRIVATE KEY`` PEM."""
    salt, iv = os.urandom(16), os.urandom(16)
    key = Scrypt(salt, length=32, n=_COST, r=_BLOCK, p=_PARALLEL).derive(passphrase)
    padder = padding.PKCS7(algorithms.AES.block_size).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(pkcs8_der) + padder.finalize()) + encryptor.finalize()
    scrypt = _tlv(
        _SEQUENCE,
        _OID_SCRYPT,
        _tlv(
            _SEQUENCE,
            _tlv(_OCTETS, salt),
            *(_integer(value) for value in (_COST, _BLOCK, _PARALLEL)),
        ),
    )
    cipher = _tlv(_SEQUENCE, _OID_AES256_CBC, _tlv(_OCTETS, iv))
    algorithm = _tlv(_SEQUENCE, _OID_PBES2, _tlv(_SEQUENCE, scrypt, cipher))
    der = _tlv(_SEQUENCE, algorithm, _tlv(_OCTETS, sealed))
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), 64))
    return (
        f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{lines}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    ).encode("ascii")
