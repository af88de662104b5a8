"""Why a piece of evidence proves nothing, as an exception inside this package.

``verify`` turns each into a ``Rejected``; nothing of this kind leaves it.
"""

from __future__ import annotations

from trailgate.model.errors import TrailgateError
from trailgate.model.reason import Reason


class RefusedError(TrailgateError):
    """One artifact proves nothing; ``reason`` is the code, the text is for a person."""

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        predicate_type: str | None = None,
        signer_hint: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.predicate_type = predicate_type
        self.signer_hint = signer_hint


def malformed(detail: str) -> RefusedError:
    """Not in the form it must have."""
    return RefusedError(Reason.MALFORMED, detail)
