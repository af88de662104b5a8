"""The Disarms that the trail says are in effect: what ended while nobody looked is told, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from trailgate.ledger.people import reveal
from trailgate.ledger.record import DisarmState
from trailgate_kube.disarms import Disarm

_MARK: Final = b'"kind":"disarm"'
_ERASED: Final = "(erased)"


@dataclass(slots=True)
class KnownDisarms:
    """Those that were accepted, and of whose end the trail has nothing. Show it all records."""

    rows: Callable[[int], Mapping[str, bytes]] = lambda _: {}
    """Reads what opens the texts of the entry at an index; without those that were erased."""
    _accepted: dict[str, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    """Index and record by the Disarm's uid."""

    def noting(self, records: Iterable[bytes]) -> Iterator[bytes]:
        """Pass records through from index 0, noting each."""
        for index, record in enumerate(records):
            self.note(index, record)
            yield record

    def note(self, index: int, content: bytes) -> None:
        """Note the record at an index."""
        if _MARK not in content:
            return
        record = orjson.loads(content)
        if record["kind"] != "disarm":
            return
        if record["state"] == DisarmState.ACCEPTED:
            self._accepted[record["uid"]] = index, record
        else:
            self._accepted.pop(record["uid"], None)

    def in_effect(self) -> tuple[Disarm, ...]:
        """Return them as they were, with the texts that the ledger still opens."""
        return tuple(_disarm(record, self.rows(at)) for at, record in self._accepted.values())


def _disarm(record: Mapping[str, Any], rows: Mapping[str, bytes]) -> Disarm:
    opened = reveal(rows)

    def text(at: Mapping[str, Any]) -> str:
        committed = record["texts"][at["text"]]
        return opened[committed].value if committed in opened else _ERASED

    until, ticket = record["until"], record["ticket"]
    return Disarm(
        name=record["name"],
        uid=record["uid"],
        generation=0,
        created=datetime.fromisoformat(record["decidedAt"]),
        until=None if until is None else datetime.fromisoformat(until),
        reason=text(record["reason"]),
        ticket=None if ticket is None else text(ticket),
    )
