"""One entry in plain language: what ``ledger show`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from trailgate.ledger.plain_events import TELLERS
from trailgate.ledger.query import Found, Stage
from trailgate.ledger.readable import ERASED, Reader
from trailgate.ledger.summary import line_of_tests

Line = tuple[str, str]
"""What it is, and what is said of it. An empty name continues the line before."""

_VERBS: Final = {"CREATE": "created", "UPDATE": "changed", "DELETE": "deleted"}
_WHO: Final = (
    ("committers", "committed by"),
    ("approvers", "approved by"),
    ("deploymentApprovers", "deployment approved by"),
)


def plain(found: Found) -> list[Line]:
    """Tell one entry, line by line; every null with its reason."""
    record, reader = found.record, Reader(found.record, found.revealed)
    lines = [("entry", str(found.index)), ("what", record["kind"])]
    tell = {"admitted": _admitted, "refused": _refused, **TELLERS}.get(record["kind"], _other)
    lines += tell(record, reader)
    if record["kind"] == "admitted":
        lines += _stages(found.stages)
    if found.claims > 1:
        claims = f"{found.claims} by this caller for the one change, first as entry {found.first}"
        lines.append(("claims", f"{claims} (as the index says; trailgate ledger reindex)"))
    lines.append(("decided", record["decidedAt"]))
    lines.append(("recorded", record["recordedAt"]))
    cluster = record["cluster"]
    name = cluster["name"] or f"(name: null, {reader.reason('/cluster/name')})"
    lines.append(("cluster", f"{name} {cluster['uid']}"))
    lines.append(("environment", _or_reason(reader, record["environment"], "/environment")))
    gate = record["gate"]
    image = _or_reason(reader, gate["image"], "/gate/image")
    lines.append(("said by", f"{gate['component']} {gate['version']}, image {image}"))
    spool = record["spool"]
    where = None if spool is None else f"process {spool['boot']}, batch {spool['seq']}"
    lines.append(("spool", _or_reason(reader, where, "/spool")))
    for pointer, cut in record["shortened"].items():
        lines.append(("shortened", f"{pointer}: {cut['length']} in all, whole {cut['digest']}"))
    return lines


def _admitted(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    thing, change = record["object"], record["change"]
    verb = _VERBS.get(record["operation"], record["operation"])
    place = f"{thing['kind']} {thing['namespace']}/{thing['name']}"
    yield "change", f"{reader.caller()} {verb} {place} ({change['class']})"
    under = "enforced" if record["enforced"] else "not enforced"
    yield "outcome", f"{record['outcome']} ({under})"
    yield from _people(change, reader)
    yield from _tests(change, reader)
    for name, what in (("uri", "change request"), ("ticket", "ticket")):
        yield what, _text(reader, change[name], f"/change/{name}")
    yield "unmapped authors", _list(reader, change["unmappedAuthors"], "/change/unmappedAuthors")
    if change["returnsTo"] is not None:
        yield "goes back to", f"the images of entry {change['returnsTo']}"
    yield from _caller(record, reader)
    for place_of, image in enumerate(record["images"]):
        yield from _image(image, f"/images/{place_of}", reader)
    yield "changed fields", ", ".join(pointer or "(all: new)" for pointer in record["delta"]) or "-"
    yield "checks", ", ".join(f"{name} {result}" for name, result in record["checks"].items())
    yield from _reasons(record, reader)
    yield from _policies(record, reader)
    yield (
        "self-asserted",
        "yes: one key could sign build and review" if record["selfAsserted"] else "no",
    )
    yield "change id", record["changeId"]
    generation = _or_reason(reader, thing["generation"], "/object/generation")
    uid = _or_reason(reader, thing["uid"], "/object/uid")
    spec = _or_reason(reader, thing["specDigest"], "/object/specDigest")
    yield "object", f"uid {uid}, generation {generation}, specification {spec}"


def _stages(stages: Sequence[Stage]) -> Iterator[Line]:
    for stage in stages:
        yield "since then", f"{stage.kind} at {stage.at} (entry {stage.index})"
    if not stages:
        yield "since then", "nothing says yet that it was stored"


def _refused(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    first, last = record["first"], record["last"]
    times = "once" if record["count"] == 1 else f"{record['count']} times"
    yield "refused", f"{reader.caller()} in namespace {record['namespace']}, {times}"
    yield "reasons", ", ".join(record["reasons"])
    for name, one in (("first", first), ("last", last)):
        yield name, f"{one['kind']} {one['namespace']}/{one['name']} at {one['at']}"
    for number, image in enumerate(record["images"]):
        digest = _or_reason(reader, image["digest"], f"/images/{number}/digest")
        yield "image", f"{image['reference']} (digest {digest})"
    if not record["allImages"]:
        yield "image", "(and more that were not kept)"
    yield from _caller(record, reader)
    yield from _policies(record, reader)


def _other(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    common = {
        "schema", "kind", "cluster", "environment", "gate", "decidedAt", "recordedAt",
        "people", "texts", "absent", "shortened", "spool", "caller",
    }  # fmt: skip
    for name, value in record.items():
        if name not in common:
            clear = reader.clear(value)
            yield name, _or_reason(reader, clear, f"/{name}")
    if record.get("caller") is not None:
        yield from _caller(record, reader)


def _people(change: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    for name, what in _WHO:
        people = change[name]
        if people is None:
            yield what, f"null, {reader.reason(f'/change/{name}')}"
        for one in people or ():
            yield what, reader.person(one["person"]) + _detail(one)
    pusher = change["lastPusher"]
    told = None if pusher is None else reader.person(pusher["person"])
    yield "last pushed by", _or_reason(reader, told, "/change/lastPusher")


def _detail(one: Mapping[str, Any]) -> str:
    parts = [f"on {one['at']}"] if "at" in one else []
    if "commit" in one:
        parts.append(f"of commit {one['commit']} ({one['binding']})")
    if "environment" in one:
        parts.append(f"for {one['environment']}")
    return f", {', '.join(parts)}" if parts else ""


def _tests(change: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    if change["tests"] is None:
        yield "tests", f"null, {reader.reason('/change/tests')}"
    for one in change["tests"] or ():
        yield "tests", f"{line_of_tests(one)}, finished {one['finishedAt'] or 'null, NotStated'}"


def _caller(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    caller = record["caller"]
    yield "sent by", str(reader.caller())
    credential = _text(reader, caller["credentialId"], "/caller/credentialId")
    groups = ", ".join(reader.text(group) or f"({ERASED})" for group in caller["groups"])
    yield "", f"credential {credential}; groups {groups or 'none'}"


def _image(image: Mapping[str, Any], pointer: str, reader: Reader) -> Iterator[Line]:
    uses = ", ".join(f"{use['class']} {use['name']}" for use in image["containers"])
    new = "new" if image["changed"] else "as before"
    yield "image", f"{image['reference']} ({new}; {uses})"
    yield "", f"digest {_or_reason(reader, image['digest'], f'{pointer}/digest')}"
    if image["thirdParty"]:
        yield "", "a third party's, listed in the policy"
    yield "", f"checks: {', '.join(f'{n} {result}' for n, result in image['checks'].items())}"
    signers = image["signatures"]
    told = None if signers is None else ", ".join(f"key {one['signer']}" for one in signers)
    yield "", f"signed by {_or_reason(reader, told, f'{pointer}/signatures')}"
    if image["provenance"] is None:
        yield "", f"provenance null, {reader.reason(f'{pointer}/provenance')}"
    for number, one in enumerate(image["provenance"] or ()):
        where = f"{pointer}/provenance/{number}"
        yield (
            "",
            (
                f"built from {_text(reader, one['repository'], f'{where}/repository')} "
                f"commit {one['commit']} ({_text(reader, one['ref'], f'{where}/ref')}) "
                f"by {_text(reader, one['builder'], f'{where}/builder')}, "
                f"run {_text(reader, one['run'], f'{where}/run')}, key {one['signer']}"
            ),
        )
    if image["changes"] is None:
        yield "", f"change record null, {reader.reason(f'{pointer}/changes')}"
    for one in image["changes"] or ():
        yield from _record_of(one, reader)


def _record_of(told: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    verdict = "passed" if told["passed"] else "did not pass"
    verifier = reader.text(told["verifier"]) or f"null, {ERASED}"
    yield "", f"change record by {verifier} ({told['basis']}): {verdict}, key {told['signer']}"
    for request in told["requests"]:
        uri = reader.text(request["uri"]) or f"null, {ERASED}"
        people = ", ".join(reader.person(one["person"]) for one in request["committers"])
        yield "", f"  request {uri}: committed by {people or 'nobody named'}"
        for one in request["approvals"]:
            who = reader.person(one["person"])
            yield "", f"    {one['state']} by {who}{_detail(one)}"


def _reasons(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    for number, one in enumerate(record["reasons"]):
        policy = _or_reason(reader, one["policy"], f"/reasons/{number}/policy")
        image = (
            "" if one["image"] is None else f", image {record['images'][one['image']]['reference']}"
        )
        yield "against it", f"{one['reason']} (policy {policy}, {one['mode']}{image})"
    if not record["reasons"]:
        yield "against it", "nothing"


def _policies(record: Mapping[str, Any], reader: Reader) -> Iterator[Line]:
    for number, one in enumerate(record["policies"]):
        pointer = f"/policies/{number}/generation"
        generation = _or_reason(reader, one["generation"], pointer)
        yield "policy", f"{one['name']} {one['mode']} (generation {generation}, {one['digest']})"
    if not record["policies"]:
        yield "policy", "none covers it"


def _or_reason(reader: Reader, value: Any, pointer: str) -> str:
    return f"null, {reader.reason(pointer)}" if value is None else str(value)


def _text(reader: Reader, value: Any, pointer: str) -> str:
    if value is None:
        return f"null, {reader.reason(pointer)}"
    return reader.text(value) or f"null, {ERASED}"


def _list(reader: Reader, value: list[str] | None, pointer: str) -> str:
    return f"null, {reader.reason(pointer)}" if value is None else ", ".join(value) or "none"
