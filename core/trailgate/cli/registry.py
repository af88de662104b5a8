"""The registry as the command line reaches it: the user's credentials, the user's host."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from trailgate.model.image import ImageReference
from trailgate.oci.client import RegistryClient
from trailgate.oci.credentials import load_docker_config
from trailgate.oci.guard import Guard


def image_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument IMAGE and the options that say how its registry is reached."""
    return click.argument("image", type=ImageType())(registry_options(function))


def registry_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how registries are reached."""
    for decorate in (
        click.option(
            "--allow-insecure-registry",
            "insecure",
            multiple=True,
            metavar="HOST[:PORT]",
            envvar="TRAILGATE_ALLOW_INSECURE_REGISTRY",
            show_envvar=True,
            help="Speak plain HTTP with this registry, also on a private address.",
        ),
        click.option(
            "--allow-private-registry",
            "private",
            multiple=True,
            metavar="HOST",
            envvar="TRAILGATE_ALLOW_PRIVATE_REGISTRY",
            show_envvar=True,
            help="Let this host have a loopback or private address (HTTPS).",
        ),
    ):
        function = decorate(function)
    return function


class ImageType(click.ParamType[ImageReference]):
    """An image reference as Kubernetes reads it."""

    name = "image"

    def convert(self, value: Any, param: Any, ctx: Any) -> ImageReference:
        """Parse it; a usage error where it cannot be."""
        if isinstance(value, ImageReference):
            return value
        try:
            return ImageReference.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@asynccontextmanager
async def open_registry(
    image: ImageReference, insecure: Sequence[str] = (), private: Sequence[str] = ()
) -> AsyncIterator[RegistryClient]:
    """Open a client that contacts this image's registry and no other."""
    async with open_registries((image.registry,), insecure, private) as client:
        yield client


@asynccontextmanager
async def open_registries(
    named: Collection[str], insecure: Sequence[str] = (), private: Sequence[str] = ()
) -> AsyncIterator[RegistryClient]:
    """Open a client that contacts these registries and no others."""
    home = Path(os.environ.get("HOME") or "/")
    guard = Guard(
        named=lambda: named,
        insecure=frozenset(host.lower() for host in insecure),
        private=frozenset(host.lower() for host in private),
    )
    async with RegistryClient(guard, load_docker_config(os.environ, home)) as client:
        yield client


async def by_digest(client: RegistryClient, image: ImageReference) -> ImageReference:
    """Name the image by a digest whose manifest is there and hashes to it."""
    # The client hashes what comes, so this digest is the manifest's own.
    return image.with_digest((await client.manifest(image)).digest)
