"""Our own objects: always allowed, never unseen.

A gate that could refuse a policy would lock out the very change that mends it, so this
one only takes note of who changed what (``own.trailgate.dev``, ``failurePolicy: Ignore``).
Who may change it is for RBAC to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trailgate.assess.explain import ascii_line
from trailgate.ledger.record import ControlState, ControlSubject
from trailgate.model.admission import AdmissionRequest, Caller, Kind, Operation
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.policy import schema
from trailgate.policy.naming import policy_digest, spec_digest
from trailgate.policy.parse import parse_policy
from trailgate.policy.problems import PolicyError
from trailgate_kube.resources import GROUP

_POLICY = Kind(GROUP, schema.KIND)
_DISARM = Kind(GROUP, "Disarm")
_SUBJECTS: Mapping[Kind, ControlSubject] = {
    _POLICY: ControlSubject.POLICY,
    _DISARM: ControlSubject.DISARM,
}
_STATES: Mapping[Operation, ControlState] = {
    Operation.CREATE: ControlState.CREATED,
    Operation.UPDATE: ControlState.CHANGED,
    Operation.DELETE: ControlState.DELETED,
}
#: The API server cuts a warning at 256 characters.
_MAX_WARNING = 250
_MAX_WARNINGS = 8
_MAX_NAME = 253


@dataclass(frozen=True, slots=True)
class OwnChange:
    """What somebody does to a policy or a Disarm."""

    at: datetime
    subject: ControlSubject
    state: ControlState
    name: str
    digest: Digest | None
    """Of the new form; None where it is deleted. A policy's is the one of its decisions."""
    previous: Digest | None
    """Of the old form; None where it is created."""
    caller: Caller


def is_own(request: AdmissionRequest) -> bool:
    """Whether this is about one of our own objects that people write."""
    return request.kind in _SUBJECTS


def change_of(request: AdmissionRequest) -> OwnChange | None:
    """Say what the trail has to know; None where nothing is: a dry run, status, labels."""
    state = _STATES.get(request.operation)
    if state is None or request.dry_run or request.subresource:
        return None
    old, new = _digest(request.kind, request.old_object), _digest(request.kind, request.object)
    if state is ControlState.CHANGED and old == new:
        return None
    subject = _SUBJECTS[request.kind]
    return OwnChange(datetime.now(UTC), subject, state, _name(request), new, old, request.caller)


def warnings(request: AdmissionRequest) -> tuple[str, ...]:
    """Tell who writes a policy that the gate can't read what is wrong with it."""
    if request.kind != _POLICY or request.object is None or request.subresource:
        return ()
    try:
        parse_policy(request.object)
    except PolicyError as error:
        found = [
            _line(f"trailgate: {one.path}: got {one.got}, expected {one.expected}")
            for one in error.problems
        ]
    except MalformedError as error:
        found = [_line(f"trailgate: {error}")]
    else:
        return ()
    kept = (
        "the gate goes by its last good form"
        if request.operation is Operation.UPDATE
        else "the gate does without it, and a new replica isn't ready"
    )
    shown = found[: _MAX_WARNINGS - 2]
    if len(found) > len(shown):
        shown.append(f"trailgate: and {len(found) - len(shown)} more")
    return (f"trailgate: this policy can't be read: until it is mended, {kept}", *shown)


def _digest(kind: Kind, item: Mapping[str, Any] | None) -> Digest | None:
    """Name a form: a readable policy as every decision names it, anything else by its JSON."""
    if item is None:
        return None
    return policy_digest(item) if kind == _POLICY else spec_digest(item)


def _name(request: AdmissionRequest) -> str:
    item = request.object or request.old_object or {}
    metadata = item.get("metadata")
    known = metadata.get("name") if isinstance(metadata, Mapping) else None
    return str(known or request.name)[:_MAX_NAME]


def _line(text: str) -> str:
    return ascii_line(text, _MAX_WARNING)
