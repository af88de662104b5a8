"""The API server's refusals and watch lines, turned into our own values.

Kubernetes: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

from trailgate_kube.api import Event, EventType
from trailgate_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)

_MESSAGE_CHARACTERS = 500
_PLAIN: dict[int, type[KubeError]] = {
    HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.GONE: GoneError,
}


def error_of(what: str, status: int, content: bytes) -> KubeError:
    """Return the error that an answer of 400 or more means."""
    body = _decoded(content)
    reason = str(body.get("reason") or "")
    message = str(body.get("message") or content[:_MESSAGE_CHARACTERS].decode(errors="replace"))
    text = f"{what}: {status} {reason} {message[:_MESSAGE_CHARACTERS]}".strip()
    if status in _PLAIN:
        return _PLAIN[status](text)
    if status == HTTPStatus.CONFLICT:
        return AlreadyExistsError(text) if reason == "AlreadyExists" else ConflictError(text)
    if status == HTTPStatus.TOO_MANY_REQUESTS:  # turned away before it was looked at
        return UnavailableError(text, maybe_done=False)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(text, maybe_done=True)
    return InvalidError(text)


def event_of(what: str, line: bytes) -> Event:
    """Decode one line of a watch; raises what an ERROR event says."""
    body = _decoded(line)
    content = body.get("object")
    if not isinstance(content, dict):
        raise UnavailableError(f"{what}: got a line that is no event", maybe_done=False)
    if body.get("type") == "ERROR":
        code = content.get("code")
        status = code if isinstance(code, int) else int(HTTPStatus.INTERNAL_SERVER_ERROR)
        raise error_of(what, status, orjson.dumps(content))
    try:
        return Event(EventType(str(body.get("type"))), content)
    except ValueError as error:
        raise UnavailableError(f"{what}: got event {body.get('type')!r}", maybe_done=False) from (
            error
        )


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
