"""AdmissionReview v1, decoded into types and encoded again: the shapes the API server speaks.

https://kubernetes.io/docs/reference/config-api/apiserver-admission.v1/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import orjson

from trailgate.model.admission import AdmissionRequest, Caller, Kind, Operation
from trailgate.model.errors import MalformedError

API_VERSION = "admission.k8s.io/v1"
_NULL = msgspec.Raw(b"null")
_Text = Annotated[str, msgspec.Meta(max_length=1024)]


class ReviewError(MalformedError):
    """A body that is no AdmissionReview v1 request; the text says got and expected."""

    def __init__(
        self, text: str, uid: str | None = None, request: AdmissionRequest | None = None
    ) -> None:
        super().__init__(text)
        self.uid = uid
        """The request's uid where it could still be read, so that a denial can carry it."""
        self.request = request
        """All but the objects, where only they are wrong."""


class _GroupVersionKind(msgspec.Struct, frozen=True):
    group: _Text
    version: _Text
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class _GroupVersionResource(msgspec.Struct, frozen=True):
    group: _Text
    version: _Text
    resource: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class _UserInfo(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = ()
    extra: dict[str, tuple[str, ...]] | None = None


class _Request(msgspec.Struct, frozen=True):
    uid: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    kind: _GroupVersionKind
    resource: _GroupVersionResource
    operation: Operation
    userInfo: _UserInfo  # noqa: N815 - the API's own name
    subResource: _Text = ""  # noqa: N815
    name: _Text = ""
    namespace: _Text = ""
    object: msgspec.Raw = _NULL
    oldObject: msgspec.Raw = _NULL  # noqa: N815
    dryRun: bool | None = None  # noqa: N815


class _Review(msgspec.Struct, frozen=True):
    kind: Literal["AdmissionReview"]
    apiVersion: Literal["admission.k8s.io/v1"]  # noqa: N815
    request: _Request


class _OnlyUid(msgspec.Struct, frozen=True):
    uid: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class _OnlyRequest(msgspec.Struct, frozen=True):
    kind: Literal["AdmissionReview"]
    apiVersion: Literal["admission.k8s.io/v1"]  # noqa: N815
    request: _OnlyUid


_REVIEW = msgspec.json.Decoder(_Review)
_ONLY_UID = msgspec.json.Decoder(_OnlyRequest)

#: Which of (object, oldObject) each operation must carry; CONNECT carries its options or nothing.
_CARRIED = {
    Operation.CREATE: (True, False),
    Operation.UPDATE: (True, True),
    Operation.DELETE: (False, True),
}


def read(body: bytes) -> AdmissionRequest:
    """Decode one AdmissionReview request.

    Foreign fields are ignored (the API adds some from time to time); a field we read
    that has another type than the API's, or an object that the operation must carry
    and that isn't there, raises ``ReviewError``.
    """
    try:
        request = _REVIEW.decode(body).request
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReviewError(_explain(error), _uid(body)) from error
    try:
        new, old = _object(request.object, "object"), _object(request.oldObject, "oldObject")
        _check_carried(request.operation, new, old)
    except MalformedError as error:
        raise ReviewError(str(error), request.uid, _typed(request, None, None)) from error
    return _typed(request, new, old)


def _typed(
    request: _Request, new: Mapping[str, Any] | None, old: Mapping[str, Any] | None
) -> AdmissionRequest:
    user = request.userInfo
    return AdmissionRequest(
        uid=request.uid,
        operation=request.operation,
        kind=Kind(request.kind.group, request.kind.kind),
        resource=request.resource.resource,
        subresource=request.subResource,
        namespace=request.namespace,
        name=request.name,
        caller=Caller(user.username, user.uid or None, user.groups or (), user.extra or {}),
        dry_run=bool(request.dryRun),
        object=new,
        old_object=old,
    )


def _explain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "got JSON nested too deeply, expected an AdmissionReview"
    return f"got a body that is no AdmissionReview of {API_VERSION}: {str(error)[:300]}"


def _uid(body: bytes) -> str | None:
    try:
        return _ONLY_UID.decode(body).request.uid
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _object(raw: msgspec.Raw, name: str) -> Mapping[str, Any] | None:
    try:
        value = orjson.loads(memoryview(raw))
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"got request.{name} that is not JSON: {str(error)[:200]}") from error
    if value is None:
        return None
    if not isinstance(value, dict):
        raise MalformedError(f"got request.{name} of type {type(value).__name__}, expected object")
    if not isinstance(value.get("metadata", {}), dict):
        raise MalformedError(f"got request.{name}.metadata that is not an object")
    return value


def _check_carried(
    operation: Operation, new: Mapping[str, Any] | None, old: Mapping[str, Any] | None
) -> None:
    expected = _CARRIED.get(operation)
    if expected is None:
        return
    for name, value, wanted in (
        ("object", new, expected[0]),
        ("oldObject", old, expected[1]),
    ):
        if (value is not None) != wanted:
            got, want = ("null", "an object") if wanted else ("an object", "null")
            raise MalformedError(f"got request.{name} {got} on {operation}, expected {want}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server is told about one request."""

    uid: str
    allowed: bool
    code: int = 403
    """HTTP status that the user's client sees with a denial; unused when allowed."""
    reason: str = ""
    """A reason code, which kubectl prints in parentheses; unused when allowed."""
    message: str = ""
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    """For the audit log: the API server puts the webhook's name before each key."""


class _Status(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    message: str = ""
    reason: str = ""
    status: str = ""


class _Response(msgspec.Struct, frozen=True, omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    warnings: tuple[str, ...] = ()
    auditAnnotations: Mapping[str, str] | None = None  # noqa: N815


class _Reply(msgspec.Struct, frozen=True):
    kind: str
    apiVersion: str  # noqa: N815
    response: _Response


_ENCODE = msgspec.json.Encoder().encode


def encode(answer: Answer) -> bytes:
    """Write the AdmissionReview response."""
    status = (
        None
        if answer.allowed
        else _Status(answer.code, answer.message, answer.reason, status="Failure")
    )
    response = _Response(
        answer.uid, answer.allowed, status, answer.warnings, answer.annotations or None
    )
    return _ENCODE(_Reply("AdmissionReview", API_VERSION, response))
