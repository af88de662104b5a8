"""HTTPS is checked: who signed the certificate, and for which name."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.core.oci.peers import app
from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci.client import RegistryClient
from trailgate.oci.errors import UnavailableError
from trailgate.oci.guard import Guard

BLOB = b"content"


def _certificate(folder: Path, address: str) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "registry.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context, path


async def _answer(_: web.Request) -> web.Response:
    return web.Response(body=BLOB)


async def _fetch(address: str, tls: ssl.SSLContext | None) -> bytes:
    guard = Guard(named=lambda: {address}, private=frozenset({"127.0.0.1"}))
    async with RegistryClient(guard, tls=tls) as client:
        return await client.blob(ImageReference(address, "acme/web"), Digest.of(BLOB), 100)


async def test_a_private_authority_counts_only_where_it_is_given(tmp_path: Path) -> None:
    server, path = _certificate(tmp_path, "127.0.0.1")
    async with app(_answer, server) as peer:
        trusted = ssl.create_default_context(cafile=str(path))
        assert await _fetch(peer.address, trusted) == BLOB
        with pytest.raises(UnavailableError, match="TLS certificate: self"):
            await _fetch(peer.address, None)
        assert len(peer.seen) == 1


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    server, path = _certificate(tmp_path, "127.0.0.2")
    async with app(_answer, server) as peer:
        with pytest.raises(UnavailableError, match="TLS certificate: IP address mismatch"):
            await _fetch(peer.address, ssl.create_default_context(cafile=str(path)))
        assert peer.seen == []
