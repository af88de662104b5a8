"""The webhook's certificates: an authority, and leaves that it issues. Pure.

RFC 5280 with what strict verifiers ask for (OpenSSL's X509_STRICT, the default of
Python 3.13; Go's crypto/x509): ECDSA P-256 with SHA-256, version 3, critical basic constraints
and key usage, key identifiers in both, names in subjectAltName. Files are PEM, keys PKCS#8
without a passphrase (a Secret's rights guard them).
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trailgate.model.errors import MalformedError

BACKDATE = timedelta(hours=1)
"""A certificate begins so long before it is issued: the clocks of nodes differ."""
_MARK = 4
_MAX_BUNDLE = 256 * 1024


class PairError(MalformedError):
    """Bytes that are no certificate, no key, or not of one pair; the text never quotes a key."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Pair:
        """Read both (PEM; of several certificates the first); raises ``PairError``."""
        certificates = read_bundle(certificate)
        if not certificates:
            raise PairError("got no certificate, expected PEM")
        return cls(certificates[0], read_key(key)).checked()

    def checked(self) -> Pair:
        """Return itself; ``PairError`` where the halves don't belong together."""
        if _public(self.certificate.public_key()) != _public(self.key.public_key()):
            raise PairError("got a certificate and a key that don't belong together")
        return self

    @property
    def certificate_pem(self) -> bytes:
        """The certificate."""
        return bundle_pem([self.certificate])

    @property
    def key_pem(self) -> bytes:
        """The secret."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def new_authority(now: datetime, life: timedelta) -> Pair:
    """Make an authority whose name is its own, so that two are never taken for one another."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Trailgate webhook authority {secrets.token_hex(_MARK)}")
    certificate = (
        _begun(name, name, key.public_key(), now, now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_identifier(key.public_key()), critical=False)
        .add_extension(_issuer_identifier(_identifier(key.public_key())), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issue(authority: Pair, names: Sequence[str], now: datetime, life: timedelta) -> Pair:
    """Make a serving certificate for these DNS names and IP addresses.

    It ends with its authority at the latest.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    end = min(now + life, issuer.not_valid_after_utc)
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        _begun(_name("trailgate-webhook"), issuer.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
        .add_extension(_identifier(key.public_key()), critical=False)
        .add_extension(_issuer_identifier(identifier), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether an authority's key signed it; times are not looked at."""
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return _is_authority(authority)


def valid(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether ``now`` is within its time."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def names_of(leaf: x509.Certificate) -> frozenset[str]:
    """Return its DNS names and IP addresses, as text."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(
        str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)
    )


def service_names(name: str, namespace: str) -> tuple[str, ...]:
    """Return the names under which a Service is called inside of a cluster."""
    short = f"{name}.{namespace}.svc"
    return (short, f"{short}.cluster.local", f"{name}.{namespace}", name)


def read_bundle(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a PEM file, each once, in order; raises ``PairError``."""
    if len(pem) > _MAX_BUNDLE:
        raise PairError(f"got {len(pem)} bytes of certificates, expected at most {_MAX_BUNDLE}")
    if not pem.strip():
        return ()
    try:
        found = x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PairError(f"got certificates that can't be read: {error}") from error
    return tuple(dict.fromkeys(found))


def bundle_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write certificates one after the other."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key; raises ``PairError``."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PairError("got no private key, expected unencrypted PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PairError(f"got a {type(key).__name__}, expected an ECDSA key")
    return key


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return found.value.ca


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _issuer_identifier(of: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(of)


def _general(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(name) for name in names]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _public(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise PairError(f"got a certificate of a {type(key).__name__}, expected an ECDSA key")
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
