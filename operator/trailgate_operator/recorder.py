"""The recorder: moves what the gate spooled into the ledger, and only then deletes it.

Level-triggered: an event on an Admission only wakes it up; what there is to do is what
a list of the spool says. It may be killed at any point. Between append and deletion
the batch is found again and recognised by its number; before the append nothing
has happened yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from trailgate.ledger.chain import Last
from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.ledger.known import size_of, write_known
from trailgate.ledger.record import commit, encode
from trailgate.ledger.store import Entry, LedgerStore
from trailgate.ledger.taken import POSITION, claim_key
from trailgate_kube import logs
from trailgate_kube.errors import GoneError, KubeError
from trailgate_kube.spool import AdmissionReader, Stored
from trailgate_operator.intake import Desk, Intake, View, take
from trailgate_operator.metrics import Metrics
from trailgate_operator.returns import ImageHistory
from trailgate_operator.trail import Statement

_IDLE = 30.0
"""Seconds until the spool is listed again without being told to."""
_BACKOFF = (0.5, 10.0)
_DELETIONS = 8


def _now() -> datetime:
    return datetime.now(UTC)


class Recorder:
    """The one task that appends to the ledger. ``wake`` it, or it looks by itself."""

    def __init__(
        self,
        spool: AdmissionReader,
        store: LedgerStore,
        desk: Desk,
        history: ImageHistory,
        metrics: Metrics,
        *,
        known: Path | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._spool, self._store, self._desk = spool, store, desk
        self._history, self._metrics, self._known = history, metrics, known
        self._clock = clock
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        """Held from counting on an index until the entries are in: one append at a time."""
        self._size = size_of(store)
        self._last = {
            name.removeprefix(POSITION): Last.from_bytes(content)
            for name, content in store.positions().items()
            if name.startswith(POSITION)
        }
        self._kept: int | None = None
        """Size of the ledger that the known checkpoint is about, as far as we know."""
        self._left: dict[str, str] = {}
        self._problem: str | None = "the spool was not read yet"
        self.emptied: datetime | None = None
        """What was in the spool then stands in the ledger, as far as it ever will."""
        self.followers: list[Callable[[int, bytes], None]] = []
        """Told of each new entry, once it is durable: its index and its record."""
        self.waiting: int | None = None
        """Admissions in the spool at the last look."""
        self.looked = asyncio.Event()
        """Set once the spool was read for the first time: its kind is there."""

    def wake(self) -> None:
        """Something may have come into the spool."""
        self._wake.set()

    @property
    def size(self) -> int:
        """Entries in the ledger."""
        return self._size

    def problem(self) -> str | None:
        """Say what keeps it from recording now; None when nothing does."""
        return self._problem

    async def run(self, stop: asyncio.Event) -> None:
        """Record until ``stop``; what can be waited out is waited out, the rest raises.

        ``LedgerCorruptError`` and ``LedgerRolledBackError`` end it: a ledger that
        contradicts itself must not be written on.
        """
        delay = _BACKOFF[0]
        while not stop.is_set():
            self._wake.clear()
            try:
                await self.drain(stop)
            except (KubeError, LedgerUnavailableError) as error:
                self._metrics.stuck.set(1)
                self._metrics.failures.labels(cause=type(error).__name__).inc()
                self._problem = str(error)
                logs.write(
                    logging.WARNING, "recording failed; trying again", detail=str(error),
                    seconds=delay,
                )  # fmt: skip
                await self._rest(stop, delay, woken=False)
                delay = min(delay * 2, _BACKOFF[1])
            else:
                self._metrics.stuck.set(0)
                self._problem = None
                delay = _BACKOFF[0]
                await self._rest(stop, _IDLE)

    async def _rest(self, stop: asyncio.Event, seconds: float, *, woken: bool = True) -> None:
        """Sleep until stopped, ``seconds`` have passed, or (where it may be) woken."""
        waits = [asyncio.ensure_future(stop.wait())]
        if woken:
            waits.append(asyncio.ensure_future(self._wake.wait()))
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def drain(self, stop: asyncio.Event | None = None) -> int:
        """Record everything in the spool; returns how many entries that made.

        What can't be deleted does not keep what comes after it from being recorded: the
        first such error is raised at the end. With ``stop`` set it ends after a page.
        """
        made = 0
        began = self._clock()
        created: list[str] = []
        left: dict[str, str] = {}
        held: dict[str, int] = {}
        failed: KubeError | None = None
        try:
            async with aclosing(self._spool.pages()) as pages:
                async for page in pages:
                    created += [one.created for one in page]
                    intake, new = await self._record(page, held)
                    made += new
                    if failed is None:
                        failed = await self._remove(intake.remove)
                    left |= intake.left
                    held = intake.held
                    if stop is not None and stop.is_set():
                        return made
            self.looked.set()
            if not held:  # what else stays is told, and nothing more will be recorded of it
                self.emptied = began
        except GoneError:
            self._wake.set()  # the list took too long: begin again
            left = self._left | left  # of the pages after it nothing is known
        self._tell(left)
        oldest = min(filter(None, created), default="")
        self.waiting = len(created)
        self._metrics.looked(len(created), oldest, len(left), self._clock())
        async with self._writing:
            await self._keep_known()  # of what was told, too
        if failed is not None:
            raise failed
        return made

    def _tell(self, left: dict[str, str]) -> None:
        """Log what stays in the spool, once and not at every look."""
        for name, why in left.items():
            if self._left.get(name) != why:
                logs.write(logging.ERROR, "Admission stays in the spool", name=name, detail=why)
        self._left = left

    async def _record(self, page: Sequence[Stored], held: Mapping[str, int]) -> tuple[Intake, int]:
        """Make a page's claims durable, in the ledger and for the known checkpoint."""
        async with self._writing:
            return await self._record_alone(page, held)

    async def _record_alone(
        self, page: Sequence[Stored], held: Mapping[str, int]
    ) -> tuple[Intake, int]:
        history = self._history.ahead()
        view = View(self._clock(), self._size, history, held)
        # Seconds of cryptography, where a page is full: in a thread, and one at a time.
        intake = await asyncio.to_thread(take, page, self._last, self._desk, view)
        before = dict(self._last)
        new = await self._append(intake)
        history.keep()  # durable: whatever fails from here on
        await asyncio.to_thread(self._keep_unrecorded, intake, before)
        await self._keep_known()
        return intake, len(new)

    async def tell(self, statements: Sequence[Statement]) -> frozenset[str]:
        """Make durable what a loop has to say; each key once. See ``trail.Tell``."""
        if not statements:
            return frozenset()
        async with self._writing:
            entries = await asyncio.to_thread(self._entries, statements)
            new = await self._append(Intake(entries=entries))
            try:
                await self._keep_known()
            except LedgerUnavailableError as error:
                # They are durable: said again under other keys, they would be there twice.
                logs.write(logging.WARNING, "told, but not yet known outside", detail=str(error))
                self.wake()
        return frozenset(entry.key for entry in new)

    def _entries(self, statements: Sequence[Statement]) -> list[Entry]:
        now = self._clock()
        entries: dict[str, Entry] = {}
        for one in statements:
            record, rows = commit(one.claim, self._desk.vault, recorded_at=now, position=None)
            entries.setdefault(one.key, Entry(encode(record), one.key, rows))
        return list(entries.values())

    def _keep_unrecorded(self, intake: Intake, before: Mapping[str, Last]) -> None:
        """Let no batch go for its number alone: one that was taken before has left entries."""
        for one in list(intake.remove):
            boot, _, number = one.name.rpartition("-")
            last, seq = before.get(boot), int(number)
            taken_before = last is not None and seq <= last.seq
            if taken_before and self._store.find(claim_key(boot, seq, 0)) is None:
                intake.remove.remove(one)
                intake.left[one.name] = "later ones were recorded, and the ledger has none of it"

    async def _append(self, intake: Intake) -> list[Entry]:
        """Append durably; returns the entries that are new."""
        entries = [*intake.entries, *intake.told]
        if not entries:
            return []
        positions = {f"{POSITION}{boot}": at.to_bytes() for boot, at in intake.last.items()}
        started = time.monotonic()
        indices = await asyncio.wrap_future(self._store.submit(entries, positions=positions))
        fresh = {at: e for e, at in zip(entries, indices, strict=True) if at >= self._size}
        new = list(fresh.values())
        self._last.update(intake.last)
        self._size += len(new)
        self._metrics.appended(new, self._size, time.monotonic() - started)
        for at, entry in fresh.items():
            self._history.forget(entry.record)
            for follower in self.followers:
                follower(at, entry.record)
        return new

    async def _keep_known(self) -> None:
        """Keep the newest checkpoint outside of the ledger, before anything is deleted.

        Not only after an append: the one before may have been the last thing that a
        recorder did before it was killed.
        """
        if self._known is None or self._kept == self._size:
            return
        await asyncio.to_thread(write_known, self._known, self._store.checkpoint())
        self._kept = self._size

    async def _remove(self, stored: Sequence[Stored]) -> KubeError | None:
        """Delete what is durable now; what can't be deleted is recognised the next time.

        Returns the first error of the API server's; others are raised.
        """
        limit = asyncio.Semaphore(_DELETIONS)

        async def remove(one: Stored) -> None:
            async with limit:
                await self._spool.remove(one)
                self._metrics.batches.inc()

        results = await asyncio.gather(*map(remove, stored), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in errors:
            if not isinstance(error, KubeError):
                raise error
        return next((error for error in errors if isinstance(error, KubeError)), None)
