"""What the ledger already says of changes: the observer goes on from there. Pure.

Only what is still open is kept: claims without an answer, and the last known state of
each object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from trailgate.assess.images import WORKLOADS
from trailgate.ledger.form import SCHEMA
from trailgate.ledger.record import Claimed, Thing, deletion_id, state_id
from trailgate.model.admission import Kind, ObjectKey
from trailgate.model.digest import Digest
from trailgate_operator.observer_images import AdmittedImage
from trailgate_operator.observer_windows import Window, Windows

_KINDS: Final = (
    "admitted", "persisted", "running", "ended", "not-persisted", "discrepancy", "baseline",
    "control-state",
)  # fmt: skip
_MARKS: Final = tuple(f'"kind":"{kind}"'.encode() for kind in _KINDS)
_STRANGE: Final = "NoAdmission"


@dataclass(frozen=True, slots=True)
class Admitted:
    """One claim on a persisted change."""

    claimed: Claimed
    thing: Thing
    operation: str
    decided: datetime
    images: tuple[AdmittedImage, ...]
    raises: bool
    """Whether it made a new generation: then its state can be recognised."""
    scale: bool
    """More replicas, and nothing else."""

    @property
    def change(self) -> Digest:
        """Its ``changeId``."""
        return self.claimed.change

    @property
    def deletes(self) -> bool:
        """Whether the object was to be deleted."""
        return self.operation == "DELETE"

    @property
    def rolls_out(self) -> bool:
        """Whether pods come of it: it can be running, and end."""
        return self.raises and not self.scale and not self.deletes


def admitted(index: int, record: Mapping[str, Any], cluster: str) -> Admitted | None:
    """Read an ``admitted`` record; None where it can't be joined: no uid, not a workload."""
    thing = thing_of(record["object"], (one["reference"] for one in record["images"]))
    if thing.uid is None or thing.key.kind not in WORKLOADS:
        return None
    change = Digest.parse(record["changeId"])
    parts = (cluster, thing.uid, thing.generation, thing.spec)
    fresh = [state_id(*parts)]
    if record["operation"] == "CREATE":
        fresh.append(state_id(*parts, ""))
    scale = record["subresource"] == "scale"
    return Admitted(
        claimed=Claimed(change, index),
        thing=thing,
        operation=record["operation"],
        decided=datetime.fromisoformat(record["decidedAt"]),
        images=tuple(map(_image, record["images"])),
        raises=not scale and change in fresh and change != deletion_id(cluster, thing.uid),
        scale=scale or record["requestClass"] == "scale",
    )


def thing_of(told: Mapping[str, Any], images: Iterable[str]) -> Thing:
    """Read an ``object`` of a record."""
    spec = told["specDigest"]
    return Thing(
        ObjectKey(Kind(told["group"], told["kind"]), told["namespace"], told["name"]),
        told["uid"],
        told["generation"],
        None if spec is None else Digest.parse(spec),
        tuple(images),
    )


def _image(told: Mapping[str, Any]) -> AdmittedImage:
    digest = told["digest"]
    return AdmittedImage(
        told["reference"],
        None if digest is None else Digest.parse(digest),
        frozenset(map(Digest.parse, told["platforms"])),
        frozenset(use["name"] for use in told["containers"] if use["class"] != "imageVolume"),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """The newest state of an object that was settled, or that the ledger speaks of."""

    generation: int
    spec: Digest | None
    explained: bool
    """False: a discrepancy was told of it."""
    replicas: int | None = None
    """How many it says, where it was seen: the ledger doesn't tell."""


@dataclass(slots=True)
class Held:
    """The change that an object has now."""

    claim: Admitted
    running: bool = False
    ended: bool = False


@dataclass(slots=True)
class Past:
    """Show it all records in order, then make a ``Join`` of it."""

    cluster: str
    """Uid of the kube-system namespace."""
    claims: dict[Digest, Admitted] = field(default_factory=dict)
    """Without an answer yet, by change."""
    known: dict[str, Known] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    baseline: bool = False
    """Whether it was taken."""
    windows: Windows = field(default_factory=Windows)
    away: list[Window] = field(default_factory=list)
    """All times in which the gate wasn't asked; that each of them was told isn't certain."""
    last: datetime | None = None
    """When the newest entry was recorded that isn't the command line's."""

    def noting(self, records: Iterable[bytes]) -> Iterator[bytes]:
        """Pass records through from index 0, noting each."""
        for index, record in enumerate(records):
            self.note(index, record)
            yield record

    def note(self, index: int, content: bytes) -> None:
        """Note the record of one entry."""
        if b'"component":"cli"' not in content:
            self._newest(content)
        if not any(mark in content for mark in _MARKS):
            return
        record = orjson.loads(content)
        if record.get("schema") != SCHEMA or record["cluster"]["uid"] != self.cluster:
            return
        tell = {
            "admitted": self._admitted,
            "persisted": self._persisted,
            "not-persisted": self._answered,
            "running": self._running,
            "ended": self._ended,
            "discrepancy": self._discrepancy,
            "baseline": self._baseline,
            "control-state": self._control_state,
        }.get(record["kind"])
        if tell is not None:
            tell(index, record)

    def _newest(self, content: bytes) -> None:
        _, found, rest = content.rpartition(b'"recordedAt":"')
        if found:
            self.last = datetime.fromisoformat(rest.partition(b'"')[0].decode())

    def _admitted(self, index: int, record: Mapping[str, Any]) -> None:
        claim = admitted(index, record, self.cluster)
        if claim is not None:
            self.claims[claim.change] = claim

    def _persisted(self, index: int, record: Mapping[str, Any]) -> None:
        claim = self._answered(index, record)
        thing = thing_of(record["object"], ())
        uid = thing.uid or ""
        if record["operation"] == "DELETE":
            self.known.pop(uid, None)
            return
        self._is(uid, thing, explained=True)
        before = self.held.get(uid)
        if claim is not None and claim.rolls_out and _newer(claim, before):
            self.held[uid] = Held(claim)

    def _answered(self, _: int, record: Mapping[str, Any]) -> Admitted | None:
        return self.claims.pop(Digest.parse(record["changeId"]), None)

    def _running(self, _: int, record: Mapping[str, Any]) -> None:
        held = self._of(record)
        if held is not None:
            held.running, held.ended = True, False
        thing = thing_of(record["object"], ())
        self._is(thing.uid or "", thing, explained=True)

    def _ended(self, _: int, record: Mapping[str, Any]) -> None:
        held = self._of(record)
        if held is not None:
            held.running, held.ended = False, True
        if record["cause"] == "deleted":
            self.held.pop(record["object"]["uid"], None)
            self.known.pop(record["object"]["uid"], None)

    def _discrepancy(self, _: int, record: Mapping[str, Any]) -> None:
        if record["why"] == _STRANGE:
            thing = thing_of(record["object"], ())
            self._is(thing.uid or "", thing, explained=False)

    def _baseline(self, _: int, record: Mapping[str, Any]) -> None:
        self.baseline = True
        for told in record["objects"]:
            thing = thing_of(told, ())
            self._is(thing.uid or "", thing, explained=True)

    def _control_state(self, _: int, record: Mapping[str, Any]) -> None:
        window = self.windows.note(record)
        if window is not None:
            self.away.append(window)

    def _is(self, uid: str, thing: Thing, *, explained: bool) -> None:
        before, generation = self.known.get(uid), thing.generation or 0
        if before is None or generation >= before.generation:
            self.known[uid] = Known(generation, thing.spec, explained)

    def _of(self, record: Mapping[str, Any]) -> Held | None:
        """Return what an object holds, if this record is about that."""
        held = self.held.get(record["object"]["uid"])
        return held if held is not None and str(held.claim.change) == record["changeId"] else None


def _newer(claim: Admitted, before: Held | None) -> bool:
    if before is None:
        return True
    return (claim.thing.generation or 0) >= (before.claim.thing.generation or 0)
