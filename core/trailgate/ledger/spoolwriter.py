"""Where batches of the spool are stored, and what a write that failed means.

The one protocol of all stores (etcd, a directory, a test's memory): it says nothing of
how they do it. What a batch is: ``trailgate.ledger.spool``.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from trailgate.ledger.spool import Batch
from trailgate.model.errors import TrailgateError


class SpoolWriteError(TrailgateError):
    """A batch was not written, or may not have been; the subclass says what may follow."""


class SpoolFullError(SpoolWriteError):
    """There is no room (a quota, a disk). It was not written by this attempt."""


class SpoolRefusedError(SpoolWriteError):
    """The store does not accept it (rights, schema, no such place). Not written."""


class SpoolUnreachableError(SpoolWriteError):
    """The store was not reached, or is too busy. Not written; try again."""


class SpoolAmbiguousError(SpoolWriteError):
    """It may have been written: only the same batch again settles it.

    The retry's answer settles it too when it is ``ALREADY_THERE`` or ``CREATED``, but not
    when it is ``SpoolFullError``: a quota is asked before the storage, and the first
    attempt may be what filled it.
    """


class Written(Enum):
    """How a batch came to be there."""

    CREATED = "created"
    ALREADY_THERE = "already-there"
    """Something of that name is there: an earlier attempt's, as only the gate creates."""


class BatchWriter(Protocol):
    """What stores batches."""

    async def write(self, batch: Batch, *, seconds: float | None = None) -> Written:
        """Store one batch, within ``seconds`` where the store can be bounded.

        When it returns, the batch is durable. Raises ``SpoolFullError``,
        ``SpoolRefusedError`` or ``SpoolUnreachableError`` (not written) or
        ``SpoolAmbiguousError``.
        """
        ...
