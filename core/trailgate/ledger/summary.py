"""One row per change: the columns of ``ledger list``, each null with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trailgate.ledger.index_rows import STAGES
from trailgate.ledger.query import Found, Stage
from trailgate.ledger.readable import ERASED, Reader

_CHECKS: Final = (
    "signature",
    "provenance",
    "review",
    "deploymentApproval",
    "tests",
    "caller",
    "configuration",
)

#: In this order. Lists are lists; a check's column is ``check:<name>``.
COLUMNS: Final = (
    "index",
    "decidedAt",
    "kind",
    "state",
    "outcome",
    "enforced",
    "class",
    "operation",
    "cluster",
    "environment",
    "namespace",
    "workload",
    "caller",
    "committers",
    "approvers",
    "deploymentApprovers",
    "tests",
    "images",
    "commits",
    "repositories",
    "request",
    "ticket",
    "policies",
    *(f"check:{name}" for name in _CHECKS),
    "reasons",
    "selfAsserted",
    "count",
    "changeId",
    "recordedAt",
    "persistedAt",
    "runningAt",
    "endedAt",
)

_WITH_STATE: Final = ("control-state", "disarm")
_ABOUT: Final = ("subject", "cause", "test", "name")
_NOT_APPLICABLE: Final = "NotApplicable"
# The first 12 digits of a digest or commit.
_HEX: Final = re.compile(r"\b((?:sha256:)?[0-9a-f]{12})[0-9a-f]{28,}\b")


@dataclass(slots=True)
class Row:
    """One row: a value or None for each column, and why each None is one."""

    values: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def put(self, column: str, value: Any, reason: str = _NOT_APPLICABLE) -> None:
        """Fill a column; None needs its reason."""
        self.values[column] = value
        self.absent.pop(column, None)
        if value is None:
            self.absent[column] = reason

    def plain(self) -> dict[str, Any]:
        """Give the row for JSON: the columns, and ``absent`` beside them."""
        return {column: self.values[column] for column in COLUMNS} | {"absent": self.absent}

    def cells(self) -> dict[str, str]:
        """Give the row for tables: every cell a text; ``null, <reason>`` for what is not there."""
        return {
            column: f"null, {self.absent[column]}" if value is None else _cell(value)
            for column, value in self.values.items()
        }

    def short(self) -> dict[str, str]:
        """Give the row for a narrow table: seconds, digests and commits cut with an ellipsis."""
        cells = self.cells()
        cells["decidedAt"] = cells["decidedAt"].partition(".")[0].replace("T", " ")
        return {column: _HEX.sub(r"\1…", text) for column, text in cells.items()}


def summary(found: Found) -> Row:
    """Summarise a change or other event."""
    record, reader, row = found.record, Reader(found.record, found.revealed), Row()
    for column in COLUMNS:
        row.put(column, None)
    row.put("index", found.index)
    if not record:
        row.put("kind", "unknown")
        row.absent = dict.fromkeys(row.absent, "UnknownSchema")
        return row
    row.put("count", record.get("count", found.claims), reader.reason("/count"))
    for name in ("kind", "decidedAt", "recordedAt"):
        row.put(name, record[name])
    for name in ("outcome", "enforced", "operation", "selfAsserted", "changeId"):
        row.put(name, record.get(name))
    row.put("cluster", record["cluster"]["name"] or record["cluster"]["uid"])
    row.put("environment", record["environment"], reader.reason("/environment"))
    row.put("caller", reader.caller(), reader.reason("/caller"))
    _place(record, row)
    _state(found, row)
    _images(record, reader, row)
    _change(record, reader, row)
    for name in _CHECKS:
        row.put(f"check:{name}", record.get("checks", {}).get(name))
    row.put("policies", [_policy(one) for one in record.get("policies", [])] or None)
    row.put("reasons", _reasons(record))
    return row


def _state(found: Found, row: Row) -> None:
    """Tell what became of a change, or of what an event is about; of a lone stage, itself."""
    record = found.record
    if record["kind"] in STAGES:
        stages: Sequence[Stage] = [Stage(record["kind"], found.index, record["decidedAt"])]
    elif record["kind"] == "admitted":
        stages = found.stages
    else:
        if record["kind"] in _WITH_STATE:
            row.put("state", record["state"])
        return
    row.put("state", stages[-1].kind if stages else "admitted")
    last = {stage.kind: stage.at for stage in stages}
    for column in ("persistedAt", "runningAt", "endedAt"):
        row.put(column, last.get(column.removesuffix("At")), "NotFound")


def _place(record: Mapping[str, Any], row: Row) -> None:
    first, last = (
        record.get("object") or record.get("first"),
        record.get("object") or record.get("last"),
    )
    if first is None or last is None:
        # What it is about, where that is no workload.
        about = [record[name] for name in _ABOUT if record.get(name)]
        row.put("workload", "/".join(about) or None)
        row.put("namespace", record.get("namespace"))
        return
    row.put("namespace", record.get("namespace") or last["namespace"])
    names = [f"{place['kind']}/{place['name']}" for place in (first, last)]
    row.put("workload", names[1] if names[0] == names[1] else f"{names[0]} … {names[1]}")


def _images(record: Mapping[str, Any], reader: Reader, row: Row) -> None:
    images = record.get("images")
    if not images:
        return
    row.put("images", [image["digest"] or image["reference"] for image in images])
    builds = [told for image in images for told in image.get("provenance") or ()]
    reason = reader.reason("/images/0/provenance") if record["kind"] == "admitted" else None
    row.put("commits", _each(told["commit"] for told in builds), reason or _NOT_APPLICABLE)
    names = [reader.text(told["repository"]) for told in builds]
    why = ERASED if builds else reason or _NOT_APPLICABLE
    row.put("repositories", _each(name for name in names if name is not None), why)


def _change(record: Mapping[str, Any], reader: Reader, row: Row) -> None:
    change = record.get("change")
    if change is None:
        return
    row.put("class", change["class"])
    for name in ("committers", "approvers", "deploymentApprovers"):
        people = change[name]
        told = None if people is None else [reader.person(one["person"]) for one in people]
        row.put(name, told, reader.reason(f"/change/{name}"))
    tests = change["tests"]
    told = None if tests is None else [line_of_tests(one) for one in tests]
    row.put("tests", told, reader.reason("/change/tests"))
    for column, name in (("request", "uri"), ("ticket", "ticket")):
        why = reader.reason(f"/change/{name}") if change[name] is None else ERASED
        row.put(column, reader.text(change[name]), why)


def _reasons(record: Mapping[str, Any]) -> list[str] | None:
    reasons = record.get("reasons")
    if reasons is None:
        return [record["why"]] if "why" in record else None
    return _each(one if isinstance(one, str) else one["reason"] for one in reasons) or []


def _policy(policy: Mapping[str, Any]) -> str:
    generation = "" if policy["generation"] is None else f" generation {policy['generation']}"
    return f"{policy['name']}{generation} {policy['mode']} {policy['digest']}"


def line_of_tests(tests: Mapping[str, Any]) -> str:
    """Say one test run in a line: ``PASSED (212 run, 0 failed, 3 skipped) of 96a6310a…``."""
    counts = [
        f"{tests[name]} {name}" for name in ("run", "failed", "skipped") if tests[name] is not None
    ]
    told = f" ({', '.join(counts)})" if counts else ""
    return f"{tests['verdict']}{told} of commit {tests['commit']}"


def _each(values: Iterable[str]) -> list[str] | None:
    return list(dict.fromkeys(values)) or None


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
