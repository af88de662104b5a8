"""The one use case: a request in, the whole answer out.

``Assessor`` is used by the gate, the command line and the drift scan. It holds no
verdict: policies are asked anew each time, on facts that may come from a cache.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from trailgate.assess import explain, templates, verdict
from trailgate.assess.callers import CHILD_KIND
from trailgate.assess.classify import (
    Classified,
    Options,
    OwnerClaim,
    RefusedError,
    Scope,
    classify,
    scoped_images,
)
from trailgate.assess.evidence_source import EvidenceSource
from trailgate.assess.facts import ChangeFacts, change_facts, facts_at_hand
from trailgate.assess.images import NoImagesError
from trailgate.assess.lookup import Lookup, distinct
from trailgate.assess.owners import (
    OwnerReader,
    Owners,
    OwnerUnavailableError,
    OwnerUnverifiedError,
)
from trailgate.assess.pull import NO_SECRETS, pull_secrets
from trailgate.assess.tags import with_moved_tags
from trailgate.model.admission import AdmissionRequest, ContainerImage, Operation
from trailgate.model.assessment import Assessment, ChangeClass, Question
from trailgate.model.decision import Decision
from trailgate.model.errors import MalformedError, TrailgateError
from trailgate.model.evidence import Gathered
from trailgate.model.reason import Reason
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.decide import decide, refuses_caller
from trailgate.policy.material import covers

_log = logging.getLogger(__name__)

#: Seconds that fetching may take where the request says nothing else.
DEFAULT_BUDGET = 7.0

_REASONS: tuple[tuple[type[TrailgateError], Reason], ...] = (
    (MalformedError, Reason.MALFORMED),
    (NoImagesError, Reason.NO_IMAGES_FOUND),
    (OwnerUnverifiedError, Reason.OWNER_UNVERIFIED),
    (OwnerUnavailableError, Reason.OWNER_UNVERIFIED),
)
_REFUSALS: tuple[type[TrailgateError], ...] = (RefusedError, *(kind for kind, _ in _REASONS))
_Policies = tuple[DeployPolicy, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    """A request that policies are asked about."""

    request: AdmissionRequest
    classified: Classified
    images: tuple[ContainerImage, ...]
    covering: _Policies

    @property
    def is_without_images(self) -> bool:
        """Whether a root change is of something that has no Pod spec."""
        return (
            self.classified.change_class is ChangeClass.ROOT and self.classified.scope is Scope.NONE
        )


def _now() -> datetime:
    return datetime.now(UTC)


class Assessor:
    """Answers admission requests; one per process, used by one event loop."""

    def __init__(
        self,
        policies: Callable[[], Sequence[DeployPolicy]],
        evidence: EvidenceSource,
        owners: OwnerReader,
        cluster: str | None = None,
        clock: Callable[[], datetime] = _now,
        *,
        options: Options | None = None,
        budget: float = DEFAULT_BUDGET,
    ) -> None:
        self._policies = policies
        self._lookup = Lookup(evidence)
        self._owners = Owners(owners)
        self._cluster = cluster
        self._clock = clock
        self._options = options or Options()
        self._budget = budget

    async def assess(self, request: AdmissionRequest, budget: float | None = None) -> Assessment:
        """Decide on one request. Raises nothing but the cancellation of the caller.

        ``budget``: seconds that fetching may take this time, instead of the usual ones.
        What goes wrong inside is answered with ``Internal``, in the mode of the policies
        that cover the namespace; where not even these are known, it is a denial.
        """
        covering: _Policies = ()
        try:
            covering = tuple(covers(self._policies(), request.namespace))
            seconds = self._budget if budget is None else budget
            deadline = asyncio.get_running_loop().time() + seconds
            return await self._answer(request, covering, deadline)
        except Exception as error:  # noqa: BLE001 - what was not foreseen becomes a denial
            _log.exception("request %s could not be assessed", request.uid)
            decision = verdict.refuse(
                covering, Reason.INTERNAL, f"{type(error).__name__} in the gate", "a decision"
            )
            return self._finished(request, Classified(ChangeClass.ROOT), decision)

    async def _answer(
        self, request: AdmissionRequest, covering: _Policies, deadline: float
    ) -> Assessment:
        classified = Classified(ChangeClass.ROOT, Scope.ALL)
        facts: ChangeFacts | None = None
        try:
            classified = classify(request, self._options)
            if not covering:
                return self._uncovered(request, classified)
            images = scoped_images(request, classified.scope)
            facts = change_facts(request, classified, images)
            decision = await self._decide(_Case(request, classified, images, covering), deadline)
        except _REFUSALS as error:
            if not covering:
                return self._uncovered(request, classified)
            decision = _refuse(covering, error)
            if decision.allowed and facts is None:  # what only audits lets it through all the same
                facts, _ = facts_at_hand(request, classified)
        return self._finished(request, classified, decision, facts)

    def _uncovered(self, request: AdmissionRequest, classified: Classified) -> Assessment:
        """Let it through, and say what it is: it stands in the trail as any other change."""
        facts, images = facts_at_hand(request, classified)
        question = Question(
            namespace=request.namespace,
            caller=request.caller,
            change_class=classified.change_class,
            operation=request.operation,
            images=images,
            cluster=self._cluster,
        )
        return self._finished(request, classified, decide(question, {}, ()), facts)

    async def _decide(self, case: _Case, deadline: float) -> Decision:
        if _asks_nothing(case.classified):
            return verdict.allow(case.covering)
        if case.classified.claim is not None:
            inherited = await self._inherited(case, case.classified.claim, deadline)
            decision = await self._judge(case, inherited, deadline, aged=inherited)
            if not decision.allowed:  # old facts may allow; only fresh ones may deny
                decision = await self._judge(case, inherited, deadline)
        else:
            decision = await self._judge(case, frozenset(), deadline)
            if not decision.allowed:
                decision = await with_moved_tags(decision, self._lookup, case.covering, deadline)
        if decision.allowed:
            self._remember(case)
        return decision

    async def _judge(
        self,
        case: _Case,
        inherited: frozenset[str],
        deadline: float,
        *,
        aged: frozenset[str] = frozenset(),
    ) -> Decision:
        """Gather what is known of the images, and ask the policies.

        ``aged``: the images for which facts of any age will do. For a caller who is
        denied anyway nothing is gathered, so that the answer is the same at any time and
        nobody's fetches wait for it.
        """
        request = case.request
        question = Question(
            namespace=request.namespace,
            caller=request.caller,
            change_class=case.classified.change_class,
            operation=request.operation,
            images=case.images,
            inherited=inherited,
            cluster=self._cluster,
        )
        texts = distinct(use.image for use in case.images)
        gathered: Mapping[str, Gathered] = {}
        if not refuses_caller(question, case.covering):
            gathered = await self._lookup.gather(
                case.covering,
                texts,
                deadline=deadline,
                inherited=aged,
                secrets=pull_secrets(request) if texts else NO_SECRETS,
            )
        decision = decide(replace(question, at=self._clock()), gathered, case.covering)
        return verdict.without_images(decision) if case.is_without_images else decision

    async def _inherited(self, case: _Case, claim: OwnerClaim, deadline: float) -> frozenset[str]:
        request = case.request
        assert request.object is not None  # a claim comes from it
        child = templates.of_child(request.kind, request.object, case.images)
        known = self._owners.known(claim, child)
        if known is not None:
            return known
        try:
            async with asyncio.timeout_at(deadline):
                return await self._owners.inherited(claim, child)
        except TimeoutError as error:
            raise OwnerUnavailableError(
                f"got no answer about {claim} in time, expected the object"
            ) from error

    def _remember(self, case: _Case) -> None:
        """Keep an admitted owner's template, so that its children find it warm."""
        request = case.request
        if request.dry_run or request.kind not in CHILD_KIND or request.object is None:
            return
        if request.operation is Operation.DELETE or request.subresource:
            return
        metadata = request.object.get("metadata")
        uid = metadata.get("uid") if isinstance(metadata, Mapping) else None
        if isinstance(uid, str) and uid:
            template = templates.of_owner(request.kind, request.object, case.images)
            self._owners.remember(uid, template)

    def _finished(
        self,
        request: AdmissionRequest,
        classified: Classified,
        decision: Decision,
        facts: ChangeFacts | None = None,
    ) -> Assessment:
        facts = facts or ChangeFacts()
        return Assessment(
            request=request,
            change_class=classified.change_class,
            decision=decision,
            decided_at=self._clock(),
            message=explain.message(request, decision),
            warnings=explain.warnings(decision),
            spec_digest=facts.spec_digest,
            previous=facts.previous,
            delta=facts.delta,
            changed_images=facts.changed_images,
        )


def _asks_nothing(classified: Classified) -> bool:
    """Whether the class alone decides."""
    if classified.change_class is ChangeClass.CHILD:
        return classified.claim is None
    return classified.change_class in (
        ChangeClass.NO_DELTA,
        ChangeClass.SCALE,
        ChangeClass.MIRROR,
    )


def _refuse(covering: _Policies, error: TrailgateError) -> Decision:
    if isinstance(error, RefusedError):
        return verdict.refuse(covering, error.reason, error.got, error.expected)
    reason = next(code for kind, code in _REASONS if isinstance(error, kind))
    got, _, expected = str(error).removeprefix("got ").partition(", expected ")
    return verdict.refuse(
        covering,
        reason,
        got,
        expected or "what the Kubernetes API describes",
        retryable=isinstance(error, OwnerUnavailableError),
    )
