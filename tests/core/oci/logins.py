"""CNCF Distribution 2.8 behind a login: basic authentication, and a token server of ours."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from e2e.controlplane import ports
from e2e.controlplane.process import Process
from tests.core.oci.peers import App, app
from trailgate.oci.credentials import DockerConfig

USER, PASSWORD = "robot", "correct horse"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# bcrypt of PASSWORD, cost 4.
_HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n"
_SERVICE, _ISSUER = "registry.test", "tokens.test"


def config(host: str, password: str = PASSWORD) -> bytes:
    """A ``config.json`` with an entry for one registry."""
    return json.dumps({"auths": {host: {"username": USER, "password": password}}}).encode()


def credentials(host: str, password: str = PASSWORD) -> DockerConfig:
    return DockerConfig.parse(config(host, password), "config.json")


@contextlib.contextmanager
def basic_registry(folder: Path) -> Iterator[str]:
    """A registry that wants user and password; yields ``HOST:PORT``."""
    (folder / "htpasswd").write_text(_HTPASSWD)
    with _distribution(folder, f"htpasswd: {{realm: test, path: {folder}/htpasswd}}") as address:
        yield address


@contextlib.asynccontextmanager
async def token_registry(folder: Path) -> AsyncIterator[tuple[str, App]]:
    """A registry that wants tokens, and the server that issues them for the same login."""
    issuer = _Issuer()
    (folder / "issuer.crt").write_bytes(issuer.certificate.public_bytes(_PEM))
    async with app(issuer.answer) as tokens:
        auth = (
            f"token: {{realm: 'http://{tokens.address}/token', service: {_SERVICE}, "
            f"issuer: {_ISSUER}, rootcertbundle: {folder}/issuer.crt}}"
        )
        with _distribution(folder, auth) as address:
            yield address, tokens


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def _distribution(folder: Path, auth: str) -> Iterator[str]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry isn't installed (Debian: apt-get install docker-registry)")
    (port,) = ports.free(1)
    path = folder / "config.yml"
    path.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\nauth:\n  {auth}\n"
    )
    process = Process.start("docker-registry", [Path(program), "serve", str(path)], folder / "log")
    try:
        process.wait_ready(lambda: listens(port), 20)
        yield f"127.0.0.1:{port}"
    finally:
        process.stop()


_PEM = serialization.Encoding.PEM


@dataclass
class _Issuer:
    """Issues what https://distribution.github.io/distribution/spec/auth/jwt/ describes."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ISSUER)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .sign(self.key, hashes.SHA256())
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        offered = request.headers.get("Authorization")
        if offered not in (None, BASIC):
            return web.json_response({"errors": []}, status=401)
        access = [] if offered is None else [_granted(request.query.getone("scope"))]
        return web.json_response({"token": self._token(access), "expires_in": 300})

    def _token(self, access: list[dict[str, object]]) -> str:
        now = int(time.time())
        chain = self.certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(chain).decode()]}
        claims = {
            "iss": _ISSUER, "sub": USER, "aud": _SERVICE, "exp": now + 300, "nbf": now - 5,
            "iat": now, "jti": uuid.uuid4().hex, "access": access,
        }  # fmt: skip
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
        der = self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _granted(scope: str) -> dict[str, object]:
    kind, name, actions = scope.split(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
