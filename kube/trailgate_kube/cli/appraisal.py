"""What a policy would say of an image that runs: the gate's own decision, asked beforehand. Pure.

The caller is left out of it: nobody knows any more who made what is there already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from trailgate.evidence import change, provenance, sign, simplesigning, testresult
from trailgate.model.admission import Caller, Operation
from trailgate.model.assessment import ChangeClass, Question
from trailgate.model.decision import Check, CheckResult, Decision
from trailgate.model.evidence import (
    Evidence,
    Gathered,
    PublicKey,
    StatementKind,
    Unavailable,
    UnresolvedTag,
)
from trailgate.model.reason import RETRYABLE, Reason
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.decide import decide
from trailgate.policy.material import covers
from trailgate_kube.cli.running import Running

_CLAIMED: Mapping[str | None, StatementKind] = {
    sign.SIGN_TYPE: StatementKind.SIGNATURE,
    simplesigning.TYPE: StatementKind.SIGNATURE,
    provenance.TYPE: StatementKind.PROVENANCE,
    testresult.TYPE: StatementKind.TESTS,
    change.TYPE: StatementKind.CHANGE,
}
_CHECKS: Mapping[StatementKind, Check] = {
    StatementKind.SIGNATURE: Check.SIGNATURE,
    StatementKind.PROVENANCE: Check.PROVENANCE,
    StatementKind.TESTS: Check.TESTS,
    StatementKind.CHANGE: Check.REVIEW,
}


class State(StrEnum):
    """What there is of one kind of statement."""

    LISTED = "listed"
    """Made by a key that a policy names."""
    UNLISTED = "unlisted"
    """Attached, by a key that no policy names: nothing of it is verified."""
    NONE = "none"
    UNKNOWN = "unknown"
    """The registry could not be asked, or nobody knows which digest runs."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What there is of one kind of statement, and whether it is enough."""

    state: State
    signers: tuple[str, ...] = ()
    """The policies' names for the keys."""
    result: CheckResult = CheckResult.NOT_REQUIRED


class Verdict(StrEnum):
    """What would happen to a new change with this image, if the policies enforced."""

    ADMITTED = "admitted"
    DENIED = "denied"
    UNDETERMINED = "undetermined"
    NOT_COVERED = "not-covered"
    """No policy is for this namespace."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """One row of the answer."""

    running: Running
    facts: Mapping[StatementKind, Fact]
    verdict: Verdict
    codes: tuple[str, ...] = ()
    """Reason codes, what a denial begins with first."""
    policies: tuple[str, ...] = ()
    error: str = ""
    """Why something is not known."""


@dataclass(frozen=True, slots=True)
class Appraiser:
    """Holds images against policies."""

    policies: Sequence[DeployPolicy]
    cluster: str | None
    at: datetime
    _names: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._names.update(_names(self.policies))

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Every key that some policy names, for whatever image."""
        found = {
            key.fingerprint: key
            for policy in self.policies
            for rule in policy.rules
            for key in rule.keys
        }
        return tuple(found[name] for name in sorted(found))

    def covering(self, running: Running) -> tuple[DeployPolicy, ...]:
        """Return the policies for an image, without their callers."""
        found = covers(self.policies, running.namespace)
        return tuple(replace(policy, callers=None) for policy in found)

    def appraise(self, running: Running, attached: Gathered, gathered: Gathered) -> Appraisal:
        """Say what there is and what a decision would be.

        ``attached``: as all keys verify it. ``gathered``: as those of the policies that
        cover the namespace do, which is what the gate has.
        """
        covering = self.covering(running)
        decision = self._decision(running, gathered, covering) if covering else None
        facts = {kind: self._fact(kind, attached, decision) for kind in StatementKind}
        codes = (
            () if decision is None else tuple(dict.fromkeys(f.reason for f in decision.findings))
        )
        return Appraisal(
            running,
            facts,
            Verdict.NOT_COVERED if decision is None else _verdict(codes),
            tuple(code.value for code in codes),
            tuple(policy.name for policy in covering),
            _unknown(attached),
        )

    def _decision(
        self, running: Running, gathered: Gathered, covering: Sequence[DeployPolicy]
    ) -> Decision:
        question = Question(
            namespace=running.namespace,
            caller=Caller("trailgate policy impact"),
            change_class=ChangeClass.ROOT,
            operation=Operation.CREATE,
            images=(running.use,),
            cluster=self.cluster,
            at=self.at,
        )
        return decide(question, {running.image: gathered}, covering)

    def _fact(self, kind: StatementKind, attached: Gathered, decision: Decision | None) -> Fact:
        if not isinstance(attached, Evidence):
            return Fact(State.UNKNOWN)
        result = CheckResult.NOT_REQUIRED
        if decision is not None:
            (image,) = decision.images
            result = image.checks[_CHECKS[kind]]
        signers = dict.fromkeys(
            self._names[statement.signer.fingerprint] for statement in attached.of_kind(kind)
        )
        if signers:
            return Fact(State.LISTED, tuple(signers), result)
        if any(_CLAIMED.get(one.predicate_type) is kind for one in attached.rejected):
            return Fact(State.UNLISTED, (), result)
        return Fact(State.UNKNOWN if attached.unread else State.NONE, (), result)


def _verdict(codes: Sequence[Reason]) -> Verdict:
    if not codes:
        return Verdict.ADMITTED
    return Verdict.UNDETERMINED if RETRYABLE.issuperset(codes) else Verdict.DENIED


def _unknown(attached: Gathered) -> str:
    match attached:
        case Unavailable():
            return attached.detail
        case UnresolvedTag():
            return "no node says by which digest this runs"
        case Evidence(unread=unread) if unread:
            return "not read: " + "; ".join(unread)
    return ""


def _names(policies: Sequence[DeployPolicy]) -> dict[str, str]:
    """Give each key the name that the policies have for it, the first one where they differ."""
    found: dict[str, str] = {}
    for policy in policies:
        for rule in policy.rules:
            parts = (
                rule.signature,
                rule.provenance,
                rule.review,
                rule.deployment_approval,
                rule.tests,
            )
            for part in parts:
                for fingerprint, name in part.signers.names.items() if part is not None else ():
                    found.setdefault(fingerprint, name)
    return found
