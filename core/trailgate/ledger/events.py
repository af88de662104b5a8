"""The other things that a trail tells: the control's own state, gaps, erasures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from trailgate.ledger.claim import Context, Kind, caller_entry, head
from trailgate.ledger.form import (
    Null,
    RecordError,
    Roster,
    known,
    settle_within,
    stamp,
)
from trailgate.model.admission import Caller
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence

_ERASED_AT_ONCE = 500  # commitments in one entry: about 40 kB


class ControlSubject(StrEnum):
    """Which part of the control a ``control-state`` record is about."""

    GATE = "gate"
    """One process of the gate; ``name`` is its boot id, ``digest`` its signing key's."""
    LEDGER = "ledger"
    WEBHOOK_CONFIGURATION = "webhook-configuration"
    """What makes the API server ask the gate; ``digest`` is its webhooks'."""
    POLICY = "policy"
    """A DeployPolicy; ``digest`` is the one that stands in ``policies`` of admissions."""
    GUARD = "guard"
    """An admission policy of ours, or its binding; ``digest`` is its specification's."""
    DISARM = "disarm"
    """A Disarm, as the gate sees it come and go; ``digest`` is its specification's."""


class ControlState(StrEnum):
    """What it did, or what was done to it."""

    STARTED = "started"
    ENDED = "ended"
    ARMED = "armed"
    """The operator made the webhook configuration: the API server asks the gate."""
    ADJUSTED = "adjusted"
    """The operator changed it, because the policies changed."""
    DISARMED = "disarmed"
    """The operator removed it, because a Disarm says so."""
    PUT_BACK = "put-back"
    """The operator put back what somebody else had changed or deleted."""
    CREATED = "created"
    CHANGED = "changed"
    """Somebody changed it: of a webhook configuration, somebody other than the operator."""
    DELETED = "deleted"


_STATES = {
    ControlSubject.GATE: (ControlState.STARTED, ControlState.ENDED),
    ControlSubject.LEDGER: (ControlState.STARTED, ControlState.ENDED),
    ControlSubject.WEBHOOK_CONFIGURATION: (
        ControlState.ARMED,
        ControlState.ADJUSTED,
        ControlState.DISARMED,
        ControlState.PUT_BACK,
        ControlState.CHANGED,
        ControlState.DELETED,
    ),
    ControlSubject.POLICY: (ControlState.CREATED, ControlState.CHANGED, ControlState.DELETED),
    ControlSubject.GUARD: (ControlState.CREATED, ControlState.CHANGED, ControlState.DELETED),
    ControlSubject.DISARM: (ControlState.CREATED, ControlState.CHANGED, ControlState.DELETED),
}


class GapCause(StrEnum):
    """Why something is missing from the trail."""

    REFUSALS_DROPPED = "refusals-dropped"
    """More different refusals than the gate's queue holds: they were counted only."""
    ADMISSIONS_UNRECORDED = "admissions-unrecorded"
    """Let through where the policy only audits, without a record (spool full, too large)."""
    BATCHES_MISSING = "batches-missing"
    """Numbers of a process that never arrived."""
    BATCH_UNREADABLE = "batch-unreadable"
    """A batch that is there, with a bad signature, seal or form."""
    CHAIN_FORKED = "chain-forked"
    """A batch that doesn't follow from the one before it."""
    REVIEWS_UNDECIDED = "reviews-undecided"
    """Reviews that got no decision (HTTP 503: the failure policy chose), or name no caller."""
    OBSERVER_DOWN = "observer-down"
    """Nobody watched what is stored and what runs; what was there afterwards was read then."""
    DISARMED = "disarmed"
    """The gate wasn't asked, because a Disarm said so."""
    UNARMED = "unarmed"
    """The gate wasn't asked, or could be passed by, and no Disarm said so."""


def control_state(
    context: Context,
    at: datetime,
    subject: ControlSubject,
    state: ControlState,
    *,
    name: str,
    digest: Digest | None = None,
    previous: Digest | None = None,
    caller: Caller | Absence | None = None,
) -> dict[str, Any]:
    """Claim that a part of the control began, ended or changed.

    ``caller`` is whoever did it, or why that isn't known; None where it was the process
    itself that says so. Raises ``RecordError`` for a state that the subject can't have.
    """
    if state not in _STATES[subject]:
        expected = ", ".join(_STATES[subject])
        raise RecordError(f"got state {state.value} of {subject.value}, expected {expected}")
    roster = Roster()
    if isinstance(caller, Caller):
        by: Any = caller_entry(caller, roster)
    else:
        by = Null(caller or Absence.NOT_APPLICABLE)
    tree = head(Kind.CONTROL_STATE, context, at) | {
        "subject": subject.value,
        "state": state.value,
        "name": name,
        "digest": known(None if digest is None else str(digest), Absence.NOT_APPLICABLE),
        "previousDigest": known(
            None if previous is None else str(previous), Absence.NOT_APPLICABLE
        ),
        "caller": by,
    }
    return settle_within(tree, roster)


def gap(
    context: Context,
    at: datetime,
    cause: GapCause,
    *,
    count: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    boot: str | None = None,
    first_seq: int | None = None,
    last_seq: int | None = None,
) -> dict[str, Any]:
    """Claim that something is missing: how many (null: unknown), from when to when.

    ``first_seq`` and ``last_seq`` are the numbers of a process's missing or bad
    batches, both inclusive.
    """
    none = Absence.NOT_APPLICABLE
    unknown = Absence.NOT_FOUND
    tree = head(Kind.GAP, context, at) | {
        "cause": cause.value,
        "count": known(count, unknown),
        "since": known(None if since is None else stamp(since), unknown),
        "until": known(None if until is None else stamp(until), unknown),
        "boot": known(boot, none),
        "firstSeq": known(first_seq, none),
        "lastSeq": known(last_seq, none),
    }
    return settle_within(tree, Roster())


def erasures(
    context: Context, at: datetime, commitments: Sequence[str], *, reason: str | None = None
) -> list[dict[str, Any]]:
    """Claim that these commitments open to nothing any more: as many entries as it takes."""
    claims = []
    for start in range(0, len(commitments), _ERASED_AT_ONCE):
        roster = Roster()
        why = Null(Absence.NOT_STATED) if reason is None else roster.text(reason)
        erased = [{"commitment": one} for one in commitments[start : start + _ERASED_AT_ONCE]]
        tree = head(Kind.ERASURE, context, at) | {"erased": erased, "reason": why}
        claims.append(settle_within(tree, roster))
    return claims
