"""The Kubernetes API over HTTP: bounded in time, with typed errors.

A credential that is not accepted is read again once, for requests and watches alike.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from trailgate.model.admission import Kind
from trailgate_kube.answers import error_of, event_of
from trailgate_kube.api import Event, EventType, Object, Page
from trailgate_kube.connection import Connection, connect
from trailgate_kube.discovery import Discovery
from trailgate_kube.errors import InvalidError, UnavailableError
from trailgate_kube.resources import Resource

_CONNECT_SECONDS = 3.0
_REQUEST_SECONDS = 10.0
_WATCH_GRACE_SECONDS = 15.0
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    data: bytes | None
    query: Mapping[str, str] | None
    seconds: float


class KubeClient:
    """A ``Kube`` on a real API server. Open it with ``async with await KubeClient.open(…)``."""

    def __init__(self, connection: Connection, seconds: float = _REQUEST_SECONDS) -> None:
        self._connection = connection
        self._seconds = seconds
        self._discovery = Discovery(self.raw)

    @classmethod
    async def open(
        cls, kubeconfig: Path | None = None, *, seconds: float = _REQUEST_SECONDS
    ) -> Self:
        """Connect by a kubeconfig, or without one as the pod's service account.

        ``seconds`` bounds each request. Raises ``ConfigurationError``.
        """
        return cls(await connect(kubeconfig), seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        seconds: float | None = None,
    ) -> Object:
        """See ``Reader.get``."""
        return await self.raw("GET", resource.path(namespace, name), seconds=seconds)

    async def page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        limit: int = 500,
        following: str = "",
        name: str | None = None,
    ) -> Page:
        """See ``Reader.page``."""
        query = {"limit": str(limit), **({"continue": following} if following else {})}
        query |= _only(name)
        answer = await self.raw("GET", resource.path(namespace), query=query)
        metadata = answer.get("metadata", {})
        return Page(
            tuple(answer.get("items") or ()),
            str(metadata.get("resourceVersion", "")),
            str(metadata.get("continue", "")),
        )

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        seconds: float | None = None,
    ) -> Object:
        """See ``Writer.create``."""
        query = {"dryRun": "All"} if dry_run else None
        return await self.raw("POST", resource.path(namespace), body, query=query, seconds=seconds)

    async def replace(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str = "",
        seconds: float | None = None,
    ) -> Object:
        """See ``Writer.replace``."""
        path = resource.path(namespace, str(body["metadata"]["name"]))
        where = f"{path}/{subresource}" if subresource else path
        return await self.raw("PUT", where, body, seconds=seconds)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
    ) -> None:
        """See ``Writer.delete``."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self.raw("DELETE", resource.path(namespace, name), options)

    async def discover(self, kind: Kind) -> Resource | None:
        """See ``Reader.discover``."""
        return await self._discovery.resource(kind)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        seconds: float = 120,
        name: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """See ``Reader.watch``."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
            **_only(name),
        }
        path = resource.path(namespace)
        what = f"watch {path}"
        call = _Call("GET", path, None, query, seconds + _WATCH_GRACE_SECONDS)
        try:
            async with self._accepted(call) as response:
                if not response.ok:
                    raise error_of(what, response.status, await response.read())
                async for line in response.content:
                    if line.strip():
                        event = event_of(what, line)
                        if event.type is not EventType.BOOKMARK or event.resource_version:
                            yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"{what}: {_cause(error)}", maybe_done=False) from error

    async def raw(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Object:
        """One request, decoded."""
        call = _Call(
            method,
            path,
            None if body is None else orjson.dumps(body),
            query,
            self._seconds if seconds is None else seconds,
        )
        what = f"{call.method} {call.path}"
        try:
            async with self._accepted(call) as response:
                content = await response.read()
                if not response.ok:
                    raise error_of(what, response.status, content)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnavailableError(f"{what}: {_cause(error)}", maybe_done=False) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"{what}: {_cause(error)}", maybe_done=True) from error
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise InvalidError(f"{what}: got an answer that isn't JSON") from error
        if not isinstance(answer, dict):
            raise InvalidError(f"{what}: got {type(answer).__name__}, expected a JSON object")
        return answer

    @asynccontextmanager
    async def _accepted(self, call: _Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open, and once again with a renewed credential where ours isn't accepted (401)."""
        async with AsyncExitStack() as stack:
            response = await stack.enter_async_context(self._open(call))
            if response.status == HTTPStatus.UNAUTHORIZED:
                await response.read()  # what it says, and the connection, may be used again
                if await self._connection.renew():
                    await stack.aclose()
                    response = await stack.enter_async_context(self._open(call))
            yield response

    @asynccontextmanager
    async def _open(self, call: _Call) -> AsyncIterator[aiohttp.ClientResponse]:
        connection = self._connection
        headers = {"Accept": _JSON, **await connection.authorization()}
        if call.data is not None:
            headers["Content-Type"] = _JSON
        async with connection.session.request(
            call.method,
            connection.host + call.path,
            data=call.data,
            params=call.query,
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=call.seconds, sock_connect=min(call.seconds, _CONNECT_SECONDS)
            ),
            proxy=connection.proxy,
            server_hostname=connection.server_name,
            allow_redirects=False,
        ) as response:
            try:
                yield response
            finally:
                _hang_up(response)


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """Drop the connection of an answer that was not read to its end (a watch left early).

    A polite TLS goodbye would wait for a server that has more to say.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _only(name: str | None) -> dict[str, str]:
    return {} if name is None else {"fieldSelector": f"metadata.name={name}"}


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()
