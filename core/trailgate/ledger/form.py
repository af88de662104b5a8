"""The form that all claims and records share: nulls with reasons, references, times, size.

A claim or record is one plain JSON object. Three of its members belong to the form:

- ``people`` and ``texts``: everything that may be personal stands there once, and is
  referred to by index. An object with an integer ``person`` names a person, ``{"text": n}``
  stands for a string. A text inside an object that names a person is that person's.
- ``absent``: for each null of the record, its RFC 6901 pointer and why it is null. No
  null stands without one, and nothing stands there that isn't null.
- ``shortened``: for each value that was cut, its pointer, how long it was, and the
  digest of the whole. Nothing is ever cut silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard

from trailgate.model.canonical import canonical, fingerprint
from trailgate.model.errors import MalformedError, TrailgateError
from trailgate.model.evidence import Person
from trailgate.model.reason import Absence

SCHEMA = "trailgate.dev/record/v1"
MAX_RECORD = 65_535
"""Bytes of a record: an entry bundle of C2SP tlog-tiles counts an entry's length in 16 bits."""
MAX_CLAIM = 256 * 1024
"""Bytes of a claim: its texts stand in it in full, and it has to fit into the spool."""
MAX_STRING = 512
"""Characters of a string that stands in clear; a longer one is cut and named in ``shortened``."""
CALLER_ISSUER = "kubernetes"
"""Issuer of callers' ids (``kubernetes:<user name>``): evidence may not speak of it."""

_KEPT_OF_STRING = 200
_TIERS = (None, 100, 16, 4)
"""How many items lists of plain strings keep, tried in this order until the record fits."""
_COMMITTED = 90  # bytes of a commitment in JSON, with a little to spare
_RECORDER_ADDS = 512


class RecordError(TrailgateError):
    """What was asked to be recorded must not, or cannot, stand in the trail like this."""


class RecordTooLargeError(RecordError):
    """A record stays above ``MAX_RECORD`` bytes after all that may be cut was cut."""


@dataclass(frozen=True, slots=True)
class Null:
    """A null on its way into a claim, with the reason that will stand in ``absent``."""

    reason: Absence


class Roster:
    """Collects a claim's people and texts, each once, and hands out references."""

    def __init__(self) -> None:
        self._people: dict[str, Person] = {}
        self._places: dict[str, int] = {}
        self._texts: dict[tuple[int | None, str], int] = {}

    def person(self, person: Person) -> dict[str, Any]:
        """Refer to a person. The same id is the same person; what is known adds up.

        Raises ``RecordError`` where evidence names a person of the callers' issuer:
        else a forge's user 7 and the cluster's user "7" could become one person.
        """
        if person.id.startswith(f"{CALLER_ISSUER}:"):
            raise RecordError(
                f"got a person of issuer {CALLER_ISSUER!r} in evidence, "
                "expected a forge's (that issuer is the cluster's own)"
            )
        return self._enter(person)

    def caller(self, username: str) -> dict[str, Any]:
        """Refer to the human behind a Kubernetes user name."""
        return self._enter(Person(f"{CALLER_ISSUER}:{username}", login=username))

    def _enter(self, person: Person) -> dict[str, Any]:
        known = self._people.get(person.id)
        if known is not None:
            person = Person(
                person.id,
                login=known.login or person.login,
                name=known.name or person.name,
                bot=known.bot or person.bot,
            )
        self._people[person.id] = person
        return {"person": self._places.setdefault(person.id, len(self._places))}

    def text(self, value: str, of: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Refer to a text; ``of`` is the reference of the person whose text it is."""
        key = (None if of is None else int(of["person"]), value)
        return {"text": self._texts.setdefault(key, len(self._texts))}

    def people(self) -> list[dict[str, Any]]:
        """List the claim's ``people``, with ``Null`` for what is not known of someone."""
        return [
            {
                "id": person.id,
                "issuer": person.issuer or Null(Absence.NOT_STATED),
                "login": person.login or Null(Absence.NOT_STATED),
                "name": person.name or Null(Absence.NOT_STATED),
                "bot": person.bot,
            }
            for person in self._people.values()
        ]

    def texts(self) -> list[str]:
        """List the claim's ``texts``."""
        return [value for _owner, value in self._texts]


def stamp(moment: datetime) -> str:
    """RFC 3339, UTC, microseconds: ``2026-11-23T13:06:00.000000Z``.

    Raises ``MalformedError`` for a time without a zone.
    """
    if moment.tzinfo is None:
        raise MalformedError(f"got {moment.isoformat()} without a time zone, expected UTC")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def known(value: Any, reason: Absence = Absence.NOT_STATED) -> Any:
    """Give the value, or a null for this reason."""
    return Null(reason) if value is None else value


def settle(tree: Mapping[str, Any], roster: Roster, keep: int | None = None) -> dict[str, Any]:
    """Make a claim of a tree that may hold ``Null``.

    ``keep``: how many items a list of plain strings may keep; None keeps all.
    Raises ``RecordError`` for a null without a reason.
    """
    body = {**tree, "people": roster.people()}
    settled = _Settling(keep)
    claim = settled.value(body, "")
    claim["texts"] = roster.texts()
    claim["absent"] = settled.absent
    claim["shortened"] = settled.shortened
    return dict(claim)


def settle_within(tree: Mapping[str, Any], roster: Roster) -> dict[str, Any]:
    """Make a claim whose record will fit, cutting lists of plain strings where it must.

    Raises ``RecordTooLargeError`` where that isn't enough, ``RecordError`` as ``settle``.
    """
    size = 0
    for keep in _TIERS:
        claim = settle(tree, roster, keep)
        size = committed_size(claim)
        if size <= MAX_RECORD and len(canonical(claim)) <= MAX_CLAIM:
            return claim
    raise RecordTooLargeError(
        f"got a claim that makes about {size} bytes of record ({len(roster.people())} people, "
        f"{len(roster.texts())} texts), expected at most {MAX_RECORD} (claim: {MAX_CLAIM})"
    )


def committed_size(claim: Mapping[str, Any]) -> int:
    """Estimate, from above, how many bytes the claim's record will have."""
    body = {name: value for name, value in claim.items() if name not in ("people", "texts")}
    people = sum(
        3 * _COMMITTED + len(canonical(person["issuer"])) + 20 for person in claim["people"]
    )
    return len(canonical(body)) + people + _COMMITTED * len(claim["texts"]) + _RECORDER_ADDS


class _Settling:
    def __init__(self, keep: int | None) -> None:
        self.absent: dict[str, str] = {}
        self.shortened: dict[str, dict[str, Any]] = {}
        self._keep = keep

    def value(self, value: Any, pointer: str) -> Any:
        if isinstance(value, Null):
            self.absent[pointer] = value.reason.value
            return None
        if value is None:
            raise RecordError(f"got a null at {pointer}, expected one with a reason")
        if isinstance(value, dict):
            return {key: self.value(item, f"{pointer}/{key}") for key, item in value.items()}
        if isinstance(value, list):
            return self._list(value, pointer)
        if isinstance(value, str) and len(value) > MAX_STRING and not _personal(pointer):
            return self._cut(value, pointer, value[:_KEPT_OF_STRING])
        return value

    def _list(self, items: list[Any], pointer: str) -> list[Any]:
        kept = items
        if self._keep is not None and len(items) > self._keep and _all_strings(items):
            kept = self._cut(items, pointer, items[: self._keep])
        return [self.value(item, f"{pointer}/{index}") for index, item in enumerate(kept)]

    def _cut(self, whole: Any, pointer: str, kept: Any) -> Any:
        self.shortened[pointer] = {"length": len(whole), "digest": str(fingerprint(whole))}
        return kept


def _all_strings(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items)


def _personal(pointer: str) -> bool:
    # These are committed to at a fixed size, whatever their length.
    return pointer.startswith("/people/") and not pointer.endswith("/issuer")


def encode(record: Mapping[str, Any]) -> bytes:
    """Give the leaf's bytes: RFC 8785. Raises ``RecordTooLargeError`` above ``MAX_RECORD``."""
    encoded = canonical(dict(record))
    if len(encoded) > MAX_RECORD:
        raise RecordTooLargeError(
            f"got a record of {len(encoded)} bytes, expected at most {MAX_RECORD}"
        )
    return encoded


def text_owners(claim: Mapping[str, Any]) -> dict[int, int]:
    """Whose each text is: index of the text → index of the person.

    A text that belongs to nobody in particular is not in it. Raises ``RecordError``
    where a text would be two persons', or both somebody's and nobody's: erasing one
    of them would have to erase it and to leave it.
    """
    owners: dict[int, int | None] = {}
    for text, owner in _text_references(dict(claim), None):
        if owners.setdefault(text, owner) != owner:
            raise RecordError(f"got text {text} of two persons, expected one text for each")
    return {text: owner for text, owner in owners.items() if owner is not None}


def _text_references(value: Any, owner: int | None) -> Iterator[tuple[int, int | None]]:
    if isinstance(value, dict):
        if isinstance(value.get("person"), int):
            owner = value["person"]
        if isinstance(value.get("text"), int):
            yield value["text"], owner
        for item in value.values():
            yield from _text_references(item, owner)
    elif isinstance(value, list):
        for item in value:
            yield from _text_references(item, owner)


def check_form(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what is wrong with the form of a claim or record; empty when nothing is.

    For the verifier: a JSON Schema can't say that nulls and ``absent`` match, that
    references point somewhere, or that nobody is listed twice.
    """
    try:
        canonical(dict(record))
    except MalformedError as error:
        return (f": {error}",)
    if record.get("schema") != SCHEMA:
        return (f"/schema: got {str(record.get('schema'))[:80]!r}, expected {SCHEMA!r}",)
    people, texts, absent = (record.get(name) for name in ("people", "texts", "absent"))
    if not _is_list_of(people, _is_person) or not _is_list_of(texts, _is_text):
        return ("/people, /texts: expected an array of persons and one of strings",)
    if not isinstance(absent, dict) or not isinstance(record.get("shortened"), dict):
        return ("/absent, /shortened: expected two objects",)
    found = list(_walk({k: v for k, v in record.items() if k not in ("absent", "shortened")}, ""))
    nulls = {pointer for pointer, value in found if value is None}
    problems = [f"{pointer}: null without a reason" for pointer in sorted(nulls - set(absent))]
    problems += [f"{pointer}: a reason for what isn't null" for pointer in set(absent) - nulls]
    codes = [code.value for code in Absence]
    problems += [f"{pointer}: unknown reason" for pointer in absent if absent[pointer] not in codes]
    problems += _bad_references(found, len(people), len(texts))
    ids = [person["id"] for person in people]
    problems += [f"/people: {one} is listed twice" for one in set(ids) if ids.count(one) > 1]
    return tuple(problems)


def _is_list_of(value: Any, is_one: Callable[[Any], bool]) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and all(map(is_one, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_person(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"id", "issuer", "login", "name", "bot"}
        and isinstance(value["id"], str)
        and isinstance(value["bot"], bool)
        and all(isinstance(value[n], str | None) for n in ("issuer", "login", "name"))
    )


def _bad_references(found: list[tuple[str, Any]], people: int, texts: int) -> list[str]:
    problems, used = [], {"person": set[int](), "text": set[int]()}
    for pointer, value in found:
        name = pointer.rpartition("/")[2]
        if name in used and isinstance(value, int):
            used[name].add(value)
            if not 0 <= value < (people if name == "person" else texts):
                problems.append(f"{pointer}: {value} refers to nothing")
    problems += [
        f"/people/{n}: nothing refers to it" for n in range(people) if n not in used["person"]
    ]
    problems += [f"/texts/{n}: nothing refers to it" for n in range(texts) if n not in used["text"]]
    return problems


def _walk(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    yield pointer, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, f"{pointer}/{index}")
