"""That the control operates: heartbeats, tests with a known answer, orders to stand aside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trailgate.ledger.claim import Context, Kind, head
from trailgate.ledger.form import Null, Roster, known, settle_within, stamp
from trailgate.model.digest import Digest
from trailgate.model.reason import RETRYABLE, Absence, Reason


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the control's parts counted at the end of a heartbeat's time; None: not known."""

    armed: bool | None
    """Whether the webhook configuration is there as the operator made it."""
    configuration: Digest | None
    """Of the webhook configuration's webhooks."""
    gates: int | None
    """Gate processes that are ready."""
    policies: int | None
    """DeployPolicies that are valid."""
    spool: int | None
    """Batches that wait to be recorded."""
    entries: int
    """In the ledger, this one not counted."""
    workloads: int | None
    """Root workloads that the observer watches."""
    unexplained: int | None
    """Those of them whose present state no admission explains, the baseline not counted."""


class ControlTest(StrEnum):
    """What the gate was asked, and so which answer is right."""

    REFUSAL = "refusal"
    """For something that a policy forbids: it must be denied."""
    ADMISSION = "admission"
    """For something that every policy allows: it must be let through."""


class Verdict(StrEnum):
    """What the API server answered."""

    ALLOWED = "allowed"
    DENIED = "denied"


class Through(StrEnum):
    """Which way a test took."""

    API_SERVER = "api-server"
    """A dry run: what a user's request would have met."""


class TestOutcome(StrEnum):
    """Whether the answer was right."""

    __test__ = False  # for pytest

    PASSED = "passed"
    FAILED = "failed"
    UNDETERMINED = "undetermined"
    """No answer, or one that says that it couldn't be decided."""


class DisarmState(StrEnum):
    """What became of a Disarm."""

    ACCEPTED = "accepted"
    """It is in effect: the operator disarms."""
    REFUSED = "refused"
    """Its end is none, or too far away: it never has an effect."""
    EXPIRED = "expired"
    DELETED = "deleted"
    """Before it expired."""


_EXPECTED = {ControlTest.REFUSAL: Verdict.DENIED, ControlTest.ADMISSION: Verdict.ALLOWED}


def outcome_of(test: ControlTest, got: Verdict | None, code: Reason | None) -> TestOutcome:
    """Judge an answer. A denial "try again" shows neither that it holds nor that it doesn't."""
    if got is None or (got is Verdict.DENIED and code in RETRYABLE):
        return TestOutcome.UNDETERMINED
    if got is not _EXPECTED[test]:
        return TestOutcome.FAILED
    if test is ControlTest.REFUSAL and code is None:
        # Somebody said no, and it wasn't the gate.
        return TestOutcome.UNDETERMINED
    return TestOutcome.PASSED


def heartbeat(
    context: Context, at: datetime, pulse: Pulse, *, since: datetime, until: datetime
) -> dict[str, Any]:
    """Claim that the control was on from ``since`` to ``until``, and what it counts now."""
    unknown = Absence.UNAVAILABLE
    digest = pulse.configuration
    tree = head(Kind.HEARTBEAT, context, at) | {
        "since": stamp(since),
        "until": stamp(until),
        "armed": known(pulse.armed, unknown),
        "digest": known(None if digest is None else str(digest), unknown),
        "readyGates": known(pulse.gates, unknown),
        "validPolicies": known(pulse.policies, unknown),
        "spooled": known(pulse.spool, unknown),
        "entries": pulse.entries,
        "workloads": known(pulse.workloads, unknown),
        "unexplained": known(pulse.unexplained, unknown),
    }
    return settle_within(tree, Roster())


def control_test(
    context: Context,
    at: datetime,
    test: ControlTest,
    got: Verdict | None,
    *,
    through: Through,
    code: Reason | None = None,
    policy: str | None = None,
    namespace: str | None = None,
    image: str | None = None,
) -> dict[str, Any]:
    """Claim that the gate was tested: what it should have answered, and did.

    ``code`` is the first reason of the gate's denial. ``policy``, ``namespace`` and
    ``image`` say what was asked about.
    """
    none, unknown = Absence.NOT_APPLICABLE, Absence.UNAVAILABLE
    tree = head(Kind.CONTROL_TEST, context, at) | {
        "test": test.value,
        "through": through.value,
        "policy": known(policy, none),
        "namespace": known(namespace, none),
        "image": known(image, none),
        "expected": _EXPECTED[test].value,
        "got": known(None if got is None else got.value, unknown),
        "reason": known(None if code is None else code.value, none if got else unknown),
        "outcome": outcome_of(test, got, code).value,
    }
    return settle_within(tree, Roster())


def disarm(
    context: Context,
    at: datetime,
    state: DisarmState,
    *,
    name: str,
    uid: str,
    until: datetime | None,
    reason: str,
    ticket: str | None = None,
) -> dict[str, Any]:
    """Claim what became of a Disarm, as the operator sees it, and why somebody made it.

    Who did is told by the gate, where it was asked: a ``control-state`` of the same name.
    """
    roster = Roster()
    tree = head(Kind.DISARM, context, at) | {
        "state": state.value,
        "name": name,
        "uid": uid,
        "until": known(None if until is None else stamp(until), Absence.NOT_VERIFIED),
        "reason": roster.text(reason),
        "ticket": Null(Absence.NOT_STATED) if ticket is None else roster.text(ticket),
    }
    return settle_within(tree, roster)
