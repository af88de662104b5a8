"""A spool without a cluster, to measure the gate or to try it: a file per Admission.

``NAME.json`` holds the canonical JSON of the Admission's ``spec``. A file appears
whole or not at all, under a name that is never reused, and is on the disk before
``write`` returns. Nothing of ours records what lies there.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import time
from pathlib import Path

from trailgate.ledger.spool import Batch
from trailgate.ledger.spoolwriter import (
    SpoolAmbiguousError,
    SpoolFullError,
    SpoolRefusedError,
    Written,
)
from trailgate.model.canonical import canonical

#: As many as the chart's ResourceQuota allows in a cluster.
DEFAULT_LIMIT = 5_000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMLINK})
_AMBIGUOUS = frozenset({errno.EIO, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT})
_SUFFIX = ".json"
_RECOUNT = 0.5  # seconds; others write and delete here too


class DirectoryAdmissions:
    """``BatchWriter`` on files; at most ``limit`` wait to be recorded."""

    def __init__(self, directory: Path, limit: int = DEFAULT_LIMIT) -> None:
        self._directory = directory
        self._limit = limit
        self._count, self._counted_at = self._counted(), time.monotonic()

    async def write(self, batch: Batch, *, seconds: float | None = None) -> Written:  # noqa: ARG002 - a disk has no deadline
        """Write one file durably; raises ``SpoolWriteError``."""
        return await asyncio.to_thread(self._create, batch.name, canonical(batch.to_spec()))

    def _create(self, name: str, content: bytes) -> Written:
        try:
            if self._count >= self._limit or time.monotonic() - self._counted_at > _RECOUNT:
                self._count, self._counted_at = self._counted(), time.monotonic()
            if self._count >= self._limit:
                raise SpoolFullError(f"got {self._count} files, the limit is {self._limit}")
            self._write(name, content)
        except FileExistsError:
            return Written.ALREADY_THERE
        except OSError as error:
            text = f"{error.strerror} in the spool directory"
            if error.errno in _FULL:
                raise SpoolFullError(text) from error
            if error.errno in _AMBIGUOUS:
                raise SpoolAmbiguousError(text) from error
            raise SpoolRefusedError(text) from error
        self._count += 1
        return Written.CREATED

    def _write(self, name: str, content: bytes) -> None:
        # A name of its own for each attempt: one that timed out may still be writing.
        draft = self._directory / f".{name}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces what is there.
            draft.with_name(f"{name}{_SUFFIX}").hardlink_to(draft)
        finally:
            draft.unlink(missing_ok=True)
        self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _counted(self) -> int:
        with os.scandir(self._directory) as entries:
            return sum(1 for entry in entries if entry.name.endswith(_SUFFIX))
