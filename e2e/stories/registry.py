"""Puts images into the cluster's registry, with its login."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from e2e.cluster.provider import Cluster
from e2e.images.archive import Archive
from e2e.stories.errors import StoryError
from trailgate.oci.client import RegistryClient
from trailgate.oci.credentials import DockerConfig
from trailgate.oci.guard import Guard

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_T = TypeVar("_T")


def docker_config(cluster: Cluster) -> str:
    """Return a ``config.json`` with the registry's login."""
    login = cluster.registry_credentials
    entry = {"username": login.user, "password": login.password}
    return json.dumps({"auths": {cluster.registry_address: entry}})


def with_client(cluster: Cluster, work: Callable[[RegistryClient], Awaitable[_T]]) -> _T:
    """Run something with a client that is logged in."""
    host = cluster.registry_address
    credentials = DockerConfig.parse(docker_config(cluster).encode(), "the e2e registry's login")

    async def run() -> _T:
        guard = Guard(lambda: {host}, insecure=frozenset({host}))
        async with RegistryClient(guard, credentials) as client:
            return await work(client)

    return asyncio.run(run())


def push_archive(cluster: Cluster, archive: Path, name: str) -> str:
    """Push the image of an archive as ``name``; returns its digest."""
    with Archive(archive) as opened:
        digest, manifest = opened.manifest()
        for entry in (manifest["config"], *manifest["layers"]):
            _push_blob(cluster, name, entry["digest"], opened.blob(entry["digest"]))
        media_type = {"Content-Type": manifest.get("mediaType", _MANIFEST)}
        _ask(cluster, "PUT", f"/v2/{name}/manifests/e2e", opened.blob(digest), media_type)
    return digest


def _push_blob(cluster: Cluster, name: str, digest: str, content: bytes) -> None:
    """Upload in one piece: layers are larger than what the product's client is made for."""
    target = _ask(cluster, "POST", f"/v2/{name}/blobs/uploads/")
    separator = "&" if "?" in target else "?"
    _ask(cluster, "PUT", f"{target}{separator}digest={digest}", content)


def _ask(
    cluster: Cluster,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> str:
    """Send one request, logged in; returns the path that it says to go on with."""
    login = {"Authorization": cluster.registry_credentials.header}
    with closing(http.client.HTTPConnection(cluster.registry_address, timeout=60)) as connection:
        connection.request(method, path, body, {**login, **(headers or {})})
        answer = connection.getresponse()
        if answer.status not in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            raise StoryError(f"{method} {path}: {answer.status} {answer.read(300)!r}")
        location = urlsplit(answer.headers.get("Location", ""))
    return location.path + (f"?{location.query}" if location.query else "")
