"""Certificates that strict verifiers take: Python's, OpenSSL's, and Go's in a real API server."""

import asyncio
import base64
import ssl
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from trailgate_kube.client import KubeClient
from trailgate_kube.errors import KubeError
from trailgate_kube.resources import VALIDATING_WEBHOOKS, Resource
from trailgate_operator.authority import (
    BACKDATE,
    Pair,
    PairError,
    bundle_pem,
    issue,
    issued_by,
    names_of,
    new_authority,
    read_bundle,
    read_key,
    service_names,
    valid,
)

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
NAMES = service_names("trailgate-webhook", "trailgate-system")


def authority(now=NOW):
    return new_authority(now, 365 * DAY)


def leaf(of, *names, now=NOW):
    return issue(of, names or NAMES, now, 30 * DAY)


async def handshake(tmp_path, pair, bundle, name):
    """One TLS connection as a strict client; raises ``ssl.SSLError`` where it refuses."""
    (tmp_path / "tls.crt").write_bytes(pair.certificate_pem)
    (tmp_path / "tls.key").write_bytes(pair.key_pem)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    async def answer(_, writer):
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving)
    async with server:
        context = ssl.create_default_context(cadata=bundle.decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
        _, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=context, server_hostname=name
        )
        writer.transport.abort()


@pytest.mark.parametrize("name", NAMES)
async def test_a_strict_client_takes_it_by_each_of_its_names(tmp_path, name):
    one = authority()
    await handshake(tmp_path, leaf(one), one.certificate_pem, name)


@pytest.mark.parametrize("order", [1, -1])
async def test_of_a_bundle_of_two_either_issuer_will_do(tmp_path, order):
    old, new = authority(), authority()
    bundle = bundle_pem([old.certificate, new.certificate][::order])
    for one in (old, new):
        await handshake(tmp_path, leaf(one), bundle, NAMES[0])


REFUSED = {
    "another name": (leaf, "trailgate-webhook.elsewhere.svc"),
    "another authority": (lambda one: leaf(authority()), NAMES[0]),
    "ended": (lambda one: leaf(one, now=NOW - 31 * DAY), NAMES[0]),
    "not begun": (lambda one: leaf(one, now=NOW + DAY), NAMES[0]),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_strict_client_refuses(tmp_path, name):
    made, asked = REFUSED[name]
    one = authority()
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tmp_path, made(one), one.certificate_pem, asked)


async def test_an_address_will_do_as_a_name(tmp_path):
    one = authority()
    await handshake(tmp_path, leaf(one, "10.0.0.1", "::1"), one.certificate_pem, "10.0.0.1")


def test_openssl_takes_it(tmp_path):
    one = authority()
    (tmp_path / "ca.crt").write_bytes(one.certificate_pem)
    (tmp_path / "tls.crt").write_bytes(leaf(one).certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver"]
    command += ["-verify_hostname", NAMES[0], "-CAfile", "ca.crt", "tls.crt"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30)


def test_an_authority_signs_certificates_and_a_leaf_doesn_t():
    one = authority()
    two = leaf(one)

    def extension(pair, kind):
        return pair.certificate.extensions.get_extension_for_class(kind)

    for pair, is_authority in ((one, True), (two, False)):
        assert extension(pair, x509.BasicConstraints).critical
        assert extension(pair, x509.BasicConstraints).value.ca is is_authority
        usage = extension(pair, x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign is is_authority
        assert usage.value.digital_signature is not is_authority
        assert isinstance(pair.certificate.public_key().curve, ec.SECP256R1)
    assert extension(one, x509.BasicConstraints).value.path_length == 0
    assert list(extension(two, x509.ExtendedKeyUsage).value) == [
        x509.ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert issued_by(two.certificate, one.certificate)
    assert not issued_by(two.certificate, authority().certificate)
    assert not issued_by(two.certificate, two.certificate)
    assert one.certificate.subject != authority().certificate.subject


def test_a_leaf_is_no_issuer_though_it_signed():
    one = authority()
    middle = leaf(one)
    below = issue(middle, NAMES, NOW, DAY)
    assert not issued_by(below.certificate, middle.certificate)


def test_it_begins_an_hour_early_and_a_leaf_ends_with_its_authority():
    one = authority(NOW - 350 * DAY)
    made = leaf(one)
    assert made.certificate.not_valid_after_utc == one.certificate.not_valid_after_utc
    assert abs(made.certificate.not_valid_before_utc - (NOW - BACKDATE)) < timedelta(seconds=1)
    assert valid(made.certificate, NOW - BACKDATE + timedelta(minutes=1))
    assert not valid(made.certificate, NOW - BACKDATE - timedelta(minutes=1))
    assert not valid(made.certificate, NOW + 16 * DAY)


def test_what_was_written_is_read():
    one, two = authority(), authority()
    pem = bundle_pem([one.certificate, two.certificate, one.certificate])
    assert read_bundle(pem) == (one.certificate, two.certificate)
    assert read_bundle(b" \n") == ()
    back = Pair.read(one.certificate_pem, one.key_pem)
    assert back.certificate == one.certificate
    assert names_of(leaf(one, "a.example", "10.0.0.1").certificate) == {"a.example", "10.0.0.1"}
    assert names_of(one.certificate) == frozenset()
    assert "key" not in repr(one).replace("key=", "")


def pem_of(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_what_is_no_pair_is_refused():
    one, two = authority(), authority()
    for certificate, key, text in (
        (one.certificate_pem, two.key_pem, "don't belong together"),
        (b"", one.key_pem, "got no certificate"),
        (b"what", one.key_pem, "can't be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", one.key_pem, "can't"),
        (one.certificate_pem * 400, one.key_pem, "expected at most"),
        (one.certificate_pem, b"what", "got no private key"),
        (one.certificate_pem, one.certificate_pem, "got no private key"),
        (one.certificate_pem, pem_of(ed25519.Ed25519PrivateKey.generate()), "expected an ECDSA"),
        (one.certificate_pem, pem_of(one.key, BestAvailableEncryption(b"x")), "got no private"),
    ):
        with pytest.raises(PairError, match=text):
            Pair.read(certificate, key)
    with pytest.raises(PairError):
        read_key(b"")


# Go: the API server itself


@asynccontextmanager
async def gate(tmp_path, pair):
    """Serve an answer that says no, with a text of its own, at https://localhost:PORT."""
    (tmp_path / "tls.crt").write_bytes(pair.certificate_pem)
    (tmp_path / "tls.key").write_bytes(pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    async def answer(request):
        uid = (await request.json())["request"]["uid"]
        response = {"uid": uid, "allowed": False, "status": {"message": "it was asked"}}
        kind = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return web.json_response(kind | {"response": response})

    application = web.Application()
    application.add_routes([web.post("/validate", answer)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def configuration(namespace, port, bundle):
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    return {
        "apiVersion": VALIDATING_WEBHOOKS.api_version,
        "kind": VALIDATING_WEBHOOKS.kind,
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "certificates.trailgate.dev",
                "clientConfig": {
                    "url": f"https://localhost:{port}/validate",
                    "caBundle": base64.b64encode(bundle).decode(),
                },
                "rules": [rule | {"resources": ["configmaps"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


BUNDLES = {
    "the issuer": (lambda old, new: [new], "it was asked"),
    "both, the issuer last": (lambda old, new: [old, new], "it was asked"),
    "another": (lambda old, new: [old], "x509: certificate signed by unknown authority"),
}


@pytest.mark.parametrize("name", BUNDLES)
async def test_the_api_server_takes_it_by_a_bundle_with(name, control_plane, namespace, tmp_path):
    old, new = authority(), authority()
    chosen, expected = BUNDLES[name]
    bundle = bundle_pem([one.certificate for one in chosen(old, new)])
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}}
    maps = Resource("", "v1", "configmaps", "ConfigMap")
    async with (
        gate(tmp_path, leaf(new, "localhost")) as port,
        await KubeClient.open(control_plane.admin.kubeconfig) as client,
    ):
        await client.create(VALIDATING_WEBHOOKS, configuration(namespace, port, bundle))
        try:
            answer = ""
            while not answer:  # until the API server knows of its webhook
                try:
                    await client.create(maps, body, namespace)
                except KubeError as error:
                    answer = str(error)
        finally:
            await client.delete(VALIDATING_WEBHOOKS, namespace)
    assert expected in answer
