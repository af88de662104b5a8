"""Reading and writing the user's files, with errors that name them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trailgate.cli.errors import InputError

_PRIVATE = stat.S_IRUSR | stat.S_IWUSR
_PUBLIC = 0o644


def read(path: Path, limit: int) -> bytes:
    """Read at most ``limit`` bytes; raises ``InputError``."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if len(content) > limit:
        raise InputError(f"{path}: got more than {limit} bytes")
    return content


def create(path: Path, content: bytes, *, secret: bool) -> None:
    """Write a new file, 0600 where it is secret; one that exists is never touched."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, _PRIVATE if secret else _PUBLIC)
    except FileExistsError as error:
        raise InputError(f"{path}: it exists, and is not overwritten") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(f"{path}: {error.strerror or error}") from error
