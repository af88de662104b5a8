"""A record as a person reads it: references followed, commitments opened, nulls explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trailgate.ledger.people import Revealed

#: Why a commitment shows nothing: its disclosure isn't there (any more).
ERASED: Final = "Erased"
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
        login = self._open(entry["login"]) or self._open(entry["name"])
        name = known if login is None or known.endswith(f":{login}") else f"{login} ({known})"
        return f"{name} [bot]" if entry["bot"] else name

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
        """Name who sent the request; None where nobody did."""
        caller = self.record.get("caller")
        if caller is None:
            return None
        return str(caller["user"]) if caller["person"] is None else self.person(caller["person"])

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
