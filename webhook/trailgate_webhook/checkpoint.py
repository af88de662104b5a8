"""The latest checkpoint of the ledger, for the API server's audit log: an anchor outside of it."""

from __future__ import annotations

from pathlib import Path

from trailgate.model.errors import TrailgateError

_LINES = 3
_MAX_BYTES = 4_096


class CheckpointError(TrailgateError):
    """The file is not a C2SP tlog-checkpoint; the last one read stays."""


class CheckpointFile:
    """Follows a file (a mounted ConfigMap) with a signed checkpoint; it may not be there yet.

    https://github.com/C2SP/C2SP/blob/main/tlog-checkpoint.md: origin, size and root are
    its first three lines. The signature is not checked here: whoever uses the audit log
    as an anchor compares all three with a checkpoint that they verify.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._latest: str | None = None
        self.refresh()

    def latest(self) -> str | None:
        """``ORIGIN SIZE ROOT``, or None while there is none."""
        return self._latest

    def refresh(self) -> None:
        """Read the file again; raises ``CheckpointError``."""
        try:
            text = self._path.read_bytes()[:_MAX_BYTES].decode("utf-8", "replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise CheckpointError(f"can't read {self._path}: {error.strerror}") from error
        lines = text.split("\n")
        if len(lines) <= _LINES or not lines[1].isdecimal() or not lines[0] or not lines[2]:
            raise CheckpointError(f"got {self._path} that is no checkpoint, expected a signed note")
        self._latest = " ".join(lines[:_LINES])
