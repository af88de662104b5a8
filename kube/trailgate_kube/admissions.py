"""Writing Admissions: the one thing that the webhook may create, and how that can fail.

The Protocol, its errors and the in-memory twin. They stand here, below both processes,
because every implementation (API server, directory, memory) raises the same errors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

from trailgate.model.errors import TrailgateError


class AdmissionWriteError(TrailgateError):
    """An Admission could not be written; the subclass says what that means."""


class AlreadyExistsError(AdmissionWriteError):
    """One of this name is there: after an ambiguous attempt that is success."""


class SpoolFullError(AdmissionWriteError):
    """Certainly not written: the cap on Admissions (a quota, or the disk) is reached."""


class RefusedError(AdmissionWriteError):
    """Certainly not written, and trying again won't help: forbidden, invalid, too large."""


class AmbiguousError(AdmissionWriteError):
    """It may or may not have been written: a time-out, a lost connection, a server error."""


class AdmissionWriter(Protocol):
    """Creates Admissions in Trailgate's own namespace."""

    async def create(self, name: str, spec: Mapping[str, Any]) -> None:
        """Create one, durably before it returns; raises ``AdmissionWriteError``."""


class MemoryAdmissions:
    """The in-memory twin. ``limit`` is the quota; ``failures`` are raised first, in order."""

    def __init__(self, limit: int = 5_000) -> None:
        self.limit = limit
        self.stored: dict[str, Mapping[str, Any]] = {}
        self.attempts: list[str] = []
        self.failures: list[AdmissionWriteError] = []

    async def create(self, name: str, spec: Mapping[str, Any]) -> None:
        """Store a copy of the specification under the name."""
        self.attempts.append(name)
        if self.failures:
            raise self.failures.pop(0)
        # In the order of the API server: quota is admission, the name is checked at storage.
        if len(self.stored) >= self.limit:
            raise SpoolFullError(f"got {len(self.stored)} Admissions, the limit is {self.limit}")
        if name in self.stored:
            raise AlreadyExistsError(f"Admission {name} already exists")
        self.stored[name] = copy.deepcopy(dict(spec))
