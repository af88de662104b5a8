"""The life of the process: start the parts, serve, notice changes, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trailgate.model.errors import TrailgateError
from trailgate_kube import logs
from trailgate_webhook.app import App
from trailgate_webhook.health import Health
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.server import Server
from trailgate_webhook.tls import ServingCertificate

#: Seconds between two looks at files; kubelet updates a mount about once a minute.
INTERVAL = 2.0


class Part(Protocol):
    """Something that runs beside the server."""

    async def start(self) -> None:
        """Begin; must not wait for anything outside of the process."""

    async def stop(self) -> None:
        """End in good order, within bounds of its own."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The sockets: reviews, and (where clients need a certificate) health apart."""

    main: socket.socket
    health: socket.socket | None = None


@dataclass(slots=True)
class Process:
    """All that is needed to serve."""

    app: App
    health: Health
    metrics: Metrics
    certificate: ServingCertificate
    listeners: Listeners
    drain_delay: float
    parts: tuple[Part, ...] = ()
    port_file: Path | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with AsyncExitStack() as stack:
            self.metrics.certificate_expiry.set(self.certificate.not_after.timestamp())
            for part in (Poll({"certificate": self._refresh_certificate}), *self.parts):
                await part.start()
                stack.push_async_callback(part.stop)
            await self._serve()

    async def _serve(self) -> None:
        servers = [(Server(self.app, self.certificate.context), self.listeners.main)]
        if self.listeners.health is not None:
            servers.append((Server(self.app.without_reviews(), None), self.listeners.health))
        running = [asyncio.create_task(server.run_on(where)) for server, where in servers]
        for server, _ in servers:
            await server.accepting.wait()
        self._announce()
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
        self.health.draining = True
        logs.write(logging.INFO, "draining", seconds=self.drain_delay)
        if stopping.done():
            # The API server goes on sending until it has noticed that we are not ready.
            await asyncio.sleep(self.drain_delay)
        stopping.cancel()
        for server, _ in servers:
            server.close()
        await asyncio.gather(*running)

    def _announce(self) -> None:
        host, port = self.listeners.main.getsockname()[:2]
        health = self.listeners.health
        logs.write(
            logging.INFO, "listening", host=host, port=port,
            health=None if health is None else health.getsockname()[1],
        )  # fmt: skip
        if self.port_file is not None:
            self.port_file.write_text(f"{port}\n")

    def _refresh_certificate(self) -> None:
        try:
            changed = self.certificate.refresh()
        except TrailgateError:
            self.metrics.certificate_reloads.labels("failed").inc()
            raise
        if changed:
            self.metrics.certificate_reloads.labels("loaded").inc()
            self.metrics.certificate_expiry.set(self.certificate.not_after.timestamp())
            logs.write(logging.INFO, "certificate loaded", notAfter=self.certificate.not_after)


class Poll:
    """Runs actions every few seconds: looking at files, mostly."""

    def __init__(self, actions: Mapping[str, Callable[[], object]]) -> None:
        self._actions = actions
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the first round comes after the first interval."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            for what, action in self._actions.items():
                attempt(what, action)


def attempt(what: str, action: Callable[[], object]) -> None:
    """Run one round of a background loop: an error is logged, the next round comes."""
    try:
        action()
    except TrailgateError as error:
        logs.write(logging.ERROR, f"{what}: not loaded, the last good one stays", detail=str(error))
    except Exception as error:  # noqa: BLE001 - a loop that dies would freeze its state unseen
        logs.failure(f"{what}: unexpected error", error)
