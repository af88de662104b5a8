"""What all claims begin with: the kind, the cluster, the process that says so, the caller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trailgate.ledger.form import SCHEMA, Null, Roster, known, stamp
from trailgate.model.admission import Caller
from trailgate.model.decision import PolicyReference
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence

_SYSTEM = "system:"


class Kind(StrEnum):
    """What a record is about."""

    ADMITTED = "admitted"
    """The gate let a change through: a claim on one persisted change."""
    REFUSED = "refused"
    """The gate turned requests away, counted by user, namespace, reason and minute."""
    PERSISTED = "persisted"
    """An admitted change was stored: it is there, or was."""
    RUNNING = "running"
    """A persisted change is rolled out: these digests run."""
    ENDED = "ended"
    """A persisted change holds no more: another came, it was scaled to zero, deleted, done."""
    NOT_PERSISTED = "not-persisted"
    """An admitted change that nothing shows to have been stored."""
    DISCREPANCY = "discrepancy"
    """Something is there, or runs, that no admission explains."""
    BASELINE = "baseline"
    """What was there before the gate was armed for the first time."""
    CONTROL_STATE = "control-state"
    """Something about the control itself began, ended or changed."""
    CONTROL_TEST = "control-test"
    """The gate was asked a question whose right answer is known."""
    HEARTBEAT = "heartbeat"
    """The control was on, and what it counted."""
    DISARM = "disarm"
    """What became of an order to stand aside for a time, and why it was given."""
    GAP = "gap"
    """Something that should be in the trail isn't: what, how much, why."""
    ERASURE = "erasure"
    """Commitments that nothing opens any more, because a person was erased."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster."""

    uid: str
    """Of its kube-system namespace."""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Which process says so: what ran, with which configuration."""

    version: str
    configuration: Digest
    """Of the canonical JSON of the configuration that the process started with."""
    image: str | None = None
    """With its digest, where the process was told."""
    component: str = "gate"
    """``gate`` (the admission endpoint), ``cli`` (``trailgate ledger erase``), or a part of the
    operator: ``recorder``, ``observer``, ``sentinel``, else ``operator``."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is the same for everything that one process records."""

    cluster: Cluster
    gate: Gate
    environment: str | None = None


def head(kind: Kind, context: Context, decided_at: datetime) -> dict[str, Any]:
    """Begin a claim: the members that all kinds have."""
    return {
        "schema": SCHEMA,
        "kind": kind.value,
        "cluster": {"uid": context.cluster.uid, "name": known(context.cluster.name)},
        "environment": known(context.environment),
        "gate": {
            "component": context.gate.component,
            "version": context.gate.version,
            "image": known(context.gate.image),
            "configurationDigest": str(context.gate.configuration),
        },
        "decidedAt": stamp(decided_at),
    }


def caller_entry(caller: Caller, roster: Roster) -> dict[str, Any]:
    """Tell who sent a request. ``system:`` names stand in clear: they are no persons."""
    system = caller.username.startswith(_SYSTEM)
    person = None if system else roster.caller(caller.username)
    who = {"user": caller.username} if person is None else {"user": Null(Absence.NOT_APPLICABLE)}
    unknown = Absence.IMPERSONATED if caller.service_account else Absence.NOT_STATED
    credential: Any = Null(unknown)
    if caller.credential_id is not None:
        credential = roster.text(caller.credential_id, person) if person else caller.credential_id
    return (
        (person or {"person": Null(Absence.NOT_APPLICABLE)})
        | who
        | {
            "groups": [
                group if group.startswith(_SYSTEM) else roster.text(group, person)
                for group in caller.groups
            ],
            "credentialId": credential,
            "onBehalfOf": Null(Absence.NOT_STATED if system else Absence.NOT_APPLICABLE),
        }
    )


def policy_entry(policy: PolicyReference) -> dict[str, Any]:
    """Tell which policy, in which version, in which mode."""
    return {
        "name": policy.name,
        "generation": known(policy.generation, Absence.NOT_APPLICABLE),
        "digest": str(policy.digest),
        "mode": policy.mode.value,
    }
