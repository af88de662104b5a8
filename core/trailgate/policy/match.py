"""What a policy's patterns match: namespaces, images, source repositories, refs.

Everything is anchored. Hosts are compared, never matched. A ``*`` stays inside one
path segment, a ``**`` is one or more whole segments; so a trusted host inside
somebody else's path matches nothing. All patterns are compiled once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trailgate.model.image import ImageReference


@dataclass(frozen=True, slots=True)
class Names:
    """Namespace names and globs of ``*`` (any characters) and ``?`` (one)."""

    texts: tuple[str, ...]
    literals: frozenset[str]
    globs: re.Pattern[str] | None

    @classmethod
    def compile(cls, texts: Sequence[str]) -> Names:
        """Compile well-formed patterns (``syntax.namespace_pattern``)."""
        globs = [text for text in texts if "*" in text or "?" in text]
        parts = ["".join(_GLOB.get(char) or re.escape(char) for char in text) for text in globs]
        return cls(
            tuple(texts),
            frozenset(texts) - frozenset(globs),
            re.compile("|".join(parts)) if parts else None,
        )

    def match(self, name: str) -> bool:
        """Whether the whole name matches one of them."""
        if name in self.literals:
            return True
        return self.globs is not None and self.globs.fullmatch(name) is not None


_GLOB = {"*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Paths:
    """Patterns of ``/``-separated segments."""

    literals: frozenset[str] = frozenset()
    globs: re.Pattern[str] | None = None

    @classmethod
    def compile(cls, texts: Iterable[str]) -> Paths:
        """Compile well-formed patterns (``syntax``)."""
        known = tuple(texts)
        globs = [text for text in known if "*" in text]
        parts = ["/".join(_segment(part) for part in text.split("/")) for text in globs]
        return cls(
            frozenset(known) - frozenset(globs), re.compile("|".join(parts)) if parts else None
        )

    def match(self, path: str) -> bool:
        """Whether the whole path matches one of them."""
        if path in self.literals:
            return True
        return self.globs is not None and self.globs.fullmatch(path) is not None


def _segment(text: str) -> str:
    if text == "**":
        return "[^/]+(?:/[^/]+)*"
    if "*" not in text:
        return re.escape(text)
    # A segment ends in one place only, so what comes after need never look at it again:
    # without the atomic group a hostile path takes exponential time.
    inner = "".join("[^/]*" if char == "*" else re.escape(char) for char in text)
    return rf"(?>{inner}(?=/|\Z))"


@dataclass(frozen=True, slots=True)
class Hosted:
    """Patterns of host and path apart: images, or ``https://`` repositories."""

    texts: tuple[str, ...]
    hosts: Mapping[str, Paths] = field(default_factory=dict)

    @classmethod
    def images(cls, texts: Sequence[str]) -> Hosted:
        """Compile image patterns (``syntax.image_pattern``)."""
        return cls._compile(texts, texts)

    @classmethod
    def repositories(cls, texts: Sequence[str]) -> Hosted:
        """Compile source repository patterns (``syntax.repository_pattern``)."""
        return cls._compile(texts, [text.removeprefix("https://") for text in texts])

    @classmethod
    def _compile(cls, texts: Sequence[str], bare: Sequence[str]) -> Hosted:
        by_host: dict[str, list[str]] = {}
        for text in bare:
            host, _, path = text.partition("/")
            by_host.setdefault(host, []).append(path)
        return cls(tuple(texts), {host: Paths.compile(paths) for host, paths in by_host.items()})

    def match_image(self, image: ImageReference) -> bool:
        """Whether the image's normalised host and path match one of them."""
        paths = self.hosts.get(image.registry)
        return paths is not None and paths.match(image.repository)

    def match_repository(self, uri: str) -> bool:
        """Whether a normalised ``https://host/path`` matches one of them."""
        scheme, separator, rest = uri.partition("://")
        host, slash, path = rest.partition("/")
        if scheme != "https" or not separator or not slash:
            return False
        paths = self.hosts.get(host)
        return paths is not None and paths.match(path)
