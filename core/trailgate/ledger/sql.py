"""Loads the .sql files of this package: whole scripts, and statements by name."""

from __future__ import annotations

import re
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def script(name: str) -> str:
    """Return a whole .sql file of this package."""
    return resources.files("trailgate.ledger").joinpath(name).read_text(encoding="utf-8")


def statements(name: str) -> MappingProxyType[str, str]:
    """Return a .sql file's statements by the ``-- name:`` line before each."""
    parts = _NAME.split(script(name))
    return MappingProxyType(
        {key: text.strip() for key, text in zip(parts[1::2], parts[2::2], strict=True)}
    )
