"""A change record typed by a person or a script: its file, and the predicate made of it.

The file is the extension field of the statement without its ``basis``, in JSON or
YAML. What was typed is asserted: nobody's API vouches for it, so the basis is always
``asserted`` and a policy must accept that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import msgspec
import yaml

from trailgate.evidence import change
from trailgate.evidence.errors import RefusedError
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import Basis, ChangeRecord, ReviewedChange
from trailgate.model.image import ImageReference

_MAX_BYTES = 4 * 1024 * 1024


class _PlainLoader(yaml.SafeLoader):
    """YAML whose scalars are strings, booleans or null, and whose keys come once.

    A commit of digits only must not become a number, a time no ``datetime``, and
    the login ``no`` no boolean.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # as PyYAML has it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  PyYAML's signature
        """Build a mapping; a key given twice is an error."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len({repr(key) for key in keys}) != len(keys):
            raise yaml.YAMLError(f"a key is given twice in one mapping{node.start_mark}")
        return super().construct_mapping(node, deep)


_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$"), list("tf")
)
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"(?:~|null|)$"), ["~", "n", ""]
)


def read(content: bytes) -> dict[str, Any]:
    """Read the file. Raises ``MalformedError`` with what is wrong where."""
    if len(content) > _MAX_BYTES:
        raise MalformedError(f"got {len(content)} bytes, expected at most {_MAX_BYTES}")
    try:
        value = yaml.load(content, Loader=_PlainLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MalformedError(f"got a file that is neither JSON nor YAML: {error}") from error
    if not isinstance(value, dict):
        raise MalformedError(f"got a {type(value).__name__}, expected a mapping with source, …")
    if value.setdefault("basis", Basis.ASSERTED.value) != Basis.ASSERTED.value:
        raise MalformedError(
            f"got basis {str(value['basis'])[:50]!r}: a file can only assert; "
            "leave it out, or say 'asserted'"
        )
    try:
        known = msgspec.to_builtins(msgspec.convert(value, change.RecordJson))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"got a change record of another form: {error}") from error
    _refuse_unknown(value, known, "$")
    return value


def predicate(
    record: Mapping[str, Any], *, image: ImageReference, verifier: str, at: datetime
) -> dict[str, Any]:
    """Make the verification summary around a record that was read from a file.

    PASSED where every commit of the range belongs to a change that somebody
    approved. Raises ``MalformedError`` where the record contradicts itself.
    """
    summary: dict[str, Any] = {
        "verifier": {"id": verifier},
        "timeVerified": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "resourceUri": str(image),
        "policy": {"uri": f"{change.EXTENSION}#asserted"},
        "verificationResult": "FAILED",
        "verifiedLevels": [],
        "slsaVersion": "1.2",
        change.EXTENSION: dict(record),
    }
    try:
        read_back = change.read(summary)
    except RefusedError as error:
        raise MalformedError(error.detail) from error
    if _covered(read_back, [item for item in read_back.changes if _approvers(item)]):
        summary["verificationResult"] = "PASSED"
    if _covered(read_back, [item for item in read_back.changes if _independent(item)]):
        summary["verifiedLevels"] = [change.TWO_PARTY]
    return summary


def _covered(record: ChangeRecord, changes: list[ReviewedChange]) -> bool:
    """Whether these changes hold every commit of the range; of a baseline, what it ships."""
    covered = {
        commit
        for item in changes
        for commit in (*item.commits, item.head_commit, item.merge_commit)
    }
    source = record.source
    return {source.to} <= covered if source.start is None else set(source.commits) <= covered


def _approvers(item: ReviewedChange) -> set[str]:
    return {
        approval.person.id
        for approval in item.approvals
        if approval.state == "APPROVED" and not approval.person.bot
    }


def _independent(item: ReviewedChange) -> set[str]:
    own = {person.id for person in (*item.committers, item.last_pusher) if person is not None}
    return _approvers(item) - own


def _refuse_unknown(given: Any, known: Any, where: str) -> None:
    """Refuse keys that nobody reads: a misspelled one would silently say less."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                raise MalformedError(f"got the unknown field {where}.{str(key)[:80]}")
            _refuse_unknown(value, known[key], f"{where}.{key}")
    elif isinstance(given, list) and isinstance(known, list):
        for index, (one, other) in enumerate(zip(given, known, strict=True)):
            _refuse_unknown(one, other, f"{where}[{index}]")
