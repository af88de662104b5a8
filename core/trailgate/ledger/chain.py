"""Whether batches follow from each other: what is in order, what is missing, what isn't ours.

A process writes its batches one at a time and in order, so whoever sees number n in a
consistent list and not n-1 sees a batch that was taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from trailgate.ledger.spool import Batch, BatchKind
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError


@dataclass(frozen=True, slots=True)
class Last:
    """The last batch of a process that was taken."""

    seq: int
    digest: Digest | None
    """None where it isn't known any more (``trailgate ledger repair``): the next batch is
    then held against its number and its signature alone."""
    ended: bool = False
    """It was the end announcement."""

    def to_bytes(self) -> bytes:
        """JSON, for a store's positions."""
        digest = None if self.digest is None else str(self.digest)
        value = {"seq": self.seq, "digest": digest, "ended": self.ended}
        return msgspec.json.encode(value)

    @classmethod
    def from_bytes(cls, content: bytes) -> Last:
        """Read it back; raises ``MalformedError``."""
        try:
            wire = msgspec.json.decode(content, type=_LastWire)
        except ValueError as error:  # also msgspec.DecodeError
            raise MalformedError(f"got no position of a process: {error}") from error
        digest = None if wire.digest is None else Digest.parse(wire.digest)
        return cls(wire.seq, digest, wire.ended)


class _LastWire(msgspec.Struct, forbid_unknown_fields=True):
    seq: int
    digest: str | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers of a process that aren't there, first and last inclusive."""

    boot: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Forked:
    """A batch that doesn't follow from the one before it, or came after the end."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Repeated:
    """A batch whose number was taken already: only its deletion is left to do."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Following:
    """What to do with a list of batches, in this order."""

    steps: tuple[Batch | Missing | Forked | Repeated, ...]
    last: Mapping[str, Last]
    """Positions after all of it, by boot: those that changed."""


def follow(last: Mapping[str, Last], batches: Iterable[Batch]) -> Following:
    """Put batches in order after what was taken before.

    ``batches`` are of a consistent list, opened (their signatures are good); ``last``
    has the position of each boot that is known. Missing numbers are told once, before
    the batch that shows them; the chain goes on from there.
    """
    steps: list[Batch | Missing | Forked | Repeated] = []
    positions: dict[str, Last] = {}
    for batch in sorted(batches, key=lambda one: (one.link.boot, one.link.seq)):
        boot, seq = batch.link.boot, batch.link.seq
        known = positions.get(boot, last.get(boot))
        expected = known.seq + 1 if known is not None else 0
        if seq < expected:
            assert known is not None
            same = seq < known.seq or known.digest in (None, batch.digest)
            steps.append(Repeated(batch) if same else Forked(batch))
            continue
        if known is not None and known.ended:
            steps.append(Forked(batch))
            continue
        if seq > expected:
            steps.append(Missing(boot, expected, seq - 1))
        elif _digest_before(known, batch) not in (None, batch.link.prev):
            steps.append(Forked(batch))
            continue
        steps.append(batch)
        positions[boot] = Last(seq, batch.digest, batch.kind is BatchKind.ENDED)
    return Following(tuple(steps), positions)


def _digest_before(known: Last | None, batch: Batch) -> Digest | None:
    return known.digest if known is not None else Digest.of(batch.link.boot.encode())
