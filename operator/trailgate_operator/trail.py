"""What a loop has to say in the trail, and the one way there: through the recorder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Statement:
    """One claim of the operator's own (``trailgate.ledger.record`` builds them)."""

    key: str
    """Names it for ever: said again under the same key, nothing is stored. So a loop may
    say after a restart what it isn't sure to have said before."""
    claim: Mapping[str, Any]


Tell = Callable[[Sequence[Statement]], Awaitable[frozenset[str]]]
"""Returns when the statements are durable: the keys that were new. Raises
``LedgerUnavailableError`` where they are not, and may be said again; any other
``LedgerError`` ends the process."""
