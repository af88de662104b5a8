"""A spool in memory that fails when it is told to."""

from trailgate.ledger.spoolwriter import SpoolFullError, Written


class MemoryAdmissions:
    """``limit`` is the quota; ``failures`` are raised first, in order."""

    def __init__(self, limit=5_000):
        self.limit = limit
        self.stored = {}
        self.attempts = []
        self.failures = []

    async def write(self, batch, *, seconds=None):
        self.attempts.append(batch.name)
        if self.failures:
            raise self.failures.pop(0)
        # In the order of the API server: quota is admission, the name is checked at storage.
        if len(self.stored) >= self.limit:
            raise SpoolFullError(f"got {len(self.stored)} Admissions, the limit is {self.limit}")
        if batch.name in self.stored:
            return Written.ALREADY_THERE
        self.stored[batch.name] = batch.to_spec()
        return Written.CREATED
