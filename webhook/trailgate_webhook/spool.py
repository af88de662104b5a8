"""Write-ahead of evidence: one task numbers, chains and writes the batches of this process.

A batch holds whatever claims queued while the one before it was being written: no
waiting for a fuller one, no second write at the same time. A number is used up only
by a batch that is there; a write that may or may not have happened is repeated, same
name and same bytes, until it is settled, because the next batch names its digest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trailgate.model.assessment import Assessment
from trailgate.model.errors import TrailgateError
from trailgate.model.reason import Reason
from trailgate_kube.admissions import (
    AdmissionWriteError,
    AdmissionWriter,
    AlreadyExistsError,
    AmbiguousError,
    RefusedError,
    SpoolFullError,
)
from trailgate_webhook import logs
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.refusals import Refusal, Refusals

#: Claims that may wait for the writer; more than this and the write is too slow anyway.
QUEUE_LIMIT = 1_024
#: Claims and their bytes in one batch: an object in etcd may have 1.5 MiB.
BATCH_CLAIMS = 64
BATCH_BYTES = 512 * 1024
#: Seconds for one attempt to write; then it counts as ambiguous.
ATTEMPT = 1.5
#: Seconds between two flushes of refusals.
REFUSALS_EVERY = 5.0
#: Seconds that stopping may take: the last claims, the refusals, the end announcement.
STOP_BUDGET = 5.0


class SpoolError(TrailgateError):
    """Evidence was not kept; ``reason`` is the code that a denial carries."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class NameTakenError(TrailgateError):
    """Somebody else's Admission has our next name: this boot's chain can't go on."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One Admission, ready to be created."""

    name: str
    spec: Mapping[str, Any]


class Scribe(Protocol):
    """Makes the batches of one boot: seals, numbers, chains, signs.

    Each method builds the next batch; ``written`` says that the last one built is there.
    Until then building again takes the same number.
    """

    def claim(self, assessment: Assessment) -> bytes:
        """Turn an assessment into the claim that will be sealed."""

    def start(self) -> Batch:
        """Build the announcement of this boot, number 0."""

    def admitted(self, claims: Sequence[bytes], lost: int) -> Batch:
        """Build a batch of claims; ``lost`` is what was let through without one so far."""

    def refused(self, refusals: Sequence[Refusal], dropped: int, lost: int) -> Batch:
        """Build a batch of aggregated refusals."""

    def end(self, lost: int) -> Batch:
        """Build the announcement that no batch follows."""

    def written(self) -> int:
        """Advance past the batch built last; returns its number."""


@dataclass(slots=True, eq=False)
class _Waiting:
    claim: bytes
    done: asyncio.Future[SpoolError | None] = field(repr=False)
    """Settled with None when the claim is durable, else with why it isn't."""


class SpoolWriter:
    """The single writer of a process. ``start`` it, then ``admitted`` and ``refused``."""

    def __init__(
        self,
        writer: AdmissionWriter,
        scribe: Scribe,
        metrics: Metrics,
        refusals: Refusals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer, self._scribe, self._metrics = writer, scribe, metrics
        self._refusals = refusals
        self._clock = clock
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._flushed_at = clock()
        self._lost = 0
        self.started = False
        """Whether the start announcement is written: nothing is admitted before."""
        self.broken = False
        """Whether the writer met what it can't go on from: the process has to restart."""

    async def start(self) -> None:
        """Begin writing in the background; the announcement is tried until it is there."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what waits and the end announcement, within ``STOP_BUDGET`` seconds."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=STOP_BUDGET)
            for task in late:
                task.cancel()
                await asyncio.wait({task})
        leaving = SpoolError(Reason.EVIDENCE_UNAVAILABLE, "the gate is shutting down; try again")
        _settle(self._queue, leaving)
        self._queue.clear()

    def problem(self) -> str | None:
        """For readiness."""
        if self.broken:
            return "the writer has stopped, this process must restart"
        return None if self.started else "the start of this process is not announced yet"

    async def admitted(self, assessment: Assessment, seconds: float) -> None:
        """Write one allowed change ahead; returns when it is durable.

        ``SpoolError`` after ``seconds``, or at once where it certainly can't be kept. A
        claim that nobody enforces stays queued after that: late is better than lost.
        """
        claim = self._scribe.claim(assessment)
        if len(self._queue) >= QUEUE_LIMIT or self.problem() is not None or self._stopping:
            raise SpoolError(
                Reason.EVIDENCE_UNAVAILABLE,
                self.problem() or "too many changes wait to be recorded; try again",
            )
        waiting = _Waiting(claim, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        await asyncio.wait({waiting.done}, timeout=seconds)
        if waiting.done.done():
            if (error := waiting.done.result()) is not None:
                raise error
            return
        if assessment.decision.enforced and waiting in self._queue:
            self._queue.remove(waiting)
        raise SpoolError(
            Reason.EVIDENCE_UNAVAILABLE, f"the change was not recorded within {seconds:.1f} s"
        )

    def refused(self, assessment: Assessment) -> None:
        """Count a denial; written with others of its kind, within seconds."""
        self._metrics.refusals_dropped.inc(self._refusals.add(assessment))
        self._show()

    def lost(self) -> None:
        """Count a change that passes without evidence; the next batch says so."""
        self._lost += 1
        self._metrics.lost.inc()

    async def _run(self) -> None:
        try:
            await self._write_all()
        except Exception as error:  # noqa: BLE001 - a writer that dies unseen would hold up everybody
            self.broken = True
            logs.failure("spool: the writer has stopped", error)

    async def _write_all(self) -> None:
        await self._insist(self._scribe.start, "start")
        self.started = True
        while not (self._stopping and not self._queue):
            await self._wait()
            while self._queue:
                await self._write_claims()
            if self._clock() - self._flushed_at >= REFUSALS_EVERY:
                self._flushed_at = self._clock()
                await self._write_refusals()
        while await self._write_refusals():
            pass
        await self._attempt(self._scribe.end(self._lost), "end")

    async def _wait(self) -> None:
        """Sleep until something is queued, refusals are due, or the process stops."""
        if self._queue or self._stopping:
            return
        self._wake.clear()
        due = self._flushed_at + REFUSALS_EVERY - self._clock()
        try:
            async with asyncio.timeout(max(0.05, due)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write_claims(self) -> None:
        taken: list[_Waiting] = []
        size = 0
        while self._queue and len(taken) < BATCH_CLAIMS:
            size += len(self._queue[0].claim)
            if taken and size > BATCH_BYTES:
                break
            taken.append(self._queue.popleft())
        self._show()
        outcome: SpoolError | None = SpoolError(Reason.INTERNAL, "the writer has stopped")
        try:
            claims = [waiting.claim for waiting in taken]
            await self._attempt(self._scribe.admitted(claims, self._lost), "admitted")
            self._metrics.spooled.inc(len(taken))
            outcome = None
        except SpoolError as error:
            outcome = error
        finally:
            _settle(taken, outcome)

    async def _write_refusals(self) -> bool:
        """Write one batch of refusals; False where there are none, or they have to wait."""
        rows, dropped = self._refusals.take()
        if not rows and not dropped:
            return False
        try:
            await self._attempt(self._scribe.refused(rows, dropped, self._lost), "refused")
        except SpoolError as error:
            self._refusals.put_back(rows, dropped)
            logs.write(logging.WARNING, "refusals wait", detail=str(error))
            return False
        finally:
            self._show()
        return True

    async def _insist(self, build: Callable[[], Batch], kind: str) -> None:
        """Write a batch that must be there before anything else can be."""
        delay = 0.1
        while True:
            try:
                return await self._attempt(build(), kind)
            except SpoolError as error:
                logs.write(
                    logging.ERROR, f"spool: {kind} not written, trying again", detail=str(error)
                )
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _attempt(self, batch: Batch, kind: str) -> None:
        """Create one Admission; returns when it is there, raises when it certainly isn't."""
        delay, unsure = 0.05, False
        while True:
            try:
                async with asyncio.timeout(ATTEMPT):
                    await self._writer.create(batch.name, batch.spec)
                break
            except AlreadyExistsError as error:
                if unsure:
                    break
                raise NameTakenError(f"{batch.name} is there, and we did not write it") from error
            except (SpoolFullError, RefusedError) as error:
                self._failed(error)
                # After an unsure attempt this proves nothing: quota answers before the name does.
                if not unsure:
                    raise _error_of(error) from error
            except (AmbiguousError, TimeoutError) as error:
                self._failed(error)
                unsure = True
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)
        self._metrics.spool_sequence.set(self._scribe.written())
        self._metrics.batches.labels(kind).inc()

    def _failed(self, error: Exception) -> None:
        kind = _KINDS.get(type(error), "ambiguous")
        self._metrics.spool_errors.labels(kind).inc()
        logs.write(logging.WARNING, "spool write failed", kind=kind, detail=str(error))

    def _show(self) -> None:
        self._metrics.spool_queue.set(len(self._queue))
        self._metrics.refusals_queue.set(len(self._refusals))


_KINDS: Mapping[type[Exception], str] = {
    SpoolFullError: "full",
    RefusedError: "refused",
    AmbiguousError: "ambiguous",
}


def _error_of(error: AdmissionWriteError) -> SpoolError:
    if isinstance(error, SpoolFullError):
        return SpoolError(
            Reason.SPOOL_FULL,
            "changes wait to be written to the ledger and no more fit; is its operator running?",
        )
    return SpoolError(Reason.INTERNAL, "the cluster refuses to keep the evidence of this change")


def _settle(those: Iterable[_Waiting], outcome: SpoolError | None) -> None:
    for waiting in those:
        if not waiting.done.done():
            waiting.done.set_result(outcome)
