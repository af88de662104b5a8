"""Questions to a ledger: which changes, by when, where, who, what; one row a change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import orjson

from trailgate.ledger.disclosures import Disclosures
from trailgate.ledger.errors import UnknownSchemaError
from trailgate.ledger.form import SCHEMA, stamp
from trailgate.ledger.index import Index
from trailgate.ledger.index_rows import STAGES
from trailgate.ledger.people import Revealed
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

_REVISION = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for; None is everything. All that is given must hold."""

    start: datetime | None = None
    """``decidedAt`` is this or later."""
    end: datetime | None = None
    """``decidedAt`` is earlier than this."""
    kind: str | None = None
    """Of entries; a change is found by what became of it, too."""
    state: str | None = None
    """What became of a change, so far: ``admitted`` or one of ``STAGES``."""
    outcome: str | None = None
    namespace: str | None = None
    workload: str | None = None
    """``web`` or ``Deployment/web``."""
    committer: str | None = None
    """An id (``github:1001``) or a login, exactly."""
    approver: str | None = None
    caller: str | None = None
    image: str | None = None
    """A digest, ``sha256:<hex>``: of an image or one of its platforms."""
    commit: str | None = None
    """7 or more hexadecimal digits that it begins with."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that became of an admitted change."""

    kind: str
    index: int
    at: str
    """``decidedAt`` of its entry."""


@dataclass(frozen=True, slots=True)
class Found:
    """One change (or other event), as its last claim tells it."""

    index: int
    record: dict[str, Any]
    """Empty where the entry is of another schema."""
    revealed: dict[str, Revealed]
    """What the record's commitments open to."""
    claims: int = 1
    """How often the change was claimed: the API server reviews one again after a conflict."""
    first: int = 0
    """Index of its first claim."""
    stages: tuple[Stage, ...] = ()
    """What became of it, in log order."""


def moment(text: str) -> datetime:
    """Read an RFC 3339 time or a date (its first instant, UTC); raises ``MalformedError``."""
    try:
        if len(text) == len("2026-11-23"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedError(
            f"got time {text!r}, expected 2026-11-23 or 2026-11-23T13:06:00Z"
        ) from error
    if found.tzinfo is None:
        raise MalformedError(f"got time {text!r} without a time zone, expected Z or an offset")
    return found


class Question:
    """One or more questions to one state of a ledger."""

    def __init__(self, reader: SqliteReader, index: Index) -> None:
        self._reader, self._index = reader, index
        self._disclosures = Disclosures(reader)
        self.unknown: list[str] = []
        """Who was asked for and is nobody in the ledger (any more: the erased have no name)."""

    def select(self, asked: Filter) -> list[tuple[int, int, int]]:
        """Return (index, claims, first index) of each change that matches, in log order.

        Raises ``MalformedError`` for a filter that can't be meant.
        """
        kind, _, name = (asked.workload or "").rpartition("/")
        if asked.image is not None:
            Digest.parse(asked.image)
        if asked.commit is not None and not _REVISION.fullmatch(asked.commit):
            raise MalformedError(
                f"got commit {asked.commit[:80]!r}, expected 7 to 64 lower-case hexadecimal digits"
            )
        return self._index.select(
            {
                "start": None if asked.start is None else stamp(asked.start),
                "end": None if asked.end is None else stamp(asked.end),
                "kind": asked.kind,
                "state": asked.state,
                "outcome": asked.outcome,
                "namespace": asked.namespace,
                "workload_kind": kind or None,
                "workload_name": name or None,
                "committer": self._people(asked.committer),
                "approver": self._people(asked.approver),
                "caller": self._people(asked.caller),
                "image": asked.image,
                "revision": asked.commit,
            }
        )

    def find(self, selected: list[tuple[int, int, int]]) -> Iterator[Found]:
        """Read what was selected; of another schema's entry, just that it is there."""
        for index, claims, first in selected:
            try:
                yield self.read(index, claims, first)
            except UnknownSchemaError:
                yield Found(index, {}, {}, claims, first)

    def read(self, index: int, claims: int = 1, first: int | None = None) -> Found:
        """Read one entry (``EntryNotFoundError``, ``UnknownSchemaError``)."""
        (content,) = self._reader.records(index, index + 1)
        record = parse(index, content)
        opened = self._disclosures.of(index, record)
        start = index if first is None else first
        return Found(index, record, opened, claims, start, tuple(self._stages(record)))

    def _stages(self, record: dict[str, Any]) -> Iterator[Stage]:
        """Yield what became of an admission: the index finds it, and the entries say it."""
        if record["kind"] != "admitted":
            return
        change = record["changeId"]
        for index in self._index.stages(change):
            (content,) = self._reader.records(index, index + 1)
            stage = parse(index, content)
            if stage["kind"] in STAGES and stage["changeId"] == change:
                yield Stage(stage["kind"], index, stage["decidedAt"])

    def _people(self, asked: str | None) -> str | None:
        """Give the commitments to the ids of whoever has this id or login."""
        if asked is None:
            return None
        # The cluster's own users are no persons and stand in clear.
        found = [asked] if asked.startswith("system:") else []
        for person, login in self._index.people():
            names = [self._disclosures.open(one) for one in (person, login) if one is not None]
            if any(opened is not None and opened.value == asked for opened in names):
                found.append(person)
        if not found:
            self.unknown.append(asked)
        return json.dumps(found)


def parse(index: int, content: bytes) -> dict[str, Any]:
    """Read a record's JSON; ``UnknownSchemaError`` where it is not one of ours."""
    try:
        record = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise UnknownSchemaError(f"entry {index} is not JSON: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise UnknownSchemaError(
            f"entry {index} is not of schema {SCHEMA}: this version can't show it"
        )
    return record
