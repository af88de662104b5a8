"""How a schema field describes itself: to msgspec, to ``parse`` and to the CRD at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Meta


def text(
    description: str,
    *,
    check: Callable[[str], str | None] | None = None,
    pattern: str | None = None,
    least: int = 1,
    most: int = 253,
    quiet: bool = False,
) -> Meta:
    """Describe a string: its limits for msgspec and the CRD, its meaning for ``parse``.

    ``quiet``: errors must not repeat it, because a secret may stand there by mistake.
    """
    return Meta(
        description=description,
        min_length=least,
        max_length=most,
        extra_json_schema={"pattern": pattern} if pattern else None,
        extra={"check": check, "quiet": quiet} if check else None,
    )


def items(
    description: str, *, least: int = 0, most: int = 64, kind: str = "set", key: str = ""
) -> Meta:
    """Describe a list; ``kind`` is how server-side apply merges it."""
    merge: dict[str, Any] = {"x-kubernetes-list-type": kind}
    if key:
        merge["x-kubernetes-list-map-keys"] = [key]
    return Meta(
        description=description,
        min_length=least or None,
        max_length=most,
        extra_json_schema=merge,
        extra={"unique": key} if kind != "atomic" else None,
    )
