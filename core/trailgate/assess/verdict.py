"""Decisions that no policy takes: allowed by class, or refused before anyone is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trailgate.model.decision import (
    Check,
    CheckResult,
    Decision,
    Finding,
    Mode,
    PolicyReference,
)
from trailgate.model.reason import Reason
from trailgate.policy.compiled import DeployPolicy


def allow(covering: Sequence[DeployPolicy]) -> Decision:
    """Let a request pass whose class asks nothing of the policies."""
    checks = dict.fromkeys(Check, CheckResult.NOT_REQUIRED)
    return Decision(True, (), (), checks, references(covering))


def refuse(
    covering: Sequence[DeployPolicy],
    reason: Reason,
    got: str,
    expected: str,
    *,
    retryable: bool = False,
) -> Decision:
    """Answer no on behalf of every covering policy; the most severe mode wins.

    So a namespace whose policies only audit or warn lets it pass with the finding, as
    it lets everything pass. Without any policy at hand it is a denial.
    """
    worst = max((p.reference for p in covering), key=lambda p: p.mode.severity, default=None)
    mode = Mode.ENFORCE if worst is None else worst.mode
    finding = Finding(
        reason,
        got,
        expected,
        policy=None if worst is None else worst.name,
        mode=mode,
        retryable=retryable,
        check=Check.CALLER if reason is Reason.CALLER_NOT_ALLOWED else None,
    )
    checks = dict.fromkeys(Check, CheckResult.UNDETERMINED)
    if finding.check is not None:
        checks[finding.check] = CheckResult.NOT_MET
    return Decision(mode is not Mode.ENFORCE, (finding,), (), checks, references(covering))


def without_images(decision: Decision) -> Decision:
    """Take back that no images were found, for a kind that has none."""
    findings = tuple(f for f in decision.findings if f.reason is not Reason.NO_IMAGES_FOUND)
    allowed = not any(finding.mode is Mode.ENFORCE for finding in findings)
    return replace(decision, findings=findings, allowed=allowed)


def references(covering: Sequence[DeployPolicy]) -> tuple[PolicyReference, ...]:
    """Name the policies and their versions."""
    return tuple(policy.reference for policy in covering)
