"""What the trail says is there of one part of the control: by name, with its digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from trailgate.ledger.form import stamp
from trailgate.ledger.record import Context, ControlState, ControlSubject, control_state
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence
from trailgate_operator.trail import Statement


@dataclass(slots=True)
class Register:
    """The objects of one subject that the trail says are there. Show it all records in order."""

    subject: ControlSubject
    known: dict[str, str] = field(default_factory=dict)
    """Digest by name."""

    def noting(self, records: Iterable[bytes]) -> Iterator[bytes]:
        """Pass records through, noting each."""
        for record in records:
            self.note(record)
            yield record

    def note(self, content: bytes) -> None:
        """Note one record."""
        if f'"subject":"{self.subject.value}"'.encode() not in content:
            return
        record = orjson.loads(content)
        if record["kind"] != "control-state" or record["subject"] != self.subject.value:
            return
        if record["digest"] is None:
            self.known.pop(record["name"], None)
        else:
            self.known[record["name"]] = record["digest"]

    def difference(
        self, context: Context, now: datetime, name: str, digest: str | None, caller: Absence
    ) -> Statement:
        """Say that ``name`` is now of this digest (None: gone), and was what is known of it."""
        before = self.known.get(name)
        if digest is None:
            state = ControlState.DELETED
        else:
            state = ControlState.CREATED if before is None else ControlState.CHANGED
        claim = control_state(
            context, now, self.subject, state,
            name=name,
            digest=None if digest is None else Digest.parse(digest),
            previous=None if before is None else Digest.parse(before),
            caller=caller,
        )  # fmt: skip
        return Statement(f"{self.subject.value}/{name}/{digest}/{stamp(now)}", claim)
