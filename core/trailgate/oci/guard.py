"""Which hosts and addresses are contacted, decided before any byte is sent.

Image names, redirects, token realms and DNS answers are all chosen by somebody
else. Each is checked here: hosts by name, addresses when they are resolved, and
the very address that a socket connects to once more (DNS rebinding).
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from trailgate.oci.address import Address, Reach, parse, reach
from trailgate.oci.errors import HostRefusedError

_ENDPOINTS: Final = {"docker.io": "registry-1.docker.io"}

#: Where well-known registries keep their blobs. Nothing but a GET without
#: credentials goes there, and what comes back is hashed.
REDIRECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "docker.io": (
        "production.cloudflare.docker.com",
        "production.cloudfront.docker.com",
        "docker-images-prod.*.r2.cloudflarestorage.com",
    ),
    "ghcr.io": ("pkg-containers.githubusercontent.com",),
    "quay.io": ("*.quay.io",),
    "registry.gitlab.com": ("cdn.registry.gitlab-static.net", "storage.googleapis.com"),
    "registry.k8s.io": ("*.pkg.dev", "*.s3.dualstack.*.amazonaws.com"),
    "mcr.microsoft.com": ("*.data.mcr.microsoft.com",),
    "*.azurecr.io": ("*.blob.core.windows.net", "*.*.data.azurecr.io"),
    "*.dkr.ecr.*.amazonaws.com": ("*.s3.*.amazonaws.com",),
    "public.ecr.aws": ("*.cloudfront.net",),
    "gcr.io": ("storage.googleapis.com",),
    "*.gcr.io": ("storage.googleapis.com",),
    "*.pkg.dev": ("storage.googleapis.com",),
}

# Suffixes under which strangers are neighbours: there a sibling is not "the same site".
_SHARED: Final = (
    "amazonaws.com",
    "aws",
    "azurecr.io",
    "cloudfront.net",
    "gcr.io",
    "github.io",
    "gitlab.io",
    "googleapis.com",
    "herokuapp.com",
    "pkg.dev",
    "run.app",
    "windows.net",
)
_SECOND_LEVEL: Final = frozenset({"ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"})


@dataclass(frozen=True, slots=True)
class Guard:
    """The hosts that may be contacted, and how.

    Hosts are written as in an image (``ghcr.io``, ``127.0.0.1:5000``); in a
    pattern ``*`` stands for characters within one label.
    """

    named: Callable[[], Collection[str]]
    """Registries that a policy or a command line names, read at every request."""
    insecure: frozenset[str] = frozenset()
    """Registries (host and port) spoken to in plain HTTP; implies ``private`` for the host."""
    private: frozenset[str] = frozenset()
    """Host patterns, without port, that may have loopback or private addresses."""
    redirects: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(REDIRECTS))
    """Registry pattern → host patterns that it may redirect a GET to."""
    realms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Registry pattern → further host patterns that may issue its tokens."""

    def admit(self, registry: str) -> URL:
        """Return the base URL of a registry that was named; else ``HostRefusedError``."""
        if not any(matches(pattern, registry) for pattern in self.named()):
            raise HostRefusedError(
                f"registry {registry} is not contacted: no policy or command names it"
            )
        scheme = "http" if registry in self.insecure else "https"
        url = _url(f"{scheme}://{_ENDPOINTS.get(registry, registry)}/", registry)
        self._admit_literal(registry, url)
        return url

    def admit_redirect(self, registry: str, origin: URL, target: URL) -> None:
        """Check where a registry sends us for content; else ``HostRefusedError``."""
        self._admit_transport(registry, "redirect", target)
        if target.raw_host != origin.raw_host and not _listed(self.redirects, registry, target):
            raise HostRefusedError(
                f"registry {registry}: redirect to {target.raw_host} is not followed: "
                "the host is not on its list of redirects"
            )

    def admit_realm(self, registry: str, realm: URL) -> None:
        """Check where a registry sends us for a token; else ``HostRefusedError``."""
        self._admit_transport(registry, "token realm", realm)
        own = self.admit(registry).raw_host or ""
        if not same_site(own, realm.raw_host or "") and not _listed(self.realms, registry, realm):
            raise HostRefusedError(
                f"registry {registry}: token realm {realm.raw_host} is not asked: "
                "it is another site and not on the list of realms"
            )

    def admit_own(self, registry: str, what: str, target: URL) -> None:
        """Check an address that may only be the registry's own; else ``HostRefusedError``."""
        own = self.admit(registry)
        if target.user or target.origin() != own.origin():
            raise HostRefusedError(
                f"registry {registry}: {what} at {target.scheme}://{target.raw_authority} "
                f"is not asked: expected {own.origin()}"
            )

    def admit_address(self, host: str, address: Address) -> None:
        """Check an address that a host name stands for; else ``HostRefusedError``."""
        where = reach(address)
        if where is Reach.NEVER:
            raise HostRefusedError(
                f"host {host} is not contacted: {address} is link-local, a metadata service "
                "or no unicast address"
            )
        if where is Reach.PRIVATE and not self._may_be_private(host):
            raise HostRefusedError(
                f"host {host} is not contacted: {address} is a private address, "
                "and private addresses are not allowed for this host "
                "(--allow-private-registry, or --allow-insecure-registry for plain HTTP)"
            )

    def _may_be_private(self, host: str) -> bool:
        hosts = {_without_port(registry) for registry in self.insecure}
        return host in hosts or any(matches(pattern, host) for pattern in self.private)

    def _admit_transport(self, registry: str, what: str, target: URL) -> None:
        if target.user or target.password or not target.raw_host:
            raise HostRefusedError(f"registry {registry}: {what} is not a plain URL")
        plain = target.scheme == "http" and target.raw_authority in self.insecure
        if target.scheme != "https" and not plain:
            raise HostRefusedError(
                f"registry {registry}: {what} to {target.raw_host} is not followed: "
                f"got {target.scheme or 'no scheme'}, expected https"
            )
        self._admit_literal(registry, target)

    def _admit_literal(self, registry: str, url: URL) -> None:
        """Check an address in a URL: literal ones never reach the resolver."""
        host = url.raw_host or ""
        literal = parse(host)
        if literal is not None:
            self.admit_address(host, literal)
        elif re.fullmatch(r"[0-9.]+|0[xX].*", host):
            raise HostRefusedError(f"registry {registry}: {host} is not a host name")


class GuardedResolver(AbstractResolver):
    """Resolves names and hands on only addresses that the guard admits.

    aiohttp connects to exactly what this returns, so there is no second lookup
    that could answer differently.
    """

    def __init__(self, guard: Guard, inner: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._inner = inner or DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the admitted addresses; ``HostRefusedError`` where none is."""
        found = await self._inner.resolve(host, port, family)
        admitted: list[ResolveResult] = []
        refused: HostRefusedError | None = None
        for result in found:
            try:
                self._guard.admit_address(host, ipaddress.ip_address(result["host"]))
            except HostRefusedError as error:
                refused = error
            else:
                admitted.append(result)
        if not admitted and refused is not None:
            raise refused
        return admitted

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


def guarded_socket(addr_info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
    """Make the socket for one connection, unless its address is one we never speak to.

    The last look before a connection, whichever way the address got here. Raises
    ``PermissionError``, because aiohttp reports only an ``OSError`` of a socket.
    """
    family, kind, protocol, _, sockaddr = addr_info
    address = parse(str(sockaddr[0]))
    if address is None or reach(address) is Reach.NEVER:
        raise PermissionError(errno.EACCES, "this address is never contacted")
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    return made


def matches(pattern: str, host: str) -> bool:
    """Whether a host (and port) fits a pattern; ``*`` stays within one label."""
    return pattern == host or bool("*" in pattern and _compiled(pattern).fullmatch(host))


def same_site(one: str, other: str) -> bool:
    """Whether two hosts belong to one owner, as far as their names can tell."""
    return one == other or (_site(one) == _site(other) != "")


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", r"[^.:/]+"))


def _listed(table: Mapping[str, tuple[str, ...]], registry: str, target: URL) -> bool:
    host = target.raw_host or ""
    return any(
        matches(pattern, host)
        for source, patterns in table.items()
        if matches(source, registry)
        for pattern in patterns
    )


def _site(host: str) -> str:
    """Guess the registrable part of a name; empty where siblings may be strangers."""
    labels = host.split(".")
    if parse(host) is not None or len(labels) < 2:  # noqa: PLR2004
        return ""
    if any(host == suffix or host.endswith(f".{suffix}") for suffix in _SHARED):
        return ""
    country = len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL  # noqa: PLR2004
    return ".".join(labels[-3:] if country else labels[-2:])


def _url(text: str, registry: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        raise HostRefusedError(f"registry {registry} is not contacted: not a host") from None


def _without_port(registry: str) -> str:
    head, colon, port = registry.rpartition(":")
    return (head if colon and port.isdigit() else registry).strip("[]")
