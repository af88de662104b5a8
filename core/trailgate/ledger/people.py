"""People in a log that can't be erased: commitments in the leaf, what opens them beside it.

A leaf holds ``HMAC-SHA-256(salt, JCS([schema, field, value]))`` instead of an id, a
login, a name or a text. A person's salt is one per log, so the same person shows as
the same commitment, and "approver is not committer" can be read from leaves alone.

Beside the log stand **rows**, key → bytes (JSON), which the store keeps without reading:

- ``subject:<id>``: a person's name, salt and key. Deleting this one row is the erasure:
  no commitment of that person can be tested any more, and no row of theirs be read.
- ``hmac-sha256:<hex>``: what that commitment opens to. A person's is encrypted under
  the person's key; a text that is nobody's in particular carries its own salt, in clear,
  and is erased by deleting its row.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trailgate.ledger.form import SCHEMA, RecordError, text_owners
from trailgate.model.canonical import canonical
from trailgate.model.errors import MalformedError

_COMMITMENT = "hmac-sha256:"
_SUBJECT = "subject:"
_NONCE = 12
_SECRET = 32
_FIELDS = ("id", "login", "name")


@dataclass(frozen=True, slots=True)
class Subject:
    """A person's row: whoever holds it can open that person's commitments."""

    id: str
    """Random, 32 hex digits: what the person's other rows refer to, saying nothing alone."""
    person: str
    """``github:1001``: by this it is found."""
    salt: bytes = field(repr=False)
    """32 random bytes: the HMAC key of this person's commitments."""
    key: bytes = field(repr=False)
    """32 random bytes: the AES-256-GCM key of this person's rows."""

    @property
    def row(self) -> tuple[str, bytes]:
        """The row's key and content."""
        content = {"person": self.person, "salt": self.salt.hex(), "key": self.key.hex()}
        return f"{_SUBJECT}{self.id}", canonical(content)

    @classmethod
    def mint(cls, person: str) -> Subject:
        """Make one up for a person who is new to this log."""
        return cls(secrets.token_hex(16), person, secrets.token_bytes(32), secrets.token_bytes(32))


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a commitment opens to."""

    name: str
    """Of the field: ``id``, ``login``, ``name`` or ``text``."""
    value: str
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """A commitment that a verifier can't accept, where it stands, and why."""

    pointer: str
    commitment: str
    detail: str


class Vault:
    """The subjects of one log, held by its one writer: filled from the store's rows."""

    def __init__(self, rows: Mapping[str, bytes] | None = None) -> None:
        """Load the subjects among all rows (``RecordError`` where one can't be read)."""
        self._subjects = {subject.person: subject for subject in _subjects(rows or {}).values()}

    def subject(self, person: str) -> Subject:
        """Give the person's subject, a new one for someone who is new here."""
        if person not in self._subjects:
            self._subjects[person] = Subject.mint(person)
        return self._subjects[person]

    def forget(self, person: str) -> None:
        """Let go of a person whose rows were deleted."""
        self._subjects.pop(person, None)


def commitment(salt: bytes, name: str, value: str) -> str:
    """Commit to one value of a field (``id``, ``login``, ``name``, ``text``)."""
    message = canonical([SCHEMA, name, value])
    return _COMMITMENT + hmac.new(salt, message, hashlib.sha256).hexdigest()


def commit_people(
    claim: Mapping[str, Any], vault: Vault
) -> tuple[list[dict[str, Any]], list[str], dict[str, bytes]]:
    """Commit to a claim's people and texts: (``people``, ``texts``, rows to keep).

    The rows belong into the transaction that appends the record. They hold the
    subjects too, also known ones: a row that is there already stays as it is.
    """
    subjects = [vault.subject(person["id"]) for person in claim["people"]]
    rows = dict(subject.row for subject in subjects)

    def commit(subject: Subject, name: str, value: str) -> str:
        committed = commitment(subject.salt, name, value)
        rows.setdefault(committed, _sealed(subject, committed, name, value))
        return committed

    people = [
        person | {n: commit(subject, n, person[n]) for n in _FIELDS if person[n] is not None}
        for person, subject in zip(claim["people"], subjects, strict=True)
    ]
    owners, texts = text_owners(claim), []
    for index, text in enumerate(claim["texts"]):
        if index in owners:
            texts.append(commit(subjects[owners[index]], "text", text))
            continue
        salt = secrets.token_bytes(32)
        texts.append(commitment(salt, "text", text))
        rows[texts[-1]] = canonical({"field": "text", "value": text, "salt": salt.hex()})
    return people, texts, rows


def _sealed(subject: Subject, committed: str, name: str, value: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    plain = canonical({"field": name, "value": value})
    sealed = nonce + AESGCM(subject.key).encrypt(nonce, plain, committed.encode())
    return canonical({"subject": subject.id, "sealed": base64.b64encode(sealed).decode()})


def reveal(rows: Mapping[str, bytes]) -> dict[str, Revealed]:
    """Open all rows that can be opened: commitment → what it opens to.

    A row whose subject is gone, that doesn't decrypt, or that holds anything but what its
    commitment commits to, is left out: whoever can write the rows must not be able to put
    words into the record's mouth. Whether what is left out is an erasure, a loss or a
    forgery is for ``check_commitments`` to say.
    """
    subjects = _subjects(rows)
    found = {}
    for key, content in rows.items():
        if key.startswith(_COMMITMENT):
            opened = _open(key, content, subjects)
            if opened is not None:
                found[key] = opened
    return found


def _subjects(rows: Mapping[str, bytes]) -> dict[str, Subject]:
    found = {}
    for key, content in rows.items():
        if not key.startswith(_SUBJECT):
            continue
        try:
            row = orjson.loads(content)
            person, secrets_ = row["person"], [bytes.fromhex(row[one]) for one in ("salt", "key")]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"the row {key} of a person can't be read") from error
        if not isinstance(person, str) or any(len(one) != _SECRET for one in secrets_):
            raise RecordError(f"the row {key} of a person has not the form of one")
        subject = Subject(key.removeprefix(_SUBJECT), person, *secrets_)
        found[subject.id] = subject
    return found


def _open(committed: str, content: bytes, subjects: Mapping[str, Subject]) -> Revealed | None:
    try:
        row = orjson.loads(content)
        if "salt" in row:
            salt = bytes.fromhex(row["salt"])
        else:
            subject = subjects[row["subject"]]
            salt, sealed = subject.salt, base64.b64decode(row["sealed"])
            plain = AESGCM(subject.key).decrypt(
                sealed[:_NONCE], sealed[_NONCE:], committed.encode()
            )
            row = orjson.loads(plain)
        opened = Revealed(row["field"], row["value"], salt)
        true = commitment(salt, opened.name, opened.value)
    except (InvalidTag, MalformedError, ValueError, KeyError, TypeError):
        return None
    return opened if hmac.compare_digest(true.encode(), committed.encode()) else None


def commitments(record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """All commitments of a record: pointer → (field, commitment)."""
    found = {
        f"/people/{index}/{name}": (name, person[name])
        for index, person in enumerate(record["people"])
        for name in _FIELDS
        if person[name] is not None
    }
    texts = {f"/texts/{index}": ("text", text) for index, text in enumerate(record["texts"])}
    return found | texts


def check_commitments(
    record: Mapping[str, Any], revealed: Mapping[str, Revealed], erased: Collection[str]
) -> tuple[Problem, ...]:
    """Check that each commitment opens to what is beside it, or was erased on record.

    ``revealed`` is what ``reveal`` gives for the log's rows; ``erased`` holds the
    commitments that ``erasure`` entries of the same log name.
    """
    problems = []
    for pointer, (name, committed) in commitments(record).items():
        opened = revealed.get(committed)
        detail = None
        if committed in erased:
            detail = None if opened is None else "recorded as erased, and still disclosed"
        elif opened is None:
            detail = "no disclosure opens it, and no erasure entry names it"
        elif opened.name != name:
            detail = f"opens to a {opened.name}, expected a {name}"
        if detail is not None:
            problems.append(Problem(pointer, committed, detail))
    return tuple(problems)


def disclosed(record: Mapping[str, Any], revealed: Mapping[str, Revealed]) -> dict[str, Any]:
    """Give the record with its people and texts in clear, for showing: the claim again.

    What was erased, or can't be opened, stays the commitment it is. Never hash this.
    """

    def value(committed: Any) -> Any:
        opened = revealed.get(committed) if isinstance(committed, str) else None
        return committed if opened is None else opened.value

    people = [
        person | {name: value(person[name]) for name in _FIELDS} for person in record["people"]
    ]
    return {**record, "people": people, "texts": [value(text) for text in record["texts"]]}


def erase(rows: Mapping[str, bytes], person: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Say what to delete to forget a person: (keys of rows, commitments that empties).

    The commitments belong into ``erasure`` entries (``record.erasures``), in the
    transaction that deletes the rows; then ``Vault.forget``. Both are empty when the
    person isn't known here. Seen again later, the person gets a new salt: nothing
    links the two. Raises ``RecordError``, which names the row, where one can't be read:
    it may be that person's.
    """
    ids = {subject.id for subject in _subjects(rows).values() if subject.person == person}
    emptied = sorted(
        key
        for key, content in rows.items()
        if key.startswith(_COMMITMENT) and _owner(key, content) in ids
    )
    return frozenset({f"{_SUBJECT}{one}" for one in ids} | set(emptied)), tuple(emptied)


def _owner(key: str, content: bytes) -> str | None:
    """Give the id of the subject that a row refers to; None of a text that is nobody's."""
    try:
        row = orjson.loads(content)
        owner = None if "salt" in row else row["subject"]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"the row {key} can't be read, so nobody can say whose it is") from error
    if owner is not None and not isinstance(owner, str):
        raise RecordError(f"the row {key} can't be read, so nobody can say whose it is")
    return owner
