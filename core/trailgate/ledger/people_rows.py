"""Checks the rows that entries share: every person's own, and what is theirs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import orjson

from trailgate.ledger.people import reveal

_SUBJECT: Final = "subject:"
_SECRET: Final = 32


def check_rows(subjects: Mapping[str, bytes], rows: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """Say what is wrong with the shared rows: ``subjects`` are those of the persons.

    A person's rows go when the person is erased, so each that is there must open to the
    commitment it stands under. Each person must be there once, and be who their own id
    says: by that name they are found when they are seen again, or are to be erased. And
    a row in clear would outlive the erasure of the person whose it is.
    """
    persons = {key: name for key, content in subjects.items() if (name := _person(content))}
    for key in subjects.keys() - persons.keys():
        yield f"a disclosure can't be read: the row {key} of a person"
    for name, times in Counter(persons.values()).items():
        if times > 1:
            yield f"the person {name} has {times} rows"
    unnamed = set(persons)
    for key, content in rows:
        if key in subjects:
            continue
        owner = _owner(content)
        mine = {owner: subjects[owner]} if owner in persons else {}
        opened = reveal({**mine, key: content}).get(key)
        if opened is None:
            yield f"does not open to what is disclosed ({key})"
        elif owner is None:
            yield f"a shared disclosure stands in clear ({key})"
        elif opened.name == "id":
            unnamed.discard(owner)
            if opened.value != persons[owner]:
                yield f"the person {opened.value} is filed under another name, {persons[owner]}"
    yield from (f"the row {key} is of a person whom nothing names" for key in sorted(unnamed))


def _owner(content: bytes) -> str | None:
    """Give the key of the person's row that a row refers to."""
    try:
        row = orjson.loads(content)
        return None if "salt" in row else f"{_SUBJECT}{row['subject']}"
    except (ValueError, KeyError, TypeError):
        return None


def _person(content: bytes) -> str | None:
    """Give the person of a person's row; None where the row has not the form of one."""
    try:
        row = orjson.loads(content)
        name, secrets = row["person"], [bytes.fromhex(row[one]) for one in ("salt", "key")]
    except (ValueError, KeyError, TypeError):
        return None
    sound = isinstance(name, str) and all(len(one) == _SECRET for one in secrets)
    return name if sound else None
