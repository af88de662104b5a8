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
from datetime import UTC, datetime

from trailgate.ledger.record import (
    GapCause,
    RecordError,
    RecordTooLargeError,
    Refusals,
)
from trailgate.ledger.spool import MAX_CLAIMS, Batch, BatchKind
from trailgate.ledger.spoolwriter import (
    BatchWriter,
    SpoolAmbiguousError,
    SpoolFullError,
    SpoolRefusedError,
    SpoolUnreachableError,
    SpoolWriteError,
    Written,
)
from trailgate.model.admission import AdmissionRequest
from trailgate.model.assessment import Assessment
from trailgate.model.canonical import canonical
from trailgate.model.decision import PolicyReference
from trailgate.model.errors import TrailgateError
from trailgate.model.reason import Reason
from trailgate_kube import logs
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.own import OwnChange
from trailgate_webhook.scribe import Claim, Scribe

#: Claims that may wait for the writer; more than this and the write is too slow anyway.
QUEUE_LIMIT = 1_024
#: Bytes of claims in one batch; the format allows twice that, and a batch is one fsync anyway.
BATCH_BYTES = 512 * 1024
#: Seconds for one attempt to write; then it counts as ambiguous.
ATTEMPT = 1.5
#: Seconds after which an API server that can't be reached is no longer waited for.
GIVE_UP = 2.0
#: Seconds between two flushes of refusals and losses.
NOTES_EVERY = 5.0
#: Seconds that stopping may take: the last claims, the refusals, the end announcement.
STOP_BUDGET = 5.0


class NotKeptError(TrailgateError):
    """Evidence was not kept; ``reason`` is the code that a denial carries."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class NameTakenError(TrailgateError):
    """Somebody else's Admission has our next name: this boot's chain can't go on."""


@dataclass(slots=True, eq=False)
class _Waiting:
    claim: Claim
    size: int
    done: asyncio.Future[NotKeptError | None] | None = field(default=None, repr=False)
    """Settled with None when the claim is durable, else with why it isn't."""
    late: bool = False
    """Nobody waits for it any more: the change passed, and is lost where this fails."""


class SpoolWriter:
    """The single writer of a process. ``start`` it, then ``admitted`` and ``refused``."""

    def __init__(
        self,
        writer: BatchWriter,
        scribe: Scribe,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer, self._scribe, self._metrics = writer, scribe, metrics
        self._clock = clock
        self._refusals = Refusals()
        self._lost = self._undecided = 0
        self._queue: deque[_Waiting] = deque()
        self._notes: deque[_Waiting] = deque()
        """Refusals and gaps on their way: nobody waits for these."""
        self._noted_at = clock()
        self._noted_until = datetime.now(UTC)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.started = False
        """Whether the start announcement is written: nothing is admitted before."""
        self._unstarted: NotKeptError | None = None
        """Why it could not be written the last time; until it was tried, claims wait for it."""
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
        leaving = NotKeptError(Reason.EVIDENCE_UNAVAILABLE, "the gate is shutting down; try again")
        self._settle(self._queue, leaving)
        self._queue.clear()

    def problem(self) -> str | None:
        """For readiness."""
        if self.broken:
            return "the writer has stopped, this process must restart"
        return None if self.started else "the start of this process is not announced yet"

    async def admitted(self, assessment: Assessment, seconds: float) -> None:
        """Write one allowed change ahead; returns when it is durable.

        ``NotKeptError`` after ``seconds``, or at once where it certainly can't be kept. A
        claim that nobody enforces stays queued after ``seconds``, and this returns: late
        is better than lost. Where it can't be kept in the end, the writer counts it as lost.
        """
        await self._keep(
            lambda: self._scribe.admitted(assessment), seconds, must=assessment.decision.enforced
        )

    async def changed(self, change: OwnChange, seconds: float) -> None:
        """Write ahead that one of our own objects changes; as ``admitted`` what nobody enforces."""
        await self._keep(lambda: self._scribe.control(change), seconds, must=False)

    async def _keep(self, build: Callable[[], Claim], seconds: float, *, must: bool) -> None:
        if len(self._queue) >= QUEUE_LIMIT or self.broken or self._stopping:
            raise NotKeptError(
                Reason.EVIDENCE_UNAVAILABLE,
                self.problem() or "too many changes wait to be recorded; try again",
            )
        if self._unstarted is not None:
            raise NotKeptError(self._unstarted.reason, str(self._unstarted))
        claim = _built(build)
        done = asyncio.get_running_loop().create_future()
        waiting = _Waiting(claim, len(canonical(claim)), done)
        self._queue.append(waiting)
        self._wake.set()
        await asyncio.wait({done}, timeout=seconds)
        if done.done():
            if (error := done.result()) is not None:
                raise error
            return
        if not must:
            waiting.late = True
            return
        if waiting in self._queue:
            self._queue.remove(waiting)
        raise NotKeptError(
            Reason.EVIDENCE_UNAVAILABLE, f"the change was not recorded within {seconds:.1f} s"
        )

    def refused(self, assessment: Assessment) -> None:
        """Count a denial; written with others of its kind, within seconds."""
        self._metrics.refusals_dropped.inc(self._refusals.add(assessment))
        self._show()

    def refused_undecided(
        self, request: AdmissionRequest, reason: Reason, policies: Sequence[PolicyReference] = ()
    ) -> None:
        """Count a denial that no policy asked for, as ``refused`` does."""
        dropped = self._refusals.add_undecided(request, reason, datetime.now(UTC), policies)
        self._metrics.refusals_dropped.inc(dropped)
        self._show()

    def lost(self) -> None:
        """Count a change that passes without evidence; a ``gap`` says so, within seconds."""
        self._lost += 1
        self._metrics.lost.inc()

    def undecided(self) -> None:
        """Count a review that got no decision; a ``gap`` says so, within seconds.

        Whether that change happened is the failure policy's doing, which isn't known here.
        """
        self._undecided += 1
        self._metrics.undecided.inc()

    async def _run(self) -> None:
        try:
            await self._write_all()
        except Exception as error:  # noqa: BLE001 - a writer that dies unseen would hold up everybody
            self.broken = True
            logs.failure("spool: the writer has stopped", error)

    async def _write_all(self) -> None:
        await self._announce_start()
        while not self._stopping or self._queue:
            await self._wait()
            while self._queue:
                await self._write_from(self._queue, BatchKind.ADMITTED)
            await self._write_notes()
        self._noted_at = float("-inf")
        await self._write_notes()
        try:
            await self._attempt(self._scribe.end())
        except NotKeptError as error:
            logs.write(logging.ERROR, "spool: end not announced", detail=str(error))

    async def _wait(self) -> None:
        """Sleep until something is queued, notes are due, or the process stops."""
        if self._queue or self._stopping:
            return
        self._wake.clear()
        due = self._noted_at + NOTES_EVERY - self._clock()
        try:
            async with asyncio.timeout(max(0.05, due)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write_notes(self) -> None:
        """Write refusals and gaps where they are due; what fails waits for the next round."""
        if self._clock() - self._noted_at < NOTES_EVERY:
            return
        self._noted_at = self._clock()
        while self._notes or self._collect_notes():
            if not await self._write_from(self._notes, BatchKind.REFUSED):
                break
            if self._queue:
                # Somebody waits for these. What is left of the notes comes right after.
                self._noted_at = float("-inf")
                break
        self._show()

    def _collect_notes(self) -> bool:
        groups, dropped = self._refusals.take(MAX_CLAIMS)
        claims = [self._scribe.refused(group) for group in groups]
        since, self._noted_until = self._noted_until, datetime.now(UTC)
        if dropped:
            claims.append(self._scribe.gap(GapCause.REFUSALS_DROPPED, dropped, since))
        lost, self._lost = self._lost, 0
        if lost:
            claims.append(self._scribe.gap(GapCause.ADMISSIONS_UNRECORDED, lost, since))
        undecided, self._undecided = self._undecided, 0
        if undecided:
            claims.append(self._scribe.gap(GapCause.REVIEWS_UNDECIDED, undecided, since))
        self._notes.extend(_Waiting(claim, len(canonical(claim))) for claim in claims)
        return bool(claims)

    async def _write_from(self, queue: deque[_Waiting], kind: BatchKind) -> bool:
        """Write one batch from a queue; False where it certainly isn't there."""
        taken = _take(queue)
        self._show()
        outcome: NotKeptError | None = NotKeptError(Reason.INTERNAL, "the writer has stopped")
        try:
            await self._attempt(self._scribe.batch(kind, [waiting.claim for waiting in taken]))
            outcome = None
        except NotKeptError as error:
            outcome = error
            queue.extendleft(waiting for waiting in reversed(taken) if waiting.done is None)
        finally:
            self._settle(taken, outcome)
        self._metrics.spooled.inc(0 if outcome else len(taken))
        return outcome is None

    async def _announce_start(self) -> None:
        delay = 0.1
        while not self.started:
            try:
                await self._attempt(self._scribe.start())
                self.started, self._unstarted = True, None
            except NotKeptError as error:
                self._unstarted = error
                logs.write(logging.ERROR, "spool: start not announced yet", detail=str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def _attempt(self, batch: Batch) -> None:
        """Store one batch; returns when it is there, raises when it certainly isn't."""
        pause, unsure = 0.05, False
        give_up = self._clock() + GIVE_UP
        while True:
            try:
                async with asyncio.timeout(ATTEMPT + 0.5):
                    written = await self._writer.write(batch, seconds=ATTEMPT)
                if written is Written.ALREADY_THERE and not unsure:
                    raise NameTakenError(f"{batch.name} is there, and we did not write it")
                break
            except (SpoolAmbiguousError, TimeoutError) as error:
                self._failed(error)
                unsure = True
            except SpoolWriteError as error:
                self._failed(error)
                # After an unsure attempt this proves nothing: quota answers before the name does.
                passing = isinstance(error, SpoolUnreachableError) and self._clock() < give_up
                if not unsure and not passing:
                    raise _error_of(error) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
        self._metrics.spool_sequence.set(self._scribe.written())
        self._metrics.batches.labels(batch.kind).inc()

    def _failed(self, error: Exception) -> None:
        kind = _KINDS.get(type(error), "ambiguous")
        self._metrics.spool_errors.labels(kind).inc()
        logs.write(logging.WARNING, "spool write failed", kind=kind, detail=str(error))

    def _settle(self, those: Iterable[_Waiting], outcome: NotKeptError | None) -> None:
        for waiting in those:
            if waiting.done is not None and not waiting.done.done():
                waiting.done.set_result(outcome)
            if waiting.late and outcome is not None:
                self.lost()

    def _show(self) -> None:
        self._metrics.spool_queue.set(len(self._queue))
        self._metrics.refusals_queue.set(len(self._refusals) + len(self._notes))


def _built(build: Callable[[], Claim]) -> Claim:
    try:
        return build()
    except RecordTooLargeError as error:
        raise NotKeptError(
            Reason.MALFORMED, "the change is too large to be recorded; split it"
        ) from error
    except RecordError as error:
        raise NotKeptError(Reason.INTERNAL, f"the change can't be recorded: {error}") from error


_KINDS: Mapping[type[Exception], str] = {
    SpoolFullError: "full",
    SpoolRefusedError: "refused",
    SpoolUnreachableError: "unreachable",
    SpoolAmbiguousError: "ambiguous",
}


def _error_of(error: SpoolWriteError) -> NotKeptError:
    if isinstance(error, SpoolFullError):
        return NotKeptError(
            Reason.SPOOL_FULL,
            "changes wait to be written to the ledger and no more fit; is its operator running?",
        )
    if isinstance(error, SpoolUnreachableError):
        return NotKeptError(
            Reason.EVIDENCE_UNAVAILABLE, "the change can't be recorded just now; try again"
        )
    return NotKeptError(Reason.INTERNAL, "the cluster refuses to keep the evidence of this change")


def _take(queue: deque[_Waiting]) -> list[_Waiting]:
    """Remove what goes into one batch: at least one claim, at most the limits."""
    taken: list[_Waiting] = []
    size = 0
    while queue and len(taken) < MAX_CLAIMS:
        size += queue[0].size
        if taken and size > BATCH_BYTES:
            break
        taken.append(queue.popleft())
    return taken
