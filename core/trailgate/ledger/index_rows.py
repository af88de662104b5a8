"""What the query index keeps of one record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Kinds that say what became of an admitted change; they are told in its row.
STAGES: Final = ("persisted", "running", "ended", "not-persisted")

#: Roles that can be asked for.
COMMITTER: Final = "committer"
APPROVER: Final = "approver"
CALLER: Final = "caller"

CREDENTIAL: Final = "/caller/credentialId"
IMPERSONATED: Final = "Impersonated"


@dataclass(frozen=True, slots=True)
class IndexRows:
    """The rows of one entry."""

    event: tuple[Any, ...]
    """kind, decided_at, claim (the change and who asked for it), outcome, namespace,
    change_id (of admissions and their stages), stage (0 or 1)."""
    workloads: frozenset[tuple[str, str]]
    """(name, kind)."""
    roles: frozenset[tuple[str, str]]
    """(commitment of a person's id, or a system user's name; role)."""
    people: tuple[tuple[str, str | None], ...]
    """(commitment of the id, of the login)."""
    images: frozenset[str]
    revisions: frozenset[str]


def rows_of(record: Mapping[str, Any]) -> IndexRows:
    """Take out of a record what it may be asked for by.

    Raises ``KeyError``, ``TypeError`` or ``IndexError`` where it doesn't have the form
    of its schema.
    """
    kind = record["kind"]
    stage = kind in STAGES
    event = (
        kind,
        record["decidedAt"],
        _claim(record) if kind == "admitted" else None,
        record.get("outcome"),
        record.get("namespace") or record.get("object", {}).get("namespace"),
        record["changeId"] if stage or kind == "admitted" else None,
        int(stage),
    )
    people = record["people"]
    roles = {
        (people[reference["person"]]["id"], role)
        for role, reference in _references(record)
        if isinstance(reference, dict) and reference.get("person") is not None
    }
    things = record.get("objects") or []
    listed = [record.get("images"), *(thing["images"] for thing in things)]
    images = [image for one in listed for image in one or [] if isinstance(image, dict)]
    user = (record.get("caller") or {}).get("user")
    if user is not None:
        roles.add((user, CALLER))
    places = [record[name] for name in ("object", "first", "last") if name in record]
    places += things
    return IndexRows(
        event,
        frozenset((place["name"], place["kind"]) for place in places),
        frozenset(roles),
        tuple((person["id"], person["login"]) for person in people),
        frozenset(digest for image in images for digest in _digests(image))
        | frozenset(record.get("running") or ()),
        frozenset(revision for image in images for revision in _revisions(image)),
    )


def _claim(record: Mapping[str, Any]) -> str | None:
    """Name the change of an admission together with its caller.

    The API server reviews one request again after a conflict: one change. Two people who
    ask for the same one (to delete what is being deleted) are two, and so are a service
    account and whoever borrows its name.
    """
    change, caller = record.get("changeId"), record.get("caller")
    if change is None or caller is None:
        return change
    person = caller.get("person")
    who = caller.get("user") if person is None else record["people"][person]["id"]
    borrowed = record["absent"].get(CREDENTIAL) == IMPERSONATED
    return f"{change} {'impersonated' if borrowed else 'by'} {who}"


def _references(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield CALLER, record.get("caller")
    change = record.get("change") or {}
    for name, role in (("committers", COMMITTER), ("approvers", APPROVER)):
        yield from ((role, reference) for reference in change.get(name) or ())
    # Several changes at once: each changed image tells its own.
    several = [image for image in record.get("images") or [] if image.get("changed")]
    if len(several) > 1:
        for image in several:
            for told in image.get("changes") or ():
                yield from ((COMMITTER, reference) for reference in told["committers"])
                yield from ((APPROVER, one) for one in _approvals(told["requests"]))


def _approvals(requests: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for request in requests:
        yield from (one for one in request["approvals"] if one["state"] == "APPROVED")


def _digests(image: Mapping[str, Any]) -> Iterator[str]:
    if image.get("digest") is not None:
        yield image["digest"]
    yield from image.get("platforms") or ()
    yield from image.get("running") or ()


def _revisions(image: Mapping[str, Any]) -> Iterator[str]:
    for told in image.get("provenance") or ():
        yield told["commit"]
    for told in image.get("changes") or ():
        yield told["source"]["to"]
        yield from told["source"]["commits"]
        for request in told["requests"]:
            found = [request["headCommit"], request["mergeCommit"], *request["commits"]]
            yield from (commit for commit in found if commit is not None)
