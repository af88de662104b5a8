"""From batches in the spool to entries for the ledger: checked, in order, each once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trailgate.ledger.chain import Forked, Last, Missing, Repeated, follow
from trailgate.ledger.people import Vault
from trailgate.ledger.record import (
    Context,
    GapCause,
    Position,
    RecordError,
    commit,
    encode,
    gap,
)
from trailgate.ledger.spool import (
    Batch,
    BatchKind,
    SpoolError,
    UnknownRecorderKeyError,
    UnknownSignerError,
    open_batch,
)
from trailgate.ledger.store import Entry
from trailgate.model.digest import Digest
from trailgate_kube.spool import Stored
from trailgate_operator.returns import ImageHistory


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens and checks batches. Several, so that keys can be rotated with overlap."""

    recorder: tuple[X25519PrivateKey, ...]
    signers: Mapping[Digest, Ed25519PublicKey]
    """The gates' public keys by ``key_id``."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What every entry needs beside its claim."""

    keys: Keys
    context: Context
    vault: Vault


@dataclass(frozen=True, slots=True)
class View:
    """When a page of the spool is looked at, and what is there before it."""

    now: datetime
    size: int
    """Of the ledger: the index that the first new entry will have."""
    history: ImageHistory
    """Ahead of the durable one; what is taken is noted in it."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Processes that an earlier page of the same list held back, and from which number."""


@dataclass(slots=True)
class Intake:
    """What one page of the spool comes to: one transaction, then deletions."""

    entries: list[Entry] = field(default_factory=list)
    last: dict[str, Last] = field(default_factory=dict)
    """Positions to keep in the same transaction, by boot: those that changed."""
    remove: list[Stored] = field(default_factory=list)
    """What may go once the entries are durable."""
    left: dict[str, str] = field(default_factory=dict)
    """Name of each Admission that stays where it is, and why."""
    told: list[Entry] = field(default_factory=list)
    """Gaps about what stays in the spool. They are told at every look, and stored once."""
    held: dict[str, int] = field(default_factory=dict)
    """Processes with a batch that can't be taken now, and its number: it and what comes
    after it wait. What comes before it doesn't: a forged batch must not hold up real ones."""

    def hold(self, boot: str, seq: int) -> None:
        """Let a process's batches from this number on wait."""
        self.held[boot] = min(seq, self.held.get(boot, seq))

    def waits(self, batch: Batch) -> bool:
        """Whether a batch has to wait for one before it, or for itself."""
        return batch.link.seq >= self.held.get(batch.link.boot, batch.link.seq + 1)


@dataclass(frozen=True, slots=True)
class _Opened:
    stored: Stored
    batch: Batch
    claims: tuple[dict[str, Any], ...]


def take(
    stored: Sequence[Stored],
    last: Mapping[str, Last],
    desk: Desk,
    view: View,
) -> Intake:
    """Work out what one page of a consistent list of the spool adds to the ledger.

    A batch that only our own configuration keeps us from reading (a key that we don't
    have, a newer form of claim) holds its process's later ones back, and stays: nothing
    is recorded past it. One that was tampered with is told as a ``gap``, and stays
    too: it is evidence. Everything else is recorded and may then be removed.
    """
    work = _Work(desk, view, Intake(held=dict(view.held)))
    for item in stored:
        work.open(item)
    intake = work.intake
    batches = [one.batch for one in work.opened.values() if not intake.waits(one.batch)]
    for step in follow(last, batches).steps:
        if isinstance(step, Missing):
            work.gaps[step.boot] = step
        elif isinstance(step, Forked):
            work.forked(step.batch)
        elif isinstance(step, Repeated):
            intake.remove.append(work.opened[step.batch.name].stored)
        elif not intake.waits(step):
            work.record(work.opened[step.name])
    return intake


@dataclass(frozen=True, slots=True)
class _Work:
    """One page on its way into an intake."""

    desk: Desk
    view: View
    intake: Intake
    opened: dict[str, _Opened] = field(default_factory=dict)
    gaps: dict[str, Missing] = field(default_factory=dict)
    """Numbers that never came, by process, until the batch that shows it is recorded."""

    def open(self, item: Stored) -> None:
        """Check and open one Admission, or say why it stays."""
        keys = self.desk.keys
        try:
            batch = Batch.from_spec(item.spec)
            claims = open_batch(
                batch, name=item.name, recorder_keys=keys.recorder, signer_keys=keys.signers
            )
        except (UnknownSignerError, UnknownRecorderKeyError) as error:
            self.intake.left[item.name] = str(error)
            self._hold_from(item.name)
        except SpoolError as error:
            self.intake.left[item.name] = str(error)
            key = f"unreadable/{item.uid}"
            self.intake.told.append(self._gap(GapCause.BATCH_UNREADABLE, key, None))
        else:
            self.opened[item.name] = _Opened(item, batch, claims)

    def _hold_from(self, name: str) -> None:
        """Hold a process back from the number in an object's name, which the CRD enforces."""
        boot, _, seq = name.rpartition("-")
        self.intake.hold(boot, int(seq) if seq.isdecimal() else 0)

    def record(self, one: _Opened) -> None:
        """Add a batch's claims and the gap that it shows, all of them or none.

        The gap alone would be told at every look while its batch can't be recorded, stored
        once, and then stand where an entry of the next look is expected to stand.
        """
        link, history = one.batch.link, self.view.history.ahead()
        first = self.view.size + len(self.intake.entries)
        entries = []
        if link.boot in self.gaps:
            entries.append(self._missing(self.gaps.pop(link.boot), first))
        try:
            for index, claim in enumerate(one.claims):
                position = Position(link.boot, link.seq, index)
                key = f"claim/{link.boot}/{link.seq}/{index}"
                place = first + len(entries)
                returns_to = history.returns_to(claim)
                entries.append(self._entry(claim, key, place, position, returns_to))
                history.admitted(place, claim)
        except RecordError as error:
            self.intake.left[one.stored.name] = str(error)
            self.intake.hold(link.boot, link.seq)
            return
        history.keep()
        self.intake.entries += entries
        ended = one.batch.kind is BatchKind.ENDED
        self.intake.last[link.boot] = Last(link.seq, one.batch.digest, ended)
        self.intake.remove.append(one.stored)

    def _missing(self, missing: Missing, place: int) -> Entry:
        """Tell of numbers that never came."""
        key = f"missing/{missing.boot}/{missing.first}-{missing.last}"
        return self._gap(GapCause.BATCHES_MISSING, key, missing, place)

    def forked(self, batch: Batch) -> None:
        """Tell of a batch that doesn't follow; it stays."""
        item, link = self.opened[batch.name].stored, batch.link
        at = Missing(link.boot, link.seq, link.seq)
        self.intake.told.append(self._gap(GapCause.CHAIN_FORKED, f"forked/{item.uid}", at))
        self.intake.left[item.name] = "it does not follow from the batch before it"

    def _gap(
        self, cause: GapCause, key: str, missing: Missing | None, place: int | None = None
    ) -> Entry:
        claim = gap(
            self.desk.context,
            self.view.now,
            cause,
            count=missing.count if missing else None,
            boot=missing.boot if missing else None,
            first_seq=missing.first if missing else None,
            last_seq=missing.last if missing else None,
        )
        return self._entry(claim, key, place)

    def _entry(
        self,
        claim: Mapping[str, Any],
        key: str,
        place: int | None,
        position: Position | None = None,
        returns_to: int | None = None,
    ) -> Entry:
        """Make an entry; the store refuses it where it would get another index than ``place``."""
        record, rows = commit(
            claim,
            self.desk.vault,
            recorded_at=self.view.now,
            position=position,
            returns_to=returns_to,
        )
        return Entry(encode(record), key, rows, place)
