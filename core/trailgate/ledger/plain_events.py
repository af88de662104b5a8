"""What the operator says, in plain language: of changes, of what is there, of the control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from trailgate.ledger.readable import Reader

Line = tuple[str, str]

_BECAME: Final = {
    "persisted": "was stored",
    "running": "runs",
    "ended": "holds no more",
    "not-persisted": "was not stored, as far as can be seen",
}
_CAUSES: Final = {
    "superseded": "another change took its place",
    "scaled-to-zero": "it was scaled to zero",
    "deleted": "the object was deleted",
    "completed": "it is done",
    "other-persisted": "under its generation something else was stored",
    "not-seen": "nothing of it was there in its time",
    "undetermined": "nobody watched just then",
}
_WRONG: Final = {
    "NoAdmission": "no admission led to what is there",
    "ImageNotAdmitted": "something runs that was not admitted",
}


def _place(thing: Mapping[str, Any]) -> str:
    return f"{thing['kind']} {thing['namespace']}/{thing['name']}"


def _stage(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    """Tell what became of an admitted change."""
    yield "change", f"{_place(record['object'])} {_BECAME[record['kind']]}"
    yield "admitted", f"by entry {record['claim']}"
    if "cause" in record:
        yield "cause", f"{record['cause']}: {_CAUSES[record['cause']]}"
    if "seen" in record:
        yield "seen", record["seen"]
    if "ready" in record:
        yield "pods", f"{record['ready']} ready of {record['desired']}"
    if "by" in record:
        yield "by change", _or_reason(reader, record["by"], "/by")
    yield from _images(record, reader)
    yield from _object(record, reader)


def _discrepancy(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    yield "change", f"{_place(record['object'])}: {_WRONG[record['why']]}"
    yield "against it", record["why"]
    claim = record["claim"]
    told = None if claim is None else f"by entry {claim}"
    yield "admitted", _or_reason(reader, told, "/claim")
    for digest in record["running"]:
        yield "runs", digest
    yield "since", _or_reason(reader, record["since"], "/since")
    yield "gate armed then", _yes(reader, record["armed"], "/armed")
    yield from _images(record, reader)
    yield from _object(record, reader)


def _baseline(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    part, parts = record["part"], record["parts"]
    yield "change", f"{record['count']} workloads were there before the gate was armed"
    yield "part", f"{part} of {parts}"
    for number, thing in enumerate(record["objects"]):
        generation = _or_reason(reader, thing["generation"], f"/objects/{number}/generation")
        yield "workload", f"{_place(thing)} (generation {generation})"
        for image in thing["images"]:
            yield "", image["reference"]


def _heartbeat(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    yield "change", "the control was on"
    yield "from", record["since"]
    yield "to", record["until"]
    yield "gate armed", _yes(reader, record["armed"], "/armed")
    for name, what in (
        ("readyGates", "gates ready"),
        ("validPolicies", "policies"),
        ("spooled", "waiting in the spool"),
        ("entries", "entries before it"),
        ("workloads", "workloads watched"),
        ("unexplained", "of them unexplained"),
        ("digest", "configuration"),
    ):
        yield what, _or_reason(reader, record[name], f"/{name}")


def _control_test(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    got = _or_reason(reader, record["got"], "/got")
    yield "change", f"the gate was tested: {record['outcome']}"
    yield "outcome", f"{record['outcome']}: expected {record['expected']}, got {got}"
    yield "test", f"{record['test']}, through the {record['through']}"
    for name in ("reason", "policy", "namespace", "image"):
        yield name, _or_reason(reader, record[name], f"/{name}")


def _disarm(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    yield "change", f"Disarm {record['name']}: {record['state']}"
    yield "until", _or_reason(reader, record["until"], "/until")
    for name in ("reason", "ticket"):
        value = record[name]
        told = None if value is None else reader.text(value) or "null, Erased"
        yield name, _or_reason(reader, told, f"/{name}")
    yield "uid", record["uid"]


def _images(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    for number, image in enumerate(record.get("images", ())):
        yield "image", image["reference"]
        yield "", f"digest {_or_reason(reader, image['digest'], f'/images/{number}/digest')}"
        if "match" in image:
            told = ", ".join(image["running"]) or "nothing that can be told"
            yield "", f"runs: {told} ({image['match']})"
    if not record.get("allImages", True):
        yield "image", "(and more that were not kept)"


def _object(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    thing = record["object"]
    told = [
        f"{what} {_or_reason(reader, thing[name], f'/object/{name}')}"
        for name, what in (
            ("uid", "uid"),
            ("generation", "generation"),
            ("specDigest", "specification"),
        )
    ]
    yield "object", ", ".join(told)
    yield "change id", record["changeId"]


def _yes(reader: Reader, value: bool | None, pointer: str) -> str:  # noqa: FBT001  a value to show
    return _or_reason(reader, None if value is None else ("yes" if value else "no"), pointer)


def _or_reason(reader: Reader, value: Any, pointer: str) -> str:
    return f"null, {reader.reason(pointer)}" if value is None else str(value)


TELLERS: Final[Mapping[str, Callable[[Mapping[str, Any], Reader], Iterator[Line]]]] = (
    MappingProxyType(
        {
            **dict.fromkeys(_BECAME, _stage),
            "discrepancy": _discrepancy,
            "baseline": _baseline,
            "heartbeat": _heartbeat,
            "control-test": _control_test,
            "disarm": _disarm,
        }
    )
)
"""By kind: what tells a record of it, line by line, every null with its reason."""
