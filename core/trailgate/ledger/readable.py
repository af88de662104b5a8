"""A record as a person reads it: references followed, commitments opened, nulls explained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trailgate.ledger.index_rows import CREDENTIAL, IMPERSONATED
from trailgate.ledger.people import Revealed

#: Why a commitment shows nothing: its disclosure isn't there (any more).
ERASED: Final = "Erased"
# What a login is made of; anything else is quoted.
_PLAIN: Final = re.compile(r"[\w.@+-]+")
_SHORT: Final = len("hmac-sha256:") + 8


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one record; ``revealed`` maps its commitments to what they open to."""

    record: Mapping[str, Any]
    revealed: Mapping[str, Revealed]

    def reason(self, pointer: str) -> str:
        """Say why the value at this pointer is null."""
        return str(self.record["absent"].get(pointer, "NotStated"))

    def person(self, place: int) -> str:
        """Name a person: ``alice (github:1001)``; an erased one keeps a mark of their own."""
        entry = self.record["people"][place]
        known = self._open(entry["id"])
        if known is None:
            # Still the same mark everywhere: two erased people don't become one.
            return f"erased person {entry['id'][:_SHORT]}"
        login, name = self._open(entry["login"]), self._open(entry["name"])
        if login is not None and known.endswith(f":{login}"):
            told = known
        elif login is not None:
            told = f"{login if _PLAIN.fullmatch(login) else _quoted(login)} ({known})"
        else:
            # Only a login is anybody's own: a name is quoted, so that it can't pass for one.
            told = known if name is None else f"{_quoted(name)} ({known})"
        return f"{told} [bot]" if entry["bot"] else told

    def identity(self, place: int) -> dict[str, Any]:
        """Give all that is known of a person, with a reason for what is not."""
        entry = self.record["people"][place]
        found: dict[str, Any] = {"commitment": entry["id"], "bot": entry["bot"]}
        absent = {}
        for name in ("id", "login", "name"):
            found[name] = self._open(entry[name])
            if found[name] is None:
                pointer = f"/people/{place}/{name}"
                absent[name] = ERASED if entry[name] is not None else self.reason(pointer)
        return found | ({"absent": absent} if absent else {})

    def text(self, value: Any) -> str | None:
        """Give a string, or what a reference to a text opens to; None where it was erased."""
        if isinstance(value, Mapping):
            return self._open(self.record["texts"][value["text"]])
        return None if value is None else str(value)

    def caller(self) -> str | None:
        """Name who sent the request; None where nobody did.

        A name that was borrowed (``kubectl --as``) is never given bare: its owner did nothing.
        """
        caller = self.record.get("caller")
        if caller is None:
            return None
        name = str(caller["user"]) if caller["person"] is None else self.person(caller["person"])
        borrowed = self.record["absent"].get(CREDENTIAL) == IMPERSONATED
        return f"{name} (impersonated: no credential)" if borrowed else name

    def clear(self, value: Any) -> Any:
        """Give any part of the record with its references followed."""
        if isinstance(value, Mapping):
            if "text" in value and len(value) == 1:
                return self.text(value)
            found = {name: self.clear(item) for name, item in value.items()}
            if isinstance(value.get("person"), int):
                found["person"] = self.identity(value["person"])
            return found
        if isinstance(value, list):
            return [self.clear(item) for item in value]
        return value

    def _open(self, committed: str | None) -> str | None:
        opened = None if committed is None else self.revealed.get(committed)
        return None if opened is None else opened.value


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
