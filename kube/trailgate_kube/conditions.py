"""Conditions in Kubernetes' form: what a part found out about an object, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_MOST = 32_768


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; ``reason`` is a word in CamelCase, ``message`` is for people."""

    type: str
    reason: str
    message: str
    status: bool


def status_with(
    item: Mapping[str, Any], conditions: Sequence[Condition], now: datetime
) -> dict[str, Any]:
    """Return the ``status`` that an object should have with these conditions.

    What else stands there stays; a condition's ``lastTransitionTime`` while its status does.
    """
    generation = item.get("metadata", {}).get("generation", 0)
    status = item.get("status") or {}
    before = {one.get("type"): one for one in status.get("conditions") or ()}
    ours = {one.type: _form(one, before.get(one.type), generation, now) for one in conditions}
    return {
        **status,
        "observedGeneration": generation,
        "conditions": list((before | ours).values()),
    }


def _form(
    condition: Condition, before: Mapping[str, Any] | None, generation: int, now: datetime
) -> dict[str, Any]:
    status = "True" if condition.status else "False"
    since = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if before is not None and before.get("status") == status:
        since = str(before.get("lastTransitionTime") or since)
    message = condition.message
    return {
        "type": condition.type,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": condition.reason,
        "message": message if len(message) <= _MOST else message[: _MOST - 1] + "…",
    }


def status_schema(description: str) -> dict[str, Any]:
    """Build the structural schema of such a status."""
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "What the operator found; nobody else writes it.",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation that the conditions are about.",
            },
            "conditions": {
                "type": "array",
                "description": description,
                "maxItems": 16,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": text | {"maxLength": 316},
                        "status": text | {"enum": ["True", "False", "Unknown"]},
                        "observedGeneration": {"type": "integer", "format": "int64"},
                        "lastTransitionTime": text | {"format": "date-time"},
                        "reason": text | {"minLength": 1, "maxLength": 1024},
                        "message": text | {"maxLength": _MOST},
                    },
                },
            },
        },
    }
