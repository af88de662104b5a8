"""The gate: one AdmissionReview in, one answer out, whatever happens in between.

Nothing here allows on an error. What could not be decided is a denial where a policy
enforces. Where none does, it is no review at all but an HTTP error, so that the API
server applies the failure policy of the Audit entry (``Ignore``): we never say yes to
what we don't know, and Audit never blocks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from trailgate.model.admission import AdmissionRequest
from trailgate.model.assessment import Assessment
from trailgate.model.decision import Decision, Mode, PolicyReference
from trailgate.model.reason import RETRYABLE, Reason
from trailgate_kube import logs
from trailgate_webhook import own
from trailgate_webhook.deadline import Deadline
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.own import OwnChange
from trailgate_webhook.review import Answer, ReviewError, encode, read
from trailgate_webhook.spool import NotKeptError

_NONE = "none"
#: Class of a change to one of our own objects.
_OWN = "own"
#: Seconds between two looks at whether the policies are there: only right after a start.
_LOOK_AGAIN = 0.02


class Assesses(Protocol):
    """The one use case, as the gate needs it."""

    async def assess(self, request: AdmissionRequest, budget: float) -> Assessment:
        """Decide one request; what can't be fetched in ``budget`` seconds is a finding."""


class Spools(Protocol):
    """Where evidence goes before the answer."""

    async def admitted(self, assessment: Assessment, seconds: float) -> None:
        """Write ahead, durably, within ``seconds``; raises ``NotKeptError``."""

    async def changed(self, change: OwnChange, seconds: float) -> None:
        """Write ahead that one of our own objects changes; raises ``NotKeptError``."""

    def refused(self, assessment: Assessment) -> None:
        """Take note of a denial; never waits, never fails."""

    def refused_undecided(
        self, request: AdmissionRequest, reason: Reason, policies: Sequence[PolicyReference] = ()
    ) -> None:
        """Take note of a denial that no policy asked for; never waits, never fails."""

    def lost(self) -> None:
        """Take note of a change that passes without its evidence: it becomes a gap."""

    def undecided(self) -> None:
        """Take note of a review left to the API server's failure policy: it becomes a gap."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer with a JSON body."""

    status: int
    body: bytes


class Gate:
    """Answers reviews.

    ``enforcing(namespace)`` says whether any policy there enforces, ``unready()`` why
    that isn't known yet: nothing is decided on policies that were not read.
    """

    def __init__(
        self,
        assessor: Assesses,
        spool: Spools,
        enforcing: Callable[[str], bool],
        metrics: Metrics,
        *,
        checkpoint: Callable[[], str | None] = lambda: None,
        unready: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._assessor = assessor
        self._spool = spool
        self._enforcing = enforcing
        self._metrics = metrics
        self._checkpoint = checkpoint
        self._unready = unready

    async def review(self, body: bytes, deadline: Deadline) -> Reply:
        """Answer one review before its deadline."""
        started = time.perf_counter()
        try:
            request = read(body)
        except ReviewError as error:
            return self._malformed(error)
        self._metrics.decode.observe(time.perf_counter() - started)
        if own.is_own(request):
            return await self._own(request, deadline)
        try:
            reply = await self._decide(request, deadline)
        except Exception as error:  # noqa: BLE001 - the one place: unexpected is never an allow
            logs.failure("internal error", error, decision=request.uid, object=str(request.kind))
            reply = self._undecided(
                request, Reason.INTERNAL, "an internal error; the log of the gate has this id"
            )
        self._metrics.total.observe(time.perf_counter() - started)
        return reply

    def turned_away(self, cause: str) -> None:
        """Take note of a review that was answered without being read."""
        logs.write(logging.WARNING, "turned away", detail=cause)
        self._spool.undecided()

    async def _own(self, request: AdmissionRequest, deadline: Deadline) -> Reply:
        """Let one of our own objects pass whatever happens, and take note of who changed it.

        The one place where an error allows: nothing runs by these, and a gate that refused
        them would stand in the way of its own repair.
        """
        told: tuple[str, ...] = ()
        try:
            told = own.warnings(request)
            change = own.change_of(request)
            if change is not None:
                await self._spool.changed(change, deadline.for_spool())
        except Exception as error:  # noqa: BLE001 - see above
            logs.failure("change of our own not kept", error, decision=request.uid)
            self._spool.lost()
            told = (*told, "trailgate: this change was not recorded")
        self._metrics.decided("allowed", "", _OWN, _NONE)
        annotations = {"decision": "allowed", "class": _OWN}
        answer = Answer(request.uid, allowed=True, warnings=told, annotations=annotations)
        return Reply(200, encode(answer))

    async def _decide(self, request: AdmissionRequest, deadline: Deadline) -> Reply:
        if (missing := await self._unknown(deadline)) is not None:
            return self._undecidable(request, missing)
        started = time.perf_counter()
        timer = asyncio.timeout(deadline.for_assessment())
        try:
            async with timer:
                assessment = await self._assessor.assess(request, deadline.for_evidence())
        except TimeoutError:
            if not timer.expired():
                raise
            return self._undecided(
                request, Reason.EVIDENCE_UNAVAILABLE, "no decision within the deadline; try again"
            )
        self._metrics.assess.observe(time.perf_counter() - started)
        if not assessment.decision.allowed:
            return self._denied(assessment)
        if assessment.recorded:
            return await self._recorded(assessment, deadline)
        return self._allowed(assessment)

    async def _unknown(self, deadline: Deadline) -> str | None:
        """Wait for the first policies while there is time; say what is missing after that."""
        while (missing := self._unready()) is not None:
            if not (left := deadline.for_assessment()):
                break
            await asyncio.sleep(min(_LOOK_AGAIN, left))
        return missing

    def _undecidable(self, request: AdmissionRequest, missing: str) -> Reply:
        """Leave it to the API server: its entry for this namespace knows the mode."""
        self._metrics.decided("undecided", Reason.EVIDENCE_UNAVAILABLE, _NONE, _NONE)
        logs.write(logging.WARNING, "not decided", decision=request.uid, detail=missing)
        if not request.dry_run:
            self._spool.undecided()
        text = _not_decided(request, Reason.EVIDENCE_UNAVAILABLE, f"policies: {missing}")
        return Reply(503, error_body(text))

    async def _recorded(self, assessment: Assessment, deadline: Deadline) -> Reply:
        started = time.perf_counter()
        try:
            await self._spool.admitted(assessment, deadline.for_spool())
        except NotKeptError as error:
            logs.write(
                logging.ERROR, "evidence not kept", decision=assessment.request.uid,
                object=str(assessment.request.kind), reason=error.reason, detail=str(error),
            )  # fmt: skip
            if assessment.decision.enforced:
                return self._denied_undecided(
                    assessment.request, error.reason, str(error), assessment.decision.policies
                )
            self._spool.lost()
            return self._allowed(assessment, ("trailgate: no evidence was kept of this change",))
        self._metrics.spool.observe(time.perf_counter() - started)
        return self._allowed(assessment)

    def _allowed(self, assessment: Assessment, extra: tuple[str, ...] = ()) -> Reply:
        self._count("allowed", assessment)
        answer = Answer(
            assessment.request.uid,
            allowed=True,
            warnings=assessment.warnings + extra,
            annotations=self._annotations("allowed", assessment),
        )
        return Reply(200, encode(answer))

    def _denied(self, assessment: Assessment) -> Reply:
        decision, request = assessment.decision, assessment.request
        self._count("denied", assessment)
        if not request.dry_run:
            self._spool.refused(assessment)
        reason = _first_reason(decision)
        if logs.enabled(logging.INFO):
            logs.write(
                logging.INFO, "denied", decision=request.uid, kind=str(request.kind),
                namespace=request.namespace, name=request.key.name,
                reasons=_reasons(decision), dryRun=request.dry_run,
            )  # fmt: skip
        answer = Answer(
            request.uid,
            allowed=False,
            code=503 if decision.retryable else 403,
            reason=reason,
            message=assessment.message or f"trailgate: {request.key} denied: {reason}",
            warnings=assessment.warnings,
            annotations=self._annotations("denied", assessment),
        )
        return Reply(200, encode(answer))

    def _undecided(self, request: AdmissionRequest, reason: Reason, text: str) -> Reply:
        """Deny where a policy enforces (or can't be ruled out); else leave it to the API server."""
        if self._enforced(request):
            return self._denied_undecided(request, reason, text)
        self._metrics.decided("undecided", reason, _NONE, _NONE)
        if not request.dry_run:
            self._spool.undecided()
        return Reply(503, error_body(_not_decided(request, reason, text)))

    def _denied_undecided(
        self,
        request: AdmissionRequest,
        reason: Reason,
        text: str,
        policies: Sequence[PolicyReference] = (),
    ) -> Reply:
        self._metrics.decided("denied", reason, _NONE, Mode.ENFORCE)
        if not request.dry_run:
            self._spool.refused_undecided(request, reason, policies)
        answer = Answer(
            request.uid,
            allowed=False,
            code=503 if reason in RETRYABLE else 403,
            reason=reason,
            message=_not_decided(request, reason, text),
            annotations={"decision": "denied", "reasons": str(reason)},
        )
        return Reply(200, encode(answer))

    def _enforced(self, request: AdmissionRequest) -> bool:
        try:
            return self._enforcing(request.namespace)
        except Exception as error:  # noqa: BLE001 - not knowing is as enforcing
            logs.failure("can't tell whether a policy enforces", error, decision=request.uid)
            return True

    def _malformed(self, error: ReviewError) -> Reply:
        self._metrics.decided("denied", Reason.MALFORMED, _NONE, _NONE)
        logs.write(logging.WARNING, "malformed review", decision=error.uid, detail=str(error))
        if error.request is None:
            # Nobody can be named. Without a uid it is no denial either, but an HTTP error.
            self._spool.undecided()
        elif not error.request.dry_run:
            self._spool.refused_undecided(error.request, Reason.MALFORMED)
        if error.uid is None:
            return Reply(400, error_body(str(error)))
        annotations = {"decision": "denied", "reasons": str(Reason.MALFORMED)}
        message = f"trailgate: request denied: {Reason.MALFORMED}: {error} [{error.uid}]"
        answer = Answer(
            error.uid, False, 400, Reason.MALFORMED, message[:1024], annotations=annotations
        )
        return Reply(200, encode(answer))

    def _count(self, outcome: str, assessment: Assessment) -> None:
        decision = assessment.decision
        self._metrics.decided(
            outcome, _first_reason(decision), assessment.change_class, _mode(decision)
        )

    def _annotations(self, verdict: str, assessment: Assessment) -> dict[str, str]:
        """Codes and digests for the audit log, nothing personal."""
        decision = assessment.decision
        found = {"decision": verdict, "class": str(assessment.change_class)}
        if decision.findings:
            found["reasons"] = ",".join(_reasons(decision))
        if decision.policies:
            found["policies"] = ",".join(
                f"{policy.name}@{policy.digest}" for policy in decision.policies[:8]
            )
        if assessment.spec_digest is not None:
            found["spec"] = str(assessment.spec_digest)
        checkpoint = self._checkpoint()
        if checkpoint:
            found["checkpoint"] = checkpoint
        return found


def error_body(text: str) -> bytes:
    """Write what goes with an HTTP error: ``{"error": text}``."""
    return msgspec.json.encode({"error": text})


def _not_decided(request: AdmissionRequest, reason: Reason, text: str) -> str:
    return f"trailgate: {request.key} denied: {reason}: {text} [{request.uid}]"[:1024]


def _reasons(decision: Decision) -> list[str]:
    return list(dict.fromkeys(finding.reason.value for finding in decision.findings))


def _first_reason(decision: Decision) -> str:
    findings = decision.denying or decision.findings
    return findings[0].reason.value if findings else ""


def _mode(decision: Decision) -> str:
    if not decision.policies:
        return _NONE
    return max((policy.mode for policy in decision.policies), key=lambda mode: mode.severity).value
