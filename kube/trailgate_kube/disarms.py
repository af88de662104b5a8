"""The Disarm: an object that makes the gate stand aside for a while, and its definition.

Who may write one is for RBAC to say: cluster admins, and whoever the chart's role
``trailgate-admin`` is bound to. The gate is shown each and never refuses it (``own`` fails
open), so it works when the gate is dead. The schema checks its form. That ``until`` is near
enough only the operator can tell (CEL knows no clock and not when an object was created), by
``state``; it is told in the object's conditions, and a Disarm that isn't accepted does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from trailgate.model.errors import MalformedError
from trailgate_kube.conditions import Condition, status_schema
from trailgate_kube.resources import DISARMS

LONGEST = timedelta(hours=24)
"""From its creation to its end; who needs longer makes another one."""
MAX_REASON = 500
MAX_TICKET = 200
_TIME = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})$"
# What an offset leads out of the calendar is no time to anybody; CEL takes it for one.
_IN_UTC = "self >= timestamp('0001-01-01T00:00:00Z') && self < timestamp('9999-12-31T23:59:59Z')"


class State(Enum):
    """What a Disarm does now."""

    TOO_LONG = "TooLong"
    TOO_LATE = "TooLate"
    UNREADABLE = "Unreadable"
    IN_EFFECT = "InEffect"
    EXPIRED = "Expired"

    @property
    def accepted(self) -> bool:
        """Whether it had, or has, an effect."""
        return self in (State.IN_EFFECT, State.EXPIRED)


@dataclass(frozen=True, slots=True)
class Disarm:
    """One Disarm as it was read."""

    name: str
    uid: str
    generation: int
    created: datetime
    until: datetime | None
    """None where it is no time, or none of the years 1 to 9999 in UTC."""
    reason: str
    ticket: str | None

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Disarm:
        """Read an object of the API; raises ``MalformedError`` where it can't be one."""
        metadata, spec = item.get("metadata", {}), item.get("spec", {})
        created = _moment(metadata.get("creationTimestamp"))
        if created is None:
            raise MalformedError("got a Disarm without a creationTimestamp, expected a stored one")
        ticket = spec.get("ticket")
        return cls(
            str(metadata.get("name", "")),
            str(metadata.get("uid", "")),
            int(metadata.get("generation", 0)),
            created,
            _moment(spec.get("until")),
            str(spec.get("reason", "")),
            None if ticket is None else str(ticket),
        )

    def state(self, now: datetime) -> State:
        """Say what it does at ``now``.

        The length counts from its creation, by the API server's clock: one that was
        too long is not accepted later, when less is left of it.
        """
        if self.until is None:
            return State.UNREADABLE
        if self.until <= self.created:
            return State.TOO_LATE
        if self.until - self.created > LONGEST:
            return State.TOO_LONG
        return State.IN_EFFECT if now < self.until else State.EXPIRED

    def conditions(self, now: datetime) -> tuple[Condition, ...]:
        """Say in Kubernetes' form what ``state`` says."""
        state = self.state(now)
        if not state.accepted:
            why = _REFUSED[state]
            return (
                Condition("Accepted", state.value, why, status=False),
                Condition("Active", "Refused", why, status=False),
            )
        until = "" if self.until is None else self.until.isoformat()
        active = state is State.IN_EFFECT
        told = f"The gate is disarmed until {until}." if active else f"It ended at {until}."
        return (
            Condition("Accepted", "Accepted", "Its end is within 24 hours.", status=True),
            Condition("Active", state.value, told, status=active),
        )


_REFUSED = {
    State.TOO_LONG: "until is more than 24 hours after the creation; make one that ends sooner.",
    State.TOO_LATE: "until is not after the creation; make one that ends later.",
    State.UNREADABLE: "until is no time in UTC; expected such as 2027-01-31T12:00:00Z.",
}


def _moment(text: object) -> datetime | None:
    """Read a time that is one in UTC, too: at both ends of the calendar an offset leads beyond."""
    try:
        moment = datetime.fromisoformat(str(text))
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if moment.tzinfo is None else moment


def definition() -> dict[str, Any]:
    """Build the CustomResourceDefinition: cluster scope, immutable, status by the operator."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{DISARMS.plural}.{DISARMS.group}"},
        "spec": {
            "group": DISARMS.group,
            "names": {
                "categories": ["trailgate"],
                "kind": DISARMS.kind,
                "listKind": f"{DISARMS.kind}List",
                "plural": DISARMS.plural,
                "singular": DISARMS.kind.lower(),
            },
            "scope": "Cluster",
            "versions": [
                {
                    "name": DISARMS.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _object()},
                }
            ],
        },
    }


def _object() -> dict[str, Any]:
    return {
        "type": "object",
        "description": (
            "Makes the gate stand aside: until it ends, or is deleted, the operator removes the "
            "webhook configuration and does not put it back. Recorded in the ledger."
        ),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _spec(),
            "status": status_schema("Accepted: it may have an effect. Active: it has one now."),
        },
    }


def _spec() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["reason", "until"],
        "properties": {
            "reason": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_REASON,
                "pattern": r"\S",
                "description": "Why; it stands in the ledger.",
            },
            "ticket": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_TICKET,
                "description": "Where it is dealt with.",
            },
            "until": {
                "type": "string",
                "format": "date-time",
                "maxLength": 40,
                "pattern": _TIME,
                "description": (
                    "When it ends (RFC 3339, with an offset): at most 24 hours after its creation."
                ),
                "x-kubernetes-validations": [
                    {"rule": _IN_UTC, "message": "until is not in the years 1 to 9999 in UTC"}
                ],
            },
        },
        "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "a Disarm never changes; make another one"}
        ],
    }


def _columns() -> list[dict[str, Any]]:
    active = '.status.conditions[?(@.type=="Active")].reason'
    return [
        {"name": "Reason", "type": "string", "jsonPath": ".spec.reason"},
        {"name": "Ticket", "type": "string", "jsonPath": ".spec.ticket"},
        {"name": "Until", "type": "string", "jsonPath": ".spec.until"},
        {
            "name": "State",
            "type": "string",
            "jsonPath": active,
            "description": "InEffect, Expired or Refused; empty: no operator has seen it.",
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
