"""One writer: an advisory lock beside the ledger, which dies with its holder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from trailgate.ledger.errors import LedgerError, LedgerLockedError

_SHOWN = 200


class WriterLock:
    """Holds ``<ledger>.lock`` until released or until the process ends, however it ends."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(f"{ledger.name}.lock")
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"can't open the lock {self._path}: {error}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, _SHOWN, 0).decode("utf-8", "replace").strip()
            os.close(self._descriptor)
            raise LedgerLockedError(
                f"{ledger} is being written by {holder or 'another process'}; "
                "there is one writer at a time"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next writer in. The file stays: removing it would race."""
        os.close(self._descriptor)
