"""The operator's loops beside the recorder: run together, each with a state of its own.

What passes by itself (an API server that restarts, a right that is missing yet, a full
disk) keeps one loop waiting and is shown; the others go on. An error that nobody
foresaw ends the process: a control that half works must not look as if it did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Protocol

from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.model.errors import TrailgateError
from trailgate_kube import logs
from trailgate_kube.errors import ConfigurationError, KubeError
from trailgate_operator.metrics import LoopMetrics

_EVERY = 30.0
_BACKOFF = (0.5, 10.0)
_LAST = 5.0
"""Seconds that what is under way gets after ``stop``."""


class WaitingError(TrailgateError):
    """Something that a pass needs isn't there yet; the text says what."""


class Loop(Protocol):
    """One of them."""

    @property
    def name(self) -> str:
        """A word: in health, metrics and logs."""
        ...

    def problem(self) -> str | None:
        """Say what keeps it from doing its work now; None when nothing does."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``. What passes by itself is waited out, the rest raises."""
        ...


class Routine:
    """A loop that repeats one pass: when woken, and every now and then without.

    ``once`` returns in how many seconds it wants to look again (None: 30). It may raise
    ``KubeError``, ``LedgerUnavailableError`` or ``WaitingError``: tried again after 0.5 s,
    later every 10 s, sooner when woken. Level-triggered: a pass reads what is, and
    being woken says only that it may be something else.
    """

    def __init__(
        self,
        name: str,
        once: Callable[[], Awaitable[float | None]],
        metrics: LoopMetrics,
        *,
        every: float = _EVERY,
        backoff: tuple[float, float] = _BACKOFF,
    ) -> None:
        self.name = name
        self._once, self._metrics = once, metrics
        self._every, self._backoff = every, backoff
        self._wake = asyncio.Event()
        self._problem: str | None = "has not looked yet"

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    def problem(self) -> str | None:
        """See ``Loop.problem``."""
        return self._problem

    async def run(self, stop: asyncio.Event) -> None:
        """See ``Loop.run``."""
        delay = self._backoff[0]
        while not stop.is_set():
            self._wake.clear()
            try:
                again = await self._once()
            except ConfigurationError:
                raise
            except (KubeError, LedgerUnavailableError, WaitingError) as error:
                self._failed(error, delay)
                await self._rest(stop, delay)
                delay = min(delay * 2, self._backoff[1])
            else:
                self._metrics.went_well(self.name)
                self._problem = None
                delay = self._backoff[0]
                await self._rest(stop, self._every if again is None else again)

    def _failed(self, error: TrailgateError, delay: float) -> None:
        self._metrics.failed(self.name, error)
        if str(error) != self._problem:  # once, and not at every attempt
            level = logging.INFO if isinstance(error, WaitingError) else logging.WARNING
            logs.write(level, "a loop waits", loop=self.name, detail=str(error), seconds=delay)
        self._problem = str(error)

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(one.wait()) for one in (stop, self._wake)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class Follower:
    """A loop around something that runs until it is cancelled, such as a ``Mirror``."""

    def __init__(self, name: str, follow: Callable[[], Coroutine[None, None, None]]) -> None:
        self.name, self._follow = name, follow

    def problem(self) -> str | None:
        """See ``Loop.problem``: whoever needs what it brings says so."""
        return None

    async def run(self, stop: asyncio.Event) -> None:
        """See ``Loop.run``."""
        following = asyncio.create_task(self._follow())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            for task in (following, stopped):
                task.cancel()
            await asyncio.gather(following, stopped, return_exceptions=True)


async def run_all(loops: Sequence[Loop], stop: asyncio.Event) -> None:
    """Run them until ``stop``; the first error of one ends all, and is raised."""
    tasks = {asyncio.create_task(loop.run(stop), name=loop.name) for loop in loops}
    stopped = asyncio.create_task(stop.wait())
    try:
        running = set(tasks)
        while running and not stopped.done():
            done, _ = await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done & running:
                task.result()
            running -= done
        await stopped
        if running:
            done, _ = await asyncio.wait(running, timeout=_LAST)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        stopped.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
