"""What this process writes down: its claims, and its chain of sealed and signed batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from trailgate.ledger.record import (
    Context,
    ControlState,
    ControlSubject,
    GapCause,
    RefusalGroup,
    admitted,
    control_state,
    gap,
    refused,
)
from trailgate.ledger.spool import Batch, BatchKind, Link, new_boot, seal
from trailgate.ledger.spoolkeys import key_id
from trailgate.model.assessment import Assessment
from trailgate_webhook.own import OwnChange

Claim = Mapping[str, Any]


class Scribe(Protocol):
    """Builds the claims of this process, and its batches: sealed, numbered, chained, signed.

    Each of ``start``, ``batch`` and ``end`` takes the next number; ``written`` says that
    the last one built is there. Until then building again takes the same number.
    """

    def admitted(self, assessment: Assessment) -> Claim:
        """Build the claim of an allowed change; raises ``RecordError``."""

    def refused(self, group: RefusalGroup) -> Claim:
        """Build the claim of counted refusals."""

    def control(self, change: OwnChange) -> Claim:
        """Build the claim of a change to one of our own objects; raises ``RecordError``."""

    def gap(self, cause: GapCause, count: int, since: datetime) -> Claim:
        """Build the claim that so many things are missing since then."""

    def start(self) -> Batch:
        """Build the announcement of this boot, number 0."""

    def batch(self, kind: BatchKind, claims: Sequence[Claim]) -> Batch:
        """Build a batch of claims."""

    def end(self) -> Batch:
        """Build the announcement that no batch follows."""

    def written(self) -> int:
        """Go on to the next number; returns the one that was written."""


def _now() -> datetime:
    return datetime.now(UTC)


class SpoolScribe:
    """``Scribe`` in the format of ``trailgate.ledger.spool``; one per process."""

    def __init__(
        self,
        context: Context,
        recorder_key: X25519PublicKey,
        signer: Ed25519PrivateKey,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._context = context
        self._recorder_key = recorder_key
        self._signer = signer
        self._clock = clock
        self.boot = new_boot(clock())
        self._link = Link.first(self.boot)
        self._built: Batch | None = None

    def admitted(self, assessment: Assessment) -> Mapping[str, Any]:
        """Build the claim of an allowed change; raises ``RecordError``."""
        return admitted(assessment, self._context)

    def refused(self, group: RefusalGroup) -> Mapping[str, Any]:
        """Build the claim of counted refusals."""
        return refused(group, self._context)

    def control(self, change: OwnChange) -> Mapping[str, Any]:
        """Build the claim that somebody changed one of our own objects; raises ``RecordError``."""
        return control_state(
            self._context,
            change.at,
            change.subject,
            change.state,
            name=change.name,
            digest=change.digest,
            previous=change.previous,
            caller=change.caller,
        )

    def gap(self, cause: GapCause, count: int, since: datetime) -> Mapping[str, Any]:
        """Build the claim that so many things are missing since then."""
        now = self._clock()
        return gap(self._context, now, cause, count=count, since=since, until=now, boot=self.boot)

    def start(self) -> Batch:
        """Build the announcement of this boot, number 0."""
        return self._announcement(BatchKind.STARTED, ControlState.STARTED)

    def batch(self, kind: BatchKind, claims: Sequence[Mapping[str, Any]]) -> Batch:
        """Build a batch of claims."""
        self._built = seal(
            claims,
            link=self._link,
            kind=kind,
            recorder_key=self._recorder_key,
            signer=self._signer,
        )
        return self._built

    def end(self) -> Batch:
        """Build the announcement that no batch follows."""
        return self._announcement(BatchKind.ENDED, ControlState.ENDED)

    def written(self) -> int:
        """Go on to the next number; returns the one that was written."""
        assert self._built is not None
        number = self._link.seq
        self._link, self._built = self._built.following(), None
        return number

    def _announcement(self, kind: BatchKind, state: ControlState) -> Batch:
        claim = control_state(
            self._context,
            self._clock(),
            ControlSubject.GATE,
            state,
            name=self.boot,
            digest=key_id(self._signer.public_key()),
        )
        return self.batch(kind, [claim])
