"""Puts images into the cluster's registry, with its login."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from e2e.cluster.provider import Cluster
from e2e.images.archive import Archive
from trailgate.model.image import ImageReference
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
    image = ImageReference.parse(f"{cluster.registry_address}/{name}:e2e")

    async def push(client: RegistryClient) -> str:
        with Archive(archive) as opened:
            digest, manifest = opened.manifest()
            for entry in (manifest["config"], *manifest["layers"]):
                await client.push_blob(image, opened.blob(entry["digest"]))
            media_type = manifest.get("mediaType", _MANIFEST)
            pushed = await client.push_manifest(image, opened.blob(digest), media_type)
        return str(pushed.digest)

    return with_client(cluster, push)
