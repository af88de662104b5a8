"""How much a registry may send, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one registry client. Sizes in bytes, times in seconds."""

    manifest: int = 4 * MIB
    blob: int = 8 * MIB
    artifacts: int = 32 * MIB
    """All attached blobs of one image together."""
    referrers: int = 256
    """Attached manifests (or signatures in one legacy manifest) that are looked at: as many
    as a list may have."""
    entries: int = 256
    """Of an index, or of a list of referrers over all its pages."""
    pages: int = 16
    redirects: int = 5
    connections: int = 16
    """At once to one host; further requests wait for one."""
    connect: float = 3.0
    """For the TCP connection to one address."""
    read: float = 5.0
    """Between two pieces of an answer."""
    total: float = 10.0
    """For one operation, with its token, redirects, retries and the whole body."""
    upload: float = 60.0
    """The same for one that writes."""
