"""Probes and metrics by HTTP, in the recorder's own loop: a loop that hangs answers nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from trailgate_kube.metrics import CONTENT_TYPE
from trailgate_operator.configuration import Address, ConfigurationError
from trailgate_operator.metrics import Metrics

Check = Callable[[], str | None]
"""None when well; else one line that says what is missing, without personal data."""


class Health:
    """Ready while it records and no loop is kept from its work; checks come as the parts do."""

    def __init__(self) -> None:
        self.waiting_for = "starting"
        """What the start waits for, until there is a recorder to ask."""
        self.recorder: Check = lambda: self.waiting_for
        self.watch: Check = lambda: None
        """Shown, and decides nothing: without the watch it looks into the spool every 30 s."""
        self.loops: dict[str, Check] = {}
        """By the loop's name: what keeps it from its work. Decides too."""
        self.notes: dict[str, Check] = {}
        """By name: what is worth knowing, and decides nothing."""
        self.stopping: Callable[[], bool] = lambda: False

    def wait_for(self, what: str) -> None:
        """Take note of what keeps the start from going on."""
        self.waiting_for = what

    def ready(self) -> tuple[bool, str]:
        """(ready, a line per part)."""
        problems = {"recorder": self.recorder()}
        problems |= {name: check() for name, check in self.loops.items()}
        notes = {"watch": self.watch()} | {name: check() for name, check in self.notes.items()}
        lines = [f"{name}: {problem or 'ok'}" for name, problem in problems.items()]
        if self.stopping():
            lines.insert(0, "shutting down")
        lines += [f"{name}: {note}" for name, note in notes.items() if note]
        well = not any(problems.values()) and not self.stopping()
        return well, "\n".join(lines) + "\n"


@asynccontextmanager
async def served(address: Address, health: Health, metrics: Metrics) -> AsyncIterator[int]:
    """Serve ``/livez``, ``/readyz`` and ``/metrics``; gives the port. ``ConfigurationError``."""
    runner = web.AppRunner(application(health, metrics), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise ConfigurationError(f"--health-listen {address}: {error.strerror}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def application(health: Health, metrics: Metrics) -> web.Application:
    """Build the three paths; they answer GET and HEAD."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        ready, text = health.ready()
        return web.Response(status=200 if ready else 503, text=text)

    async def everything(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    made = web.Application()
    made.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", everything)]
    )
    return made
