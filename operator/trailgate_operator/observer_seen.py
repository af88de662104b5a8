"""A workload as the API server shows it, reduced to what the observer joins by. Pure.

Nothing here judges: digests, numbers and what nodes report are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from trailgate.assess.callers import CHILD_KIND, controller_of
from trailgate.assess.images import (
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
    find_images,
)
from trailgate.ledger.record import Thing
from trailgate.model.admission import ContainerImage, Kind, ObjectKey
from trailgate.model.canonical import canonical, fingerprint
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError, TrailgateError

_SCALED: Final = frozenset({DEPLOYMENT, STATEFUL_SET, REPLICA_SET, REPLICATION_CONTROLLER})
_PLACEHOLDER: Final = 907_199_254_740_991
_MARKS: Final = ("labels", "annotations", "finalizers", "ownerReferences")
_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_TRIES: Final = 2_000
_MOST_BYTES: Final = 32 * 2**20
"""What a search may hash: a fraction of a second, whatever somebody writes in a specification."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout is."""

    desired: int
    """Pods that are wanted."""
    ready: int
    """Pods of this very state that are ready."""
    settled: bool
    """Whether the controller has taken note of this state, and nothing else is there."""
    empty: bool = False
    """Whether no pods are wanted, and none are there."""
    done: bool = False
    """Whether it ran to its end."""


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One container of a pod: what its specification says, and what its node says runs."""

    name: str
    image: str
    running: str
    """``imageID``; empty while the node hasn't said."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A specification but for its replicas: two halves of its canonical JSON around them."""

    before: bytes
    after: bytes

    def is_with(self, replicas: int, spec: Digest) -> bool:
        """Whether with that number this is the specification of that digest."""
        return Digest.of(b'%s"replicas":%d%s' % (self.before, replicas, self.after)) == spec

    def replicas_of(self, spec: Digest, near: int) -> int | None:
        """Find the number with which this is the specification of that digest.

        Tried are at most 2,000 numbers, the nearest first, and fewer where the specification
        is large. None where none of them is it: more than the replicas differs, or they
        differ by more than that.
        """
        tries = min(_TRIES, _MOST_BYTES // (len(self.before) + len(self.after)))
        return next((one for one in _around(near, tries) if self.is_with(one, spec)), None)


def _around(near: int, tries: int) -> Iterator[int]:
    """Yield that many numbers from 0 up, the nearest first."""
    low = max(0, near - tries // 2)
    yield from sorted(range(low, low + tries), key=lambda one: abs(one - near))


@dataclass(frozen=True, slots=True)
class Seen:
    """One workload in one state."""

    thing: Thing
    specs: frozenset[Digest | None]
    """What its specification may have been when it was admitted: a pod's without its node, too.
    None: it has no canonical form, and so no digest."""
    frame: Frame | None
    """Of a kind with replicas, where its specification has a canonical form."""
    replicas: int | None
    marks: Digest
    """Of labels, annotations, finalizers and owners."""
    images: tuple[ContainerImage, ...]
    owner: tuple[Kind, str] | None
    """Kind and uid of what controls it."""
    created: datetime | None
    leaving: bool
    progress: Progress | None
    """None of a kind that runs nothing itself, or of what shows no status yet."""
    uses: tuple[ImageUse, ...] = ()
    """Of a pod."""

    @property
    def uid(self) -> str:
        """Of the object."""
        return self.thing.uid or ""

    @property
    def generation(self) -> int:
        """0 where the kind has none."""
        return self.thing.generation or 0

    @property
    def kind(self) -> Kind:
        """Of the object."""
        return self.thing.key.kind

    @property
    def controller(self) -> str | None:
        """Uid of the built-in workload that makes such objects; None: it stands for itself."""
        if self.owner is None or CHILD_KIND.get(self.owner[0]) != self.kind:
            return None
        return self.owner[1]


def seen(kind: Kind, item: Mapping[str, Any]) -> Seen:
    """Read an object of one of the eight kinds; raises ``TrailgateError`` where it can't be."""
    metadata, spec = _mapping(item.get("metadata")), _mapping(item.get("spec"))
    images = _images(kind, item)
    thing = Thing(
        ObjectKey(kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or "")),
        str(metadata.get("uid") or ""),
        metadata.get("generation"),
        _digest(_unbound(kind, spec)),
        tuple(dict.fromkeys(use.image for use in images)),
    )
    owner = controller_of(item)
    return Seen(
        thing=thing,
        specs=_specs(kind, spec),
        frame=_frame(kind, spec),
        replicas=_count(spec.get("replicas", 1)) if kind in _SCALED else None,
        marks=fingerprint({name: metadata.get(name) for name in _MARKS}),
        images=images,
        owner=None if owner is None else (owner[0], owner[2]),
        created=_moment(metadata.get("creationTimestamp")),
        leaving=bool(metadata.get("deletionTimestamp")),
        progress=_progress(kind, item),
        uses=_uses(item) if kind == POD else (),
    )


def _images(kind: Kind, item: Mapping[str, Any]) -> tuple[ContainerImage, ...]:
    try:
        return find_images(kind, item)
    except TrailgateError:  # it is there all the same
        return ()


def _specs(kind: Kind, spec: Mapping[str, Any]) -> frozenset[Digest | None]:
    return frozenset({_digest(spec), _digest(_unbound(kind, spec))})


def _digest(spec: Mapping[str, Any]) -> Digest | None:
    """Fingerprint a specification; None without a canonical form: it is there all the same."""
    try:
        return fingerprint(spec)
    except MalformedError:
        return None


def _unbound(kind: Kind, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a pod's specification as it was before the scheduler chose a node."""
    if kind != POD or "nodeName" not in spec:
        return spec
    return {name: value for name, value in spec.items() if name != "nodeName"}


def _frame(kind: Kind, spec: Mapping[str, Any]) -> Frame | None:
    if kind not in _SCALED:
        return None
    try:
        text = canonical({**spec, "replicas": _PLACEHOLDER})
    except MalformedError:
        return None
    before, _, after = text.partition(b'"replicas":%d' % _PLACEHOLDER)
    return Frame(before, after)


def _progress(kind: Kind, item: Mapping[str, Any]) -> Progress | None:
    spec, status = _mapping(item.get("spec")), _mapping(item.get("status"))
    generation = _mapping(item.get("metadata")).get("generation")
    noticed = status.get("observedGeneration") == generation
    if kind == POD:
        return _of_pod(status)
    if kind == JOB:
        return _of_job(spec, status)
    if kind == DAEMON_SET:
        desired, there = _count(status.get("desiredNumberScheduled")), _count(
            status.get("currentNumberScheduled")
        )  # fmt: skip
        updated = _count(status.get("updatedNumberScheduled"))
        ready = min(_count(status.get("numberReady")), updated)
        stale = _count(status.get("numberMisscheduled"))
        settled = noticed and desired == there == updated == ready > 0 and not stale
        return Progress(desired, ready, settled)
    if kind not in _SCALED:
        return None
    desired, there = _count(spec.get("replicas", 1)), _count(status.get("replicas"))
    updated = there
    if kind in (DEPLOYMENT, STATEFUL_SET):
        updated = _count(status.get("updatedReplicas"))
    ready = min(_count(status.get("readyReplicas")), updated)
    settled = noticed and desired == there == updated == ready > 0
    return Progress(desired, ready, settled, empty=noticed and desired == there == 0)


def _of_pod(status: Mapping[str, Any]) -> Progress:
    phase = status.get("phase")
    conditions = status.get("conditions")
    ready = any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in (conditions if isinstance(conditions, list) else ())
    )
    done = phase in ("Succeeded", "Failed")
    return Progress(1, int(ready), ready or done, done=done)


def _of_job(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Progress:
    ended = _count(status.get("succeeded")) + _count(status.get("failed"))
    ready = _count(status.get("ready"))
    conditions = status.get("conditions")
    done = any(
        one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        for one in (conditions if isinstance(conditions, list) else ())
    )
    desired = _count(spec.get("parallelism", 1))
    return Progress(desired, ready + ended, ready + ended > 0, done=done)


def _uses(item: Mapping[str, Any]) -> tuple[ImageUse, ...]:
    status = _mapping(item.get("status"))
    running = {
        str(one.get("name")): str(one.get("imageID") or "")
        for name in _STATUSES
        for one in (status.get(name) or ())
        if isinstance(one, Mapping)
    }
    spec = _mapping(item.get("spec"))
    return tuple(
        ImageUse(name, str(one.get("image") or ""), running.get(name, ""))
        for field in ("containers", "initContainers", "ephemeralContainers")
        for one in (spec.get(field) or ())
        if isinstance(one, Mapping) and (name := str(one.get("name")))
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
