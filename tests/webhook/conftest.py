import asyncio
import contextlib
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REVIEWS = HERE / "reviews"
sys.path.insert(0, str(ROOT / "tests" / "bench"))

from webhook_process import issue  # noqa: E402

from tests.webhook.world import World  # noqa: E402


def review(name, *, test=None, namespace=None, uid=None):
    """A recorded review; ``test`` is the label that tells ``Scripted`` what to do."""
    document = json.loads((REVIEWS / f"{name}.json").read_bytes())
    request = document["request"]
    for which in ("object", "oldObject"):
        if request[which] is not None and test is not None:
            request[which].setdefault("metadata", {}).setdefault("labels", {})["test"] = test
    if namespace is not None:
        request["namespace"] = namespace
    if uid is not None:
        request["uid"] = uid
    return document


async def until(condition, seconds=15):
    """Wait for a condition (a function, or a coroutine function) to hold."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(0.02)


class Running:
    """A server process and a client for it."""

    def __init__(self, process, port, certs, log):
        self.process, self.port, self.certs, self.log = process, port, certs, log
        self.url = f"https://localhost:{port}"

    def client(self, certificate=None):
        context = ssl.create_default_context(cafile=self.certs / "ca.crt")
        if certificate:
            context.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
        return aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(ssl=context))

    async def post(self, body, query="?timeout=10s", **kwargs):
        """(HTTP status, decoded JSON)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with (
            self.client() as client,
            client.post(f"/validate{query}", data=io.BytesIO(data), **kwargs) as got,
        ):
            answer = got.status, await got.json(content_type="application/json")
        await asyncio.sleep(0)  # a connection that was dropped is closed in the next round
        return answer

    async def get(self, path):
        async with self.client() as client, client.get(path) as got:
            return got.status, await got.text()

    async def metric(self, line):
        """The value of the series written exactly so, or None."""
        _, text = await self.get("/metrics")
        for row in text.splitlines():
            if row.startswith(line + " "):
                return float(row.rpartition(" ")[2])
        return None

    async def stop(self, seconds=20):
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, seconds)

    def log_text(self):
        return self.log.read_text()

    def log_lines(self):
        return [json.loads(line) for line in self.log_text().splitlines()]


@pytest.fixture
def certs(tmp_path):
    directory = tmp_path / "certs"
    directory.mkdir()
    issue(directory)
    return directory


@contextlib.contextmanager
def running(arguments, port_file, certs, log):
    path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube", "webhook", "."))
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, stderr=output, env=os.environ | {"PYTHONPATH": path}, cwd=ROOT
        )
    try:
        end = time.monotonic() + 20
        while not (port_file.exists() and port_file.read_text().endswith("\n")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield Running(process, int(port_file.read_text()), certs, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def start(tmp_path, certs):
    """Start the real server with the scripted assessor; options as ``serving.py`` says."""
    with contextlib.ExitStack() as stack:
        count = 0

        def begin(**options):
            nonlocal count
            count += 1
            port_file, log = tmp_path / f"port-{count}", tmp_path / f"log-{count}"
            options = {"certs": str(certs), "port_file": str(port_file)} | options
            arguments = [sys.executable, str(HERE / "serving.py"), json.dumps(options)]
            return stack.enter_context(running(arguments, port_file, certs, log))

        yield begin


async def ready(server):
    async def is_ready():
        return (await server.get("/readyz"))[0] == 200

    await until(is_ready)


@pytest.fixture
def world(tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    world = World(root)
    yield world
    if world.holding is not None:
        world.holding.close()


@pytest.fixture
def begin(world, tmp_path):
    """Start the real command; options as ``World.options`` takes them."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(**changes):
            nonlocal count
            count += 1
            port_file, log = tmp_path / f"port-{count}", tmp_path / f"log-{count}"
            arguments = world.options(port_file=port_file, **changes)
            return stack.enter_context(running(arguments, port_file, world.certs, log))

        yield start
