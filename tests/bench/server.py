# ruff: noqa: T201, PLR0917
"""Which HTTP server? The same typed allow-all handler on each candidate, over TLS.

    python tests/bench/server.py [--rounds 3] [--seconds 4]

Candidates alternate, medians and ranges are printed, load comes from another process
on the same cores. Then the certificate is changed under load, with a new connection
for each request: failed requests, and whether the process (its caches) survived.
The decision is in docs/adr/0004-web-server.md. Candidates that are not installed
are left out and named.
"""

import argparse
import asyncio
import importlib.util
import os
import signal
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
for part in ("core", "kube", "webhook"):
    sys.path.insert(0, str(ROOT / part))

import webhook_process as bench  # noqa: E402

CANDIDATES = {
    "granian-rsgi": "granian",
    "granian-asgi": "granian",
    "uvicorn": "uvicorn",
    "aiohttp": "aiohttp",
}
BOOT = os.urandom(4).hex()


def answer(body):
    """Decode with types and allow: the least that an admission endpoint does."""
    from trailgate_webhook.review import Answer, encode, read

    request = read(body)
    return encode(Answer(request.uid, allowed=True, annotations={"boot": BOOT}))


async def rsgi(scope, protocol):
    body = answer(await protocol())
    protocol.response_bytes(200, [("content-type", "application/json")], body)


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = answer(b"".join(chunks))
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def serve_granian(interface, port, certs):
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops

    Granian(
        f"server:{interface}",
        address="127.0.0.1",
        port=port,
        interface=Interfaces(interface),
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        ssl_cert=certs / "tls.crt",
        ssl_key=certs / "tls.key",
        log_enabled=False,
    ).serve()


async def reload_on_hangup(context, certs):
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(
        signal.SIGHUP, lambda: context.load_cert_chain(certs / "tls.crt", certs / "tls.key")
    )


def server_context(certs):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "tls.crt", certs / "tls.key")
    return context


def serve_uvicorn(port, certs):
    import uvicorn
    import uvloop

    context = server_context(certs)
    config = uvicorn.Config(
        asgi, host="127.0.0.1", port=port, http="httptools", ws="none", lifespan="off",
        access_log=False, log_config=None, server_header=False, date_header=False,
        proxy_headers=False, timeout_keep_alive=75, timeout_graceful_shutdown=10,
        ssl_context_factory=lambda _config, _default: context,
    )  # fmt: skip

    async def main():
        await reload_on_hangup(context, certs)
        await uvicorn.Server(config).serve()

    uvloop.run(main())


def serve_aiohttp(port, certs):
    import uvloop
    from aiohttp import web

    context = server_context(certs)

    async def handle(request):
        body = answer(await request.read())
        return web.Response(body=body, content_type="application/json")

    async def main():
        await reload_on_hangup(context, certs)
        server = web.Server(handle, access_log=None, keepalive_timeout=75)
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, done.set)
        listener = await loop.create_server(server, "127.0.0.1", port, ssl=context)
        await done.wait()
        listener.close()
        await server.shutdown(10)

    uvloop.run(main())


def serve(name, port, certs):
    os.chdir(HERE)
    if name == "granian-rsgi":
        serve_granian("rsgi", port, certs)
    elif name == "granian-asgi":
        serve_granian("asgi", port, certs)
    elif name == "uvicorn":
        serve_uvicorn(port, certs)
    else:
        serve_aiohttp(port, certs)


def start(name, certs):
    port = bench.free_port()
    arguments = [
        sys.executable,
        __file__,
        "--serve",
        name,
        "--port",
        str(port),
        "--certs",
        str(certs),
    ]
    return port, bench.process(
        arguments,
        port,
        {"PYTHONPATH": f"{HERE}:" + ":".join(str(ROOT / p) for p in ("core", "kube", "webhook"))},
    )


def contest(names, certs, bodies, rounds, seconds, connections):
    samples = {name: [] for name in names}
    memory = {}
    for round_number in range(rounds):
        for name in names if round_number % 2 == 0 else names[::-1]:
            port, context = start(name, certs)
            with context as running:
                bench.measure(running.pid, port, certs / "ca.crt", bodies, connections, 1)
                samples[name].append(
                    bench.measure(running.pid, port, certs / "ca.crt", bodies, connections, seconds)
                )
                memory[name] = bench.resident_mib(running.pid)
    return samples, memory


def spread(values, digits):
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


async def rotation(port, pid, certs, body, seconds):
    """New connection per request while the pair changes twice; (failed, sent, boots seen)."""
    trusted = certs / "trusted.crt"
    trusted.write_bytes((certs / "ca.crt").read_bytes())
    failed = sent = 0
    boots = set()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    end = time.monotonic() + seconds

    async def client():
        nonlocal failed, sent
        head = f"POST /validate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        while time.monotonic() < end:
            sent += 1
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(head.encode() + body)
                got = await asyncio.wait_for(reader.read(), 5)
                boots.add(got[got.index(b'"boot"') :][:18])
                writer.close()
                await writer.wait_closed()
            except (OSError, ValueError, TimeoutError, ssl.SSLError):
                failed += 1

    async def rotate():
        for _ in range(2):
            await asyncio.sleep(seconds / 3)
            bench.issue(certs)
            os.kill(pid, signal.SIGHUP)

    await asyncio.gather(rotate(), *(client() for _ in range(3)))
    return failed, sent, len(boots)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    parser.add_argument("--port", type=int)
    parser.add_argument("--certs", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port, options.certs)
        return
    names = [n for n, module in CANDIDATES.items() if importlib.util.find_spec(module)]
    missing = sorted(set(CANDIDATES) - set(names))
    with tempfile.TemporaryDirectory() as directory:
        certs = Path(directory)
        bench.issue(certs)
        review = ROOT / "tests/webhook/reviews/create-pod-child.json"
        compact = bench.compact(review)
        bodies = certs / "bodies"
        bodies.write_bytes(compact + b"\n")
        print(
            f"{len(compact)} byte review, TLS 1.3, {options.rounds} alternating rounds of {options.seconds} s"
        )
        samples, memory = contest(names, certs, bodies, options.rounds, options.seconds, 16)
        rows = []
        for name in names:
            port, context = start(name, certs)
            with context as running:
                failed, sent, boots = asyncio.run(rotation(port, running.pid, certs, compact, 3))
            runs = samples[name]
            rows.append(
                (
                    name,
                    spread([s.per_second for s in runs], 0),
                    spread([s.p50 for s in runs], 2),
                    spread([s.p99 for s in runs], 2),
                    spread([s.cpu for s in runs], 3),
                    f"{memory[name]:.0f}",
                    f"{failed} / {sent}",
                    "kept" if boots == 1 else f"lost ({boots} processes)",
                )
            )
        bench.table(
            ("server", "requests/s", "p50 ms", "p99 ms", "CPU s per 1,000", "RSS MiB",
             "failed in rotation", "caches"),
            rows,
        )  # fmt: skip
        if missing:
            print("not installed, left out:", ", ".join(missing))


if __name__ == "__main__":
    main()
