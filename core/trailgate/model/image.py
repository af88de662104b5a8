"""Image references, parsed the way Kubernetes and containerd parse them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

# https://github.com/distribution/reference/blob/main/regexp.go, anchored.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAX_NAME = 255
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_DOCKER_HUB = ("docker.io", "index.docker.io")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where an image is, and which one: host, path, tag, digest.

    ``registry`` and ``repository`` are always filled in as the container runtime
    would (``nginx`` is ``docker.io/library/nginx``), so that a pattern is matched
    against what is really pulled.
    """

    registry: str
    """Host and optional port, lower case: ``ghcr.io``, ``127.0.0.1:5000``."""
    repository: str
    """Path without host, tag and digest: ``acme/web``."""
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an image string of a Pod spec; raises ``MalformedError``.

        Also refused, because runtimes and registries read them in more than one way:
        a bare image id, and a host that only its capitals tell from a path, or from
        Docker Hub.
        """
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        head, slash, tail = rest.rpartition("/")
        name, colon, tag_text = tail.partition(":")
        tag = tag_text if colon else None
        if tag is not None and not _TAG.fullmatch(tag):
            raise MalformedError(
                f"got tag {tag[:80]!r} in image {text[:200]!r}, expected [\\w][\\w.-]*"
            )
        path = f"{head}{slash}{name}"
        first, slash, remainder = path.partition("/")
        if slash and (
            "." in first or ":" in first or first == "localhost" or first.lower() != first
        ):
            registry, repository = first.lower(), remainder
            if registry != first and (registry in _DOCKER_HUB or not set(registry) & set(".:")):
                raise MalformedError(f"got registry {first[:80]!r}, expected it in lower case")
        else:
            registry, repository = "docker.io", path
        if registry in _DOCKER_HUB:
            registry = "docker.io"
            if "/" not in repository:
                repository = f"library/{repository}"
        if not _HOST.fullmatch(registry):
            raise MalformedError(
                f"got registry {registry[:80]!r} in image {text[:200]!r}, expected a host"
            )
        if (
            not _REPOSITORY.fullmatch(repository)
            or len(repository) > _MAX_NAME
            or _IDENTIFIER.fullmatch(text)
        ):
            raise MalformedError(
                f"got image {text[:200]!r}, "
                "expected host/path[:tag][@sha256:digest] with a lower-case path"
            )
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """Host and path without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def with_digest(self, digest: Digest) -> ImageReference:
        """Name the same repository by digest alone."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"
