"""A closed-loop HTTPS load generator, in a process of its own, for the admission benchmarks.

Each connection sends one request, waits for its answer and sends the next. It prints
one JSON object: requests, failures, seconds, latencies in milliseconds, answers allowed.
It does as little as it can per answer, because it shares the machine with the server.
"""

import argparse
import asyncio
import itertools
import json
import ssl
import sys
import time
from pathlib import Path

import uvloop


class Connection(asyncio.Protocol):
    """One keep-alive connection: counts its answers until the time is up."""

    def __init__(self, load):
        self.load = load
        self.buffer = b""
        self.sent = 0.0
        self.transport = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        if time.perf_counter() >= self.load.until or (request := self.load.next()) is None:
            self.transport.close()
            return
        self.sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data):
        self.buffer = self.buffer + data if self.buffer else data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = self.buffer[:head].lower()
        start = headers.index(b"content-length:") + 15
        length = int(headers[start:].split(b"\r\n", 1)[0])
        if len(self.buffer) < head + 4 + length:
            return
        self.load.answered(time.perf_counter() - self.sent, self.buffer)
        self.buffer = b""
        self.send()

    def connection_lost(self, exc):
        if exc is not None or self.buffer:
            self.load.failed += 1
        if not self.closed.done():
            self.closed.set_result(None)


class Load:
    def __init__(self, requests, seconds, once):
        self.requests = iter(requests) if once else itertools.cycle(requests)
        self.latencies = []
        self.failed = 0
        self.allowed = 0
        self.not_ok = 0
        self.until = time.perf_counter() + seconds

    def next(self):
        return next(self.requests, None)

    def answered(self, seconds, answer):
        self.latencies.append(seconds)
        if not answer.startswith(b"HTTP/1.1 200"):
            self.not_ok += 1
        if b'"allowed":true' in answer:
            self.allowed += 1


def quantile(ordered, q):
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1000 if ordered else None


async def run(options, requests):
    context = ssl.create_default_context(cafile=options.ca)
    load = Load(requests, options.seconds, options.once)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = await asyncio.gather(
        *(
            loop.create_connection(
                lambda: Connection(load),
                "127.0.0.1",
                options.port,
                ssl=context,
                server_hostname="localhost",
            )
            for _ in range(options.connections)
        )
    )
    await asyncio.gather(*(protocol.closed for _, protocol in made))
    seconds = time.perf_counter() - started
    ordered = sorted(load.latencies)
    return {
        "requests": len(ordered),
        "seconds": seconds,
        "per_second": len(ordered) / seconds,
        "p50_ms": quantile(ordered, 0.5),
        "p99_ms": quantile(ordered, 0.99),
        "failed": load.failed,
        "not_ok": load.not_ok,
        "allowed": load.allowed,
    }


def frame(path, body):
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: kube-apiserver-admission\r\n"
        f"Accept: application/json, */*\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--bodies", required=True, help="one request body a line")
    parser.add_argument("--path", default="/validate?timeout=10s")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--once", action="store_true", help="send each body once, then stop")
    options = parser.parse_args()
    bodies = Path(options.bodies).read_bytes().splitlines()
    requests = [frame(options.path, body) for body in bodies if body]
    json.dump(uvloop.run(run(options, requests)), sys.stdout)


if __name__ == "__main__":
    main()
