"""What an update changes: JSON pointers (RFC 6901), never values.

The list of what is *not* a change is positive: status, finalizers, labels and
annotations known to select and to trigger nothing, fewer replicas. Whatever is not
on it is a change, also what nobody has thought of yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from trailgate.assess.harmless import is_harmless
from trailgate.assess.images import (
    DEPLOYMENT,
    POD,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
    WORKLOADS,
)
from trailgate.model.admission import Kind
from trailgate.model.errors import MalformedError

#: A record is under 64 KiB; what doesn't fit is said one level coarser, never dropped.
MAX_POINTERS = 64
MAX_POINTER_LENGTH = 256
_MAX_DEPTH = 48

# The API server's own bookkeeping: neither a change nor part of one.
_SERVER_TOP = frozenset({"apiVersion", "kind", "status"})
_SERVER_METADATA = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
    }
)
_SCALED = frozenset({DEPLOYMENT, STATEFUL_SET, REPLICA_SET, REPLICATION_CONTROLLER})
# Their own labels select them: Services and NetworkPolicies pick Pods, a Deployment
# adopts ReplicaSets.
_SELECTED_BY_LABEL = frozenset({POD, REPLICA_SET})
_REPLICAS = "/spec/replicas"


@dataclass(frozen=True, slots=True)
class Delta:
    """The difference between an object's old and new form."""

    effective: tuple[str, ...] = ()
    """Pointers to what may change what runs; without a changed number of replicas."""
    quiet: tuple[str, ...] = ()
    """Pointers to changes that are on the positive list."""
    scaled_up: bool = False
    scaled_down: bool = False

    @property
    def pointers(self) -> tuple[str, ...]:
        """Every change, sorted: at most 64 pointers of at most 256 characters.

        Where there are more, all are given one or several levels coarser: a pointer
        then means "something under here".
        """
        scaled = (_REPLICAS,) if self.scaled_up or self.scaled_down else ()
        return bounded((*self.effective, *self.quiet, *scaled))


def compare(
    kind: Kind,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    harmless: frozenset[str] = frozenset(),
) -> Delta:
    """Say what changed between two forms of one object; raises ``MalformedError``.

    ``harmless`` adds metadata keys to the positive list.
    """
    typed = kind in WORKLOADS
    effective: list[str] = []
    quiet: list[str] = []
    replicas = 0
    for key in sorted({*old, *new} - _SERVER_TOP):
        before, after = old.get(key), new.get(key)
        if _same(before, after, typed=typed):
            continue
        if key == "metadata":
            for pointer, free in _metadata(kind, before, after, harmless):
                (quiet if free else effective).append(pointer)
            continue
        pointers = list(_walk(before, after, f"/{escape(key)}", 0))
        if key == "spec" and kind in _SCALED and _REPLICAS in pointers:
            replicas = _step(before, after)
            if replicas:
                pointers.remove(_REPLICAS)
        effective += pointers
    return Delta(tuple(effective), tuple(quiet), replicas > 0, replicas < 0)


def compare_scale(old: Mapping[str, Any], new: Mapping[str, Any]) -> Delta:
    """Say what an update of a ``scale`` subresource (kind Scale) changes."""
    before, after = _mapping(old.get("spec"), "spec"), _mapping(new.get("spec"), "spec")
    step = _replicas(after, 0) - _replicas(before, 0)
    return Delta(scaled_up=step > 0, scaled_down=step < 0)


def bounded(pointers: Iterable[str]) -> tuple[str, ...]:
    """Sort pointers and make them few and short by naming ancestors where needed."""
    found = sorted({_short(pointer) for pointer in pointers})
    depth = max((pointer.count("/") for pointer in found), default=0)
    while len(found) > MAX_POINTERS and depth > 0:
        depth -= 1
        found = sorted({"/".join(pointer.split("/")[: depth + 1]) for pointer in found})
    return tuple(found)


def escape(token: str) -> str:
    """Write one reference token of a JSON pointer."""
    return token.replace("~", "~0").replace("/", "~1")


def _metadata(
    kind: Kind, old: Any, new: Any, harmless: frozenset[str]
) -> Iterator[tuple[str, bool]]:
    """Yield what differs, and whether it is on the positive list."""
    old, new = _mapping(old, "metadata"), _mapping(new, "metadata")
    for field in sorted({*old, *new} - _SERVER_METADATA):
        before, after = old.get(field), new.get(field)
        path = f"/metadata/{escape(field)}"
        if before == after:
            continue
        if field not in ("labels", "annotations"):
            yield path, field == "finalizers"
            continue
        selects = field == "labels" and (kind in _SELECTED_BY_LABEL or kind not in WORKLOADS)
        before, after = _mapping(before, path), _mapping(after, path)
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                yield f"{path}/{escape(name)}", not selects and is_harmless(name, harmless)


def _walk(old: Any, new: Any, path: str, depth: int) -> Iterator[str]:
    """Yield the deepest pointers under which two values differ."""
    if depth >= _MAX_DEPTH:
        yield path
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {*old, *new}:
            if key not in old or key not in new:
                yield f"{path}/{escape(key)}"
            elif not _same(old[key], new[key], typed=False):
                yield from _walk(old[key], new[key], f"{path}/{escape(key)}", depth + 1)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            if index >= len(old) or index >= len(new):
                yield f"{path}/{index}"
            elif not _same(old[index], new[index], typed=False):
                yield from _walk(old[index], new[index], f"{path}/{index}", depth + 1)
    else:
        yield path


def _same(old: Any, new: Any, *, typed: bool) -> bool:
    """Whether two JSON values are one; Python alone holds 1, 1.0 and true to be equal.

    In a typed kind no field can hold two of these types, so the cheap test will do.
    """
    if old != new:
        return False
    if typed or isinstance(old, str):
        return True
    try:
        return _text(old) == _text(new)
    except TypeError:  # nested too deeply to tell: then it is a change
        return False


def _text(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _step(old: Any, new: Any) -> int:
    """How many replicas more; 0 where it cannot be told (then it stays a change)."""
    before, after = old.get("replicas", 1), new.get("replicas", 1)
    if type(before) is not int or type(after) is not int:
        return 0
    return after - before


def _replicas(spec: Mapping[str, Any], default: int) -> int:
    value = spec.get("replicas", default)
    if type(value) is not int:
        raise MalformedError(f"got replicas as {type(value).__name__}, expected an integer")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MalformedError(f"got {where} as {type(value).__name__}, expected an object")
    return value


def _short(pointer: str) -> str:
    while len(pointer) > MAX_POINTER_LENGTH:
        pointer = pointer.rpartition("/")[0]
    return pointer
