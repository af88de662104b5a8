"""Authorities in a file that somebody else keeps, and those before them while gates need both."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from trailgate_kube.errors import KubeError

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


class AsksGate(Protocol):
    """Asks the gate what the API server would ask it."""

    async def problem(self, bundle: bytes) -> str | None:
        """Return what is wrong with the answer; None where a gate answered well."""
        ...


@dataclass(frozen=True, slots=True)
class FileAuthorities:
    """Authorities in a file that somebody else keeps; read anew each time."""

    path: Path

    def bundle(self) -> bytes | None:
        """Return the file; None while it can't be read, or has no certificate in it.

        An empty bundle would not mean "nobody": the API server would trust the system's roots.
        """
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        return content if _BEGIN in content else None


class Overlap:
    """The file's authorities; after a change the ones before, too, until a gate has the new.

    The file and the gates' certificates change in any order, and not at once.
    """

    def __init__(
        self, file: FileAuthorities, published: Callable[[], bytes | None], gate: AsksGate
    ) -> None:
        self._file, self._published, self._gate = file, published, gate
        self._last: bytes | None = None
        """What was given last: somebody's edit of what is published is not among it."""
        self._proven: bytes | None = None
        """A content of the file under which a gate has answered, that alone."""

    def bundle(self) -> bytes | None:
        """Return them, PEM; None while there are none. Raises ``KubeError``."""
        new = self._file.bundle()
        if new is None:
            return None
        before = self._published() if self._last is None else self._last
        if self._proven != new:
            new = _both(before or b"", new)
        self._last = new
        return new

    async def prove(self) -> None:
        """Ask a gate under the file's alone, where others are kept beside them."""
        new = self._file.bundle()
        if new is None or new in (self._proven, self.bundle()):
            return
        try:
            wrong = await self._gate.problem(new)
        except KubeError:  # it can't be asked: both stay
            return
        if wrong is None:
            self._proven = new


def _both(before: bytes, new: bytes) -> bytes:
    """Join them, each certificate once; what is nothing more than ``new`` stays ``new``."""
    old, added = _certificates(before), _certificates(new)
    if set(old) <= set(added):
        return new
    return b"".join([*old, *(one for one in added if one not in old)])


def _certificates(bundle: bytes) -> list[bytes]:
    return [one.strip() + b"\n" for one in _PEM.findall(bundle)]
