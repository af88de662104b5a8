"""A Secret of ours: made once, marked as ours, and replaced only as it was read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trailgate.model.errors import TrailgateError
from trailgate_kube.api import Kube, Object
from trailgate_kube.errors import NotFoundError
from trailgate_kube.resources import SECRETS

MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "trailgate-operator"
"""What the label ``MANAGED_BY`` says of a Secret that the operator made."""
_LABELS = {MANAGED_BY: OPERATOR, "app.kubernetes.io/part-of": "trailgate"}


class SecretError(TrailgateError):
    """A Secret has not the content that it must have; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret's decoded content. Its ``repr`` shows no value."""

    name: str
    data: Mapping[str, bytes] = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)
    type: str = "Opaque"
    read: Object | None = field(default=None, repr=False, compare=False)
    """The whole object as it was read; None for one that is still to be made."""

    @property
    def ours(self) -> bool:
        """Whether the operator made it."""
        labels = (self.read or {}).get("metadata", {}).get("labels") or {}
        return self.read is None or labels.get(MANAGED_BY) == OPERATOR

    def with_(self, **data: bytes | None) -> Secret:
        """Return it with these keys, named with ``_`` for ``.``; None takes one away."""
        named = {key.replace("_", "."): value for key, value in data.items()}
        merged = {**self.data, **named}
        kept = {key: value for key, value in merged.items() if value is not None}
        return replace(self, data=kept)

    def annotated(self, **annotations: str | None) -> Secret:
        """Return it with these annotations of ours (``trailgate.dev/…``); None takes one away."""
        named = {f"trailgate.dev/{key}": value for key, value in annotations.items()}
        merged = {**self.annotations, **named}
        kept = {key: value for key, value in merged.items() if value is not None}
        return replace(self, annotations=kept)


class SecretBox:
    """The Secrets of one namespace. Every method raises ``KubeError``."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace

    async def get(self, name: str) -> Secret | None:
        """Read one; None where there is none. ``SecretError`` where its data isn't base64."""
        try:
            found = await self._kube.get(SECRETS, name, self._namespace)
        except NotFoundError:
            return None
        return _decoded(name, found)

    async def create(self, secret: Secret) -> None:
        """Make it; ``AlreadyExistsError`` where one of its name is there."""
        await self._kube.create(SECRETS, self._object(secret), self._namespace)

    async def replace(self, secret: Secret) -> Secret:
        """Replace what was read, and return it as stored.

        ``ConflictError`` or ``NotFoundError`` where it was changed meanwhile.
        """
        stored = await self._kube.replace(SECRETS, self._object(secret), self._namespace)
        return _decoded(secret.name, stored)

    async def delete(self, secret: Secret) -> None:
        """Delete exactly what was read (``ConflictError``, ``NotFoundError``)."""
        uid = None if secret.read is None else secret.read["metadata"]["uid"]
        await self._kube.delete(SECRETS, secret.name, self._namespace, uid=uid)

    def _object(self, secret: Secret) -> dict[str, Any]:
        read = secret.read or {"metadata": {"name": secret.name, "labels": dict(_LABELS)}}
        metadata = dict(read["metadata"], annotations=dict(secret.annotations))
        return {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "type": secret.type,
            "metadata": metadata,
            "data": {
                key: base64.b64encode(value).decode() for key, value in sorted(secret.data.items())
            },
        }


def _decoded(name: str, found: Object) -> Secret:
    try:
        data = {
            key: base64.b64decode(value, validate=True)
            for key, value in (found.get("data") or {}).items()
        }
    except (binascii.Error, TypeError, ValueError) as error:
        raise SecretError(f"Secret {name}: got data that isn't base64: {error}") from error
    annotations = found["metadata"].get("annotations") or {}
    return Secret(name, data, annotations, found.get("type", "Opaque"), found)
