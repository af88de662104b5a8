"""kopf's watch in a thread and an event loop of its own, started again when it fails.

kopf believes that the loop it runs in is its own: at its end it cancels every task
there, and it takes the signals of its thread. Apart from the recorder, its end (the
credential expired, the kind was not there yet) costs a wake-up and nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import kopf

from trailgate_kube import logs
from trailgate_operator import handlers

_BACKOFF = (1.0, 30.0)
_NAME: Any = "trailgate-operator"
"""Typed by kopf with a type that it doesn't export."""
_STEADY = 60.0
"""Seconds after which a watch that ends counts as one that worked."""


class Lookout:
    """Calls ``seen``, in a thread of its own, whenever something came into the spool."""

    def __init__(
        self,
        namespace: str,
        seen: Callable[[], None],
        *,
        backoff: tuple[float, float] = _BACKOFF,
    ) -> None:
        self._namespace, self._seen = namespace, seen
        self._backoff = backoff
        self._stopping = threading.Event()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._problem: str | None = "not started yet"
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def problem(self) -> str | None:
        """Say why nobody watches now; None while kopf does."""
        return self._problem

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; ``join`` waits for that."""
        self._stopping.set()
        running = self._running
        if running is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just been closed
                running[0].call_soon_threadsafe(running[1].set)

    def join(self, seconds: float) -> None:
        """Wait for the end, at most so long: nothing is lost where it is cut off."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        pause = self._backoff[0]
        while not self._stopping.is_set():
            started = time.monotonic()
            self._problem = None
            try:
                asyncio.run(self._watch())
                why = "it ended by itself"
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  whatever kopf meets
                why = f"{type(error).__name__}: {error}"
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _STEADY:
                pause = self._backoff[0]
            self._problem = f"kopf stopped watching ({why})"
            logs.write(
                logging.WARNING, "kopf stopped watching; starting it again", detail=why,
                seconds=pause,
            )  # fmt: skip
            self._stopping.wait(pause)
            pause = min(pause * 2, self._backoff[1])

    async def _watch(self) -> None:
        stop = asyncio.Event()
        self._running = (asyncio.get_running_loop(), stop)
        if self._stopping.is_set():  # asked before there was anything to ask
            return
        await kopf.operator(
            registry=handlers.registry(self._seen),
            namespaces=[self._namespace],
            standalone=True,
            # It peers with nobody. Left to itself kopf asks for our user's name, and a
            # container's has none.
            identity=_NAME,
            stop_flag=stop,
        )
