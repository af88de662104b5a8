"""How long to wait before trying again: longer each time, never in step with others."""

from __future__ import annotations

import asyncio
import random

_FIRST = 0.2
_LONGEST = 10.0


class Backoff:
    """Seconds 0.2, 0.4 … 10, each varied by a fifth."""

    def __init__(self, first: float = _FIRST, longest: float = _LONGEST) -> None:
        self._first = first
        self._longest = longest
        self.next = first

    def reset(self) -> None:
        """Begin again with the shortest wait: it went well."""
        self.next = self._first

    async def sleep(self) -> None:
        """Wait, and make the next wait twice as long."""
        seconds = self.next
        self.next = min(seconds * 2, self._longest)
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311
