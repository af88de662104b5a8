"""The serving certificate: changed under load, broken, encrypted; client certificates."""

import asyncio
import ssl

import pytest
from cryptography.hazmat.primitives import serialization

from tests.bench.webhook_process import issue
from tests.webhook.conftest import review, until
from trailgate_webhook.tls import CertificateError, ServingCertificate


def presented(port):
    return ssl.get_server_certificate(("127.0.0.1", port))


async def test_no_request_fails_while_the_certificate_changes_under_load(start, certs):
    server = start()
    old = (certs / "ca.crt").read_bytes()
    stop = asyncio.Event()
    answered = [0, 0]

    async def keep_alive():
        context = ssl.create_default_context(cadata=old.decode())
        import aiohttp

        async with aiohttp.ClientSession(
            server.url, connector=aiohttp.TCPConnector(ssl=context)
        ) as client:
            while not stop.is_set():
                async with client.post("/validate", json=review("create-pod-child")) as got:
                    assert (await got.json())["response"]["allowed"] is True
                answered[0] += 1

    async def reconnecting():
        import aiohttp

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        while not stop.is_set():
            connector = aiohttp.TCPConnector(ssl=context, force_close=True)
            async with (
                aiohttp.ClientSession(server.url, connector=connector) as client,
                client.post("/validate", json=review("create-pod-child")) as got,
            ):
                assert (await got.json())["response"]["allowed"] is True
            answered[1] += 1

    clients = [asyncio.create_task(client()) for client in (keep_alive, reconnecting, reconnecting)]
    before = await asyncio.to_thread(presented, server.port)
    assert before.encode() == old
    issue(certs)

    async def new_one():
        return (await asyncio.to_thread(presented, server.port)).encode() != old

    await until(new_one)
    stop.set()
    await asyncio.gather(*clients)
    assert min(answered) > 20
    assert await server.metric('trailgate_certificate_reloads_total{result="loaded"}') == 1
    assert server.process.poll() is None


async def test_a_broken_pair_keeps_the_old_one_in_service(start, certs):
    server = start()
    good = {name: (certs / name).read_bytes() for name in ("tls.crt", "tls.key")}
    issue(certs)  # certificate and key of different pairs
    (certs / "tls.key").write_bytes(good["tls.key"])
    (certs / "ca.crt").write_bytes(good["tls.crt"])

    async def failed():
        found = await server.metric('trailgate_certificate_reloads_total{result="failed"}')
        return bool(found)

    await until(failed)
    status, _ = await server.post(review("create-deployment"))
    assert status == 200
    assert any(line["event"].startswith("certificate: not loaded") for line in server.log_lines())


async def test_with_a_client_authority_only_its_certificates_may_ask(start, certs, tmp_path):
    clients = tmp_path / "clients"
    clients.mkdir()
    issue(clients, "kube-apiserver")
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    issue(strangers, "stranger")
    server = start(client_ca=str(clients / "ca.crt"), health="127.0.0.1:0")
    import aiohttp

    async with (
        server.client(clients) as client,
        client.post("/validate", json=review("create-deployment")) as got,
    ):
        assert got.status == 200
    for certificate in (None, strangers):
        with pytest.raises(aiohttp.ClientError):
            async with (
                server.client(certificate) as client,
                client.post("/validate", json=review("create-deployment")) as got,
            ):
                await got.read()
    health = next(line["health"] for line in server.log_lines() if line["event"] == "listening")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{health}") as client:
        async with client.get("/livez") as got:
            assert got.status == 200
        async with client.post("/validate", json=review("create-deployment")) as got:
            assert got.status == 404


async def test_tls_1_1_is_refused(start):
    server = start()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    for end in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            setattr(context, end, ssl.TLSVersion.TLSv1_1)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection("127.0.0.1", server.port, ssl=context)


def test_an_unchanged_pair_is_not_loaded_again(certs):
    pair = ServingCertificate(certs / "tls.crt", certs / "tls.key")
    assert pair.refresh() is False
    for name in ("tls.crt", "tls.key"):
        content = (certs / name).read_bytes()
        (certs / name).unlink()
        (certs / name).write_bytes(content)
    assert pair.refresh() is False
    before = pair.not_after
    issue(certs)
    assert pair.refresh() is True
    assert pair.not_after >= before


def encrypted(certs):
    key = serialization.load_pem_private_key((certs / "tls.key").read_bytes(), None)
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (certs / "tls.key").write_bytes(content)


BREAK = {
    "no certificate": (lambda certs: (certs / "tls.crt").unlink(), "can't read"),
    "no key": (lambda certs: (certs / "tls.key").unlink(), "can't read"),
    "not PEM": (lambda certs: (certs / "tls.crt").write_bytes(b"hello"), "don't load"),
    "empty key": (lambda certs: (certs / "tls.key").write_bytes(b""), "don't load"),
    "encrypted key": (encrypted, "don't load"),
}


@pytest.mark.parametrize("name", BREAK)
def test_what_can_t_be_served_is_a_certificate_error_and_heals(certs, name):
    damage, text = BREAK[name]
    pair = ServingCertificate(certs / "tls.crt", certs / "tls.key")
    issue(certs)
    damage(certs)
    with pytest.raises(CertificateError, match=text):
        pair.refresh()
    with pytest.raises(CertificateError, match=text):
        ServingCertificate(certs / "tls.crt", certs / "tls.key")
    issue(certs)
    assert pair.refresh() is True


def test_a_client_authority_that_isn_t_one_is_a_certificate_error(certs):
    for path in (certs / "absent", certs / "tls.key"):
        with pytest.raises(CertificateError, match="client authority"):
            ServingCertificate(certs / "tls.crt", certs / "tls.key", path)
