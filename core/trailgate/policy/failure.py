"""What one check has against a request, before it is put into words for a policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trailgate.model.decision import Check
from trailgate.model.digest import Digest
from trailgate.model.evidence import Person
from trailgate.model.reason import Reason

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Failure:
    """One reason against it; ``got`` and ``expected`` complete the sentence "got …, expected …"."""

    reason: Reason
    got: str
    expected: str
    check: Check | None = None
    moved_to: Digest | None = None
    permanent: bool = False
    """Asking again finds the same, though with this reason it usually may not."""


def listed(items: Iterable[str]) -> str:
    """Join for a person, sorted, at most four and how many more."""
    known = sorted(set(items))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more


def people(persons: Iterable[Person]) -> str:
    """Name people by login and id."""
    return listed(f"{p.login} ({p.id})" if p.login else p.id for p in persons)


def short(commit: str) -> str:
    """Abbreviate a commit as Git does."""
    return commit[:12]
