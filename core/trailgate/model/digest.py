"""Content digests, as OCI writes them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from trailgate.model.errors import MalformedError

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 content digest.

    Only SHA-256, in lower case: a second spelling of one digest is how a subject
    match has been fooled elsewhere (CVE-2026-31830).
    Form: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
    """

    hex: str
    """64 lower-case hexadecimal digits."""

    def __post_init__(self) -> None:
        """Refuse anything but 64 lower-case hexadecimal digits (``MalformedError``)."""
        if not _SHA256_HEX.fullmatch(self.hex):
            raise MalformedError(
                f"got {self.hex[:80]!r}, expected 64 lower-case hexadecimal digits of SHA-256"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``sha256:<64 hex>``; anything else raises ``MalformedError``."""
        algorithm, separator, value = text.partition(":")
        if not separator or algorithm != "sha256":
            raise MalformedError(f"got digest {text[:80]!r}, expected sha256:<64 hex digits>")
        return cls(value)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Hash ``content``."""
        return cls(hashlib.sha256(content).hexdigest())

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
