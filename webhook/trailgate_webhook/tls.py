"""The serving certificate: loaded from a mounted pair, and again whenever its content changes.

The pair is replaced inside the live ``SSLContext``, so that open connections and
everything the process has cached stay. Content is compared, not time stamps: a
projected Secret is a farm of symbolic links that changes in one rename.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from trailgate.model.errors import TrailgateError


class CertificateError(TrailgateError):
    """A pair that can't be served: not readable, not PEM, or key and certificate don't match."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, as read."""

    chain: bytes
    key: bytes

    @property
    def digest(self) -> bytes:
        """Of both, to notice a change."""
        return hashlib.sha256(b"%d:%b%b" % (len(self.chain), self.chain, self.key)).digest()


class ServingCertificate:
    """A TLS context that follows a pair of files.

    TLS 1.2 at least, HTTP/1.1 only. With ``client_ca`` a connection needs a client
    certificate of that authority (read once, at start).
    """

    def __init__(self, chain: Path, key: Path, client_ca: Path | None = None) -> None:
        self._chain, self._key = chain, key
        self.context = _empty_context()
        if client_ca is not None:
            _require_clients(self.context, client_ca)
        pair = self._read()
        self._load(pair)
        self._digest = pair.digest

    def refresh(self) -> bool:
        """Load the pair if its content changed; True if it did.

        ``CertificateError`` leaves the old pair in service; the next call tries again.
        """
        pair = self._read()
        if pair.digest == self._digest:
            return False
        self._load(pair)
        self._digest = pair.digest
        return True

    def _read(self) -> Pair:
        try:
            return Pair(self._chain.read_bytes(), self._key.read_bytes())
        except OSError as error:
            raise CertificateError(
                f"can't read the serving certificate: {error.strerror}: {error.filename}"
            ) from error

    def _load(self, pair: Pair) -> None:
        # Into a context of its own first: a half-loaded live context would serve a mismatch.
        _load_into(_empty_context(), pair)
        try:
            self.not_after = not_after(pair.chain)
        except ValueError as error:
            raise CertificateError(f"got a certificate that can't be read: {error}") from error
        _load_into(self.context, pair)


def not_after(chain: bytes) -> datetime:
    """When the first certificate of a PEM chain expires, UTC."""
    return x509.load_pem_x509_certificate(chain).not_valid_after_utc


def _empty_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _require_clients(context: ssl.SSLContext, client_ca: Path) -> None:
    try:
        context.load_verify_locations(cafile=client_ca)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"can't load the client authority {client_ca}: {error}") from error
    context.verify_mode = ssl.CERT_REQUIRED


def _load_into(context: ssl.SSLContext, pair: Pair) -> None:
    """Load from memory: what was hashed is what is loaded, whatever the mount does meanwhile."""
    chain, key = _memory_file(pair.chain), _memory_file(pair.key)
    try:
        context.load_cert_chain(f"/proc/self/fd/{chain}", f"/proc/self/fd/{key}", _no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(
            "got a certificate and key that don't load, expected a PEM chain and its "
            f"unencrypted PEM key: {error}"
        ) from error
    finally:
        os.close(chain)
        os.close(key)


def _no_passphrase() -> str:
    # Without this OpenSSL would ask the terminal, and wait.
    raise ValueError("the key is encrypted")


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("trailgate", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor
