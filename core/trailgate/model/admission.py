"""What a cluster asks: one admission request, reduced to what a decision needs.

Kubernetes: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_CREDENTIAL = re.compile(r"JTI=[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|X509SHA256=[0-9a-f]{64}")
_SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


class Operation(StrEnum):
    """The four verbs of admission."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request, as the API server authenticated them."""

    username: str
    uid: str | None = None
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def credential_id(self) -> str | None:
        """The credential's id; absent when the caller is impersonated.

        Impersonation of a user name sets no extras of its own, and setting this
        one needs a right of its own (``userextras/...``).
        """
        values = self.extra.get(_CREDENTIAL_ID, ())
        return values[0] if values else None

    @property
    def has_credential(self) -> bool:
        """Whether there is one credential id, of the form that an API server writes.

        The form proves nothing: whoever may impersonate that extra, too, can copy it.
        """
        values = self.extra.get(_CREDENTIAL_ID, ())
        return len(values) == 1 and _CREDENTIAL.fullmatch(values[0]) is not None

    @property
    def service_account(self) -> tuple[str, str] | None:
        """(namespace, name) of a service account's user name, whoever vouches for it."""
        if not self.username.startswith(_SERVICE_ACCOUNT_PREFIX):
            return None
        namespace, separator, name = self.username.removeprefix(_SERVICE_ACCOUNT_PREFIX).partition(
            ":"
        )
        return (namespace, name) if separator and namespace and name else None


@dataclass(frozen=True, slots=True)
class Kind:
    """Group and kind, e.g. ``apps``/``Deployment``; the core group is empty."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """Which object: kind, namespace and name (empty before ``generateName`` is resolved)."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """One AdmissionReview's request.

    ``object`` and ``old_object`` are plain decoded JSON (dicts, lists, strings,
    numbers): the whole object, because the delta and the specification's digest
    need all of it. Never mutate them.
    """

    uid: str
    operation: Operation
    kind: Kind
    resource: str
    """Plural, lower case: ``deployments``."""
    subresource: str
    """Empty for the object itself; else ``status``, ``scale``, ``ephemeralcontainers``…"""
    namespace: str
    name: str
    caller: Caller
    dry_run: bool
    object: Mapping[str, Any] | None
    old_object: Mapping[str, Any] | None

    @property
    def key(self) -> ObjectKey:
        """The object's key; the name falls back to the object's own metadata."""
        name = self.name
        for candidate in (self.object, self.old_object):
            metadata = None if candidate is None else candidate.get("metadata")
            if not name and isinstance(metadata, Mapping):
                name = str(metadata.get("name") or "")
        return ObjectKey(self.kind, self.namespace, name)


class ContainerClass(StrEnum):
    """Every place of a Pod spec that names an image that is pulled."""

    CONTAINER = "container"
    INIT = "init"
    EPHEMERAL = "ephemeral"
    IMAGE_VOLUME = "imageVolume"


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """One use of an image in a Pod spec."""

    name: str
    """Of the container, or of the volume."""
    container_class: ContainerClass
    image: str
    """As written in the spec, unparsed."""
