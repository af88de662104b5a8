"""The record: what the trail says of one event, for ever.

The gate builds a **claim** (plain JSON, people and texts in clear, sealed on its way);
the recorder turns it into the **record** whose canonical JSON is the leaf. Both have
one shape. ``docs/reference/record.md`` explains every member, ``schema/record-v1.json``
is the schema, ADR 0002 says why. All functions here are pure.

This module is the front door; the parts are ``claim`` (what all kinds share),
``admitted``, ``refusals``, ``observed``, ``operating``, ``events``, ``form`` and ``people``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trailgate.ledger.admitted import admitted, change_id, deletion_id, image_set, state_id
from trailgate.ledger.claim import Cluster, Context, Gate, Kind
from trailgate.ledger.events import (
    ControlState,
    ControlSubject,
    GapCause,
    control_state,
    erasures,
    gap,
)
from trailgate.ledger.form import (
    MAX_RECORD,
    SCHEMA,
    RecordError,
    RecordTooLargeError,
    check_form,
    encode,
    stamp,
)
from trailgate.ledger.observed import (
    Claimed,
    End,
    Match,
    NotPersisted,
    RunningImage,
    Seen,
    Thing,
    Why,
    baseline,
    discrepancy,
    ended,
    not_persisted,
    persisted,
    running,
)
from trailgate.ledger.operating import (
    ControlTest,
    DisarmState,
    Pulse,
    TestOutcome,
    Through,
    Verdict,
    control_test,
    disarm,
    heartbeat,
)
from trailgate.ledger.people import Vault, commit_people
from trailgate.ledger.refusals import RefusalGroup, Refusals, refused
from trailgate.model.reason import Absence

__all__ = [
    "MAX_RECORD",
    "SCHEMA",
    "Claimed",
    "Cluster",
    "Context",
    "ControlState",
    "ControlSubject",
    "ControlTest",
    "DisarmState",
    "End",
    "GapCause",
    "Gate",
    "Kind",
    "Match",
    "NotPersisted",
    "Position",
    "Pulse",
    "RecordError",
    "RecordTooLargeError",
    "RefusalGroup",
    "Refusals",
    "RunningImage",
    "Seen",
    "TestOutcome",
    "Thing",
    "Through",
    "Vault",
    "Verdict",
    "Why",
    "admitted",
    "baseline",
    "change_id",
    "check_form",
    "commit",
    "control_state",
    "control_test",
    "deletion_id",
    "disarm",
    "discrepancy",
    "encode",
    "ended",
    "erasures",
    "gap",
    "heartbeat",
    "image_set",
    "not_persisted",
    "persisted",
    "refused",
    "running",
    "stamp",
    "state_id",
]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a claim came through the spool: which process, which batch, which claim in it."""

    boot: str
    seq: int
    index: int


def commit(
    claim: Mapping[str, Any],
    vault: Vault,
    *,
    recorded_at: datetime,
    position: Position | None,
    returns_to: int | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Turn a claim into the record, and give the rows that open its commitments.

    ``position`` is None for what the recorder itself has to say. ``returns_to`` is, for
    an UPDATE, the index of the newest earlier ``admitted`` entry of the same cluster and
    object uid with the same ``image_set``, where entries with another set lie between:
    the change goes back to images that ran before. Raises ``RecordError`` for a claim
    whose form is wrong, ``RecordTooLargeError`` for a record that doesn't fit.
    """
    problems = check_form(claim) + _not_a_claim(claim)
    if problems:
        raise RecordError(f"got a claim that can't be recorded: {'; '.join(problems[:3])}")
    people, texts, rows = commit_people(claim, vault)
    record = {**claim, "people": people, "texts": texts, "absent": dict(claim["absent"])}
    record["recordedAt"] = stamp(recorded_at)
    record["spool"] = None
    if position is None:
        record["absent"]["/spool"] = Absence.NOT_APPLICABLE.value
    else:
        record["spool"] = {
            "boot": position.boot,
            "seq": position.seq,
            "index": position.index,
        }
    if claim["kind"] == Kind.ADMITTED:
        _mark_return(record, returns_to)
    encode(record)
    return record, rows


def _not_a_claim(claim: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what of a claim the recorder couldn't add to."""
    problems = [f"/{name}: is the recorder's" for name in ("recordedAt", "spool") if name in claim]
    kind, change = claim.get("kind"), claim.get("change")
    if kind not in list(Kind):
        problems.append(f"/kind: got {str(kind)[:80]!r}, expected one of {', '.join(Kind)}")
    if kind == Kind.ADMITTED and (
        not isinstance(change, dict) or "class" not in change or "returnsTo" in change
    ):
        problems.append("/change: expected an object with a class, and nothing of the recorder's")
    return tuple(problems)


def _mark_return(record: dict[str, Any], returns_to: int | None) -> None:
    change = {**record["change"], "returnsTo": returns_to}
    record["change"] = change
    if returns_to is None:
        record["absent"]["/change/returnsTo"] = Absence.NOT_FOUND.value
    elif change["class"] == "standard":
        change["class"] = "rollback"
