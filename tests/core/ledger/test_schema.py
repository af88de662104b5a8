from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jsonschema
import pytest

from tests.core.ledger import example_records as ex
from trailgate.ledger import record as rec
from trailgate.ledger.events import ControlState, ControlSubject, GapCause
from trailgate.model.decision import Check, CheckResult, Mode
from trailgate.model.reason import Absence, Reason

SCHEMA = json.loads(
    resources.files("trailgate.ledger").joinpath("schema/record-v1.json").read_text("utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
RECORDS = {
    name: example["root"] if name == "child-rollout" else example
    for name, example in ex.examples().items()
    if name != "claim"
}
OF_KIND = {
    kind: jsonschema.Draft202012Validator(
        {"$ref": f"#/$defs/{kind.value}", "$defs": SCHEMA["$defs"]}
    )
    for kind in rec.Kind
}
_OPEN = ("absent", "shortened")


def _objects(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, dict]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            if path or key not in _OPEN:
                yield from _objects(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, (*path, index))


def _at(value: Any, path: tuple) -> Any:
    for step in path:
        value = value[step]
    return value


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", RECORDS)
def test_an_example_is_valid_in_schema_and_form_and_fits(name):
    record = RECORDS[name]
    assert not list(VALIDATOR.iter_errors(record))
    assert rec.check_form(record) == ()
    assert len(rec.encode(record)) <= rec.MAX_RECORD


@pytest.mark.parametrize("name", ex.examples())
def test_an_example_is_what_the_documentation_shows(name):
    shown = (ex.FOLDER / f"{name}.json").read_text("utf-8")
    assert shown == ex.text_of(ex.examples()[name])


def test_nothing_else_is_shown():
    assert {path.stem for path in ex.FOLDER.glob("*.json")} == set(ex.examples())


@pytest.mark.parametrize("name", RECORDS)
def test_no_member_may_be_left_out_or_added_anywhere(name):
    validator, seen = OF_KIND[RECORDS[name]["kind"]], set()
    for path, found in _objects(RECORDS[name]):
        shape = (tuple(step for step in path if isinstance(step, str)), tuple(sorted(found)))
        if shape in seen:
            continue
        seen.add(shape)
        for key in found:
            changed = copy.deepcopy(RECORDS[name])
            del _at(changed, path)[key]
            assert not validator.is_valid(changed), f"without {(*path, key)}"
        changed = copy.deepcopy(RECORDS[name])
        _at(changed, path)["added"] = "x"
        assert not validator.is_valid(changed), f"with an addition in {path}"


@pytest.mark.parametrize("name", RECORDS)
def test_each_null_has_its_reason_and_each_reason_its_null(name):
    record = RECORDS[name]
    for pointer in record["absent"]:
        without = copy.deepcopy(record)
        del without["absent"][pointer]
        assert any(pointer in problem for problem in rec.check_form(without))
    unfounded = copy.deepcopy(record)
    unfounded["absent"]["/kind"] = "NotStated"
    assert rec.check_form(unfounded) == ("/kind: a reason for what isn't null",)


def _set(record: dict, pointer: str, value: Any) -> dict:
    changed = copy.deepcopy(record)
    *path, last = [int(s) if s.isdigit() else s for s in pointer.split("/")[1:]]
    _at(changed, tuple(path))[last] = value
    return changed


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/schema", "trailgate.dev/record/v2"),
        ("/kind", "attested"),
        ("/outcome", "refused"),
        ("/decidedAt", "2026-11-23T13:06:00Z"),
        ("/decidedAt", "2026-11-23T13:06:00.250000+01:00"),
        ("/changeId", "7c0e"),
        ("/object/specDigest", "sha256:ABC"),
        ("/object/generation", 4.5),
        ("/object/generation", "4"),
        ("/enforced", None),
        ("/checks/review", "ok"),
        ("/images/0/checks/review", "not-attested"),
        ("/images/0/digest", "registry.example/acme/web:1.0"),
        ("/images/0/signatures", []),
        ("/change/approvers", []),
        ("/change/approvers", [{"person": "bob"}]),
        ("/change/class", "normal"),
        ("/change/basis", "trust me"),
        ("/people/0/id", "github:1001"),
        ("/people/0/login", "alice"),
        ("/texts/0", "PAY-1234"),
        ("/caller/user", "alice"),
        ("/caller/user", None),
        ("/caller/person", 0),
        ("/spool/boot", "UPPER CASE"),
        ("/spool/seq", -1),
        ("/policies/0/mode", "enforce"),
        ("/images/0/changes/0/source/to", "main"),
    ],
)
def test_a_wrong_value_is_refused(pointer, value):
    assert not VALIDATOR.is_valid(_set(RECORDS["admitted"], pointer, value))


def test_a_configuration_change_can_have_nobody_s_approval():
    record = RECORDS["admitted"]
    assert not VALIDATOR.is_valid(_set(record, "/change/class", "configuration"))
    taken = record["change"]["approvers"]
    assert not VALIDATOR.is_valid(_set(RECORDS["configuration-only"], "/change/approvers", taken))


@pytest.mark.parametrize(
    ("definition", "values"),
    [
        ("reason", Reason),
        ("absence", Absence),
        ("mode", Mode),
        ("check", CheckResult),
    ],
)
def test_the_schema_s_closed_lists_are_the_model_s(definition, values):
    assert SCHEMA["$defs"][definition]["enum"] == [value.value for value in values]


def test_the_schema_s_kinds_and_causes_are_the_code_s():
    defs = SCHEMA["$defs"]
    assert [one["$ref"].rpartition("/")[2] for one in SCHEMA["oneOf"]] == list(rec.Kind)
    assert defs["gap"]["properties"]["cause"]["enum"] == list(GapCause)
    assert defs["control-state"]["properties"]["subject"]["enum"] == list(ControlSubject)
    assert defs["control-state"]["properties"]["state"]["enum"] == list(ControlState)
    assert list(defs["admitted"]["properties"]["checks"]["properties"]) == list(Check)


def test_the_schema_s_new_lists_are_the_code_s():
    def listed(kind: str, name: str) -> list[str]:
        found = SCHEMA["$defs"][kind]["properties"][name]
        return found["enum"] if "enum" in found else found["anyOf"][0]["enum"]

    for kind, name, values in [
        ("persisted", "seen", rec.Seen),
        ("runningImage", "match", rec.Match),
        ("ended", "cause", rec.End),
        ("not-persisted", "cause", rec.NotPersisted),
        ("discrepancy", "why", rec.Why),
        ("control-test", "test", rec.ControlTest),
        ("control-test", "through", rec.Through),
        ("control-test", "got", rec.Verdict),
        ("control-test", "expected", rec.Verdict),
        ("control-test", "outcome", rec.TestOutcome),
        ("disarm", "state", rec.DisarmState),
    ]:
        assert listed(kind, name) == list(values), (kind, name)


def test_the_schema_has_only_what_this_version_writes():
    """Whoever reads a code there takes its absence from a trail for "it never happened"."""
    assert SCHEMA["$defs"]["change"]["properties"]["class"]["enum"] == [
        "standard",
        "rollback",
        "configuration",
    ]
    assert SCHEMA["$defs"]["gate"]["properties"]["component"]["enum"] == [
        "gate",
        "recorder",
        "cli",
        "operator",
        "observer",
        "sentinel",
    ]


@pytest.mark.parametrize(
    ("name", "pointer", "value"),
    [
        ("persisted", "/changeId", None),
        ("persisted", "/claim", -1),
        ("persisted", "/claim", None),
        ("persisted", "/claim", "0"),
        ("persisted", "/object/uid", 7),
        ("persisted", "/object/generation", -1),
        ("persisted", "/object/specDigest", "74a9"),
        ("persisted", "/object/namespace", None),
        ("persisted", "/operation", "CONNECT"),
        ("persisted", "/seen", "guessed"),
        ("persisted", "/images/0/digest", "1.0"),
        ("persisted", "/images/0/reference", None),
        ("persisted", "/allImages", "yes"),
        ("running", "/changeId", "x"),
        ("running", "/claim", None),
        ("running", "/desired", -1),
        ("running", "/desired", None),
        ("running", "/ready", 1.5),
        ("running", "/images/0/running/0", "registry.example/web"),
        ("running", "/images/0/match", "config"),
        ("running", "/allImages", None),
        ("ended", "/cause", "gone"),
        ("ended", "/by", "somebody"),
        ("ended", "/claim", None),
        ("not-persisted", "/cause", "conflict"),
        ("not-persisted", "/claim", None),
        ("not-persisted", "/changeId", None),
        ("discrepancy", "/why", "Finding"),
        ("discrepancy", "/changeId", None),
        ("discrepancy", "/claim", 3),
        ("discrepancy", "/running", ["sha256:" + "0" * 64]),
        ("discrepancy", "/since", "yesterday"),
        ("discrepancy", "/armed", "no"),
        ("discrepancy", "/images/0", "web"),
        ("discrepancy", "/allImages", None),
        ("other-image", "/claim", None),
        ("other-image", "/running", []),
        ("baseline", "/count", None),
        ("baseline", "/part", 0),
        ("baseline", "/parts", 0),
        ("baseline", "/objects/0/specDigest", "x"),
        ("baseline", "/objects/0/images", None),
        ("baseline", "/objects/0/allImages", None),
        ("heartbeat", "/since", None),
        ("heartbeat", "/until", "2026-11-23T13:06:00Z"),
        ("heartbeat", "/armed", "yes"),
        ("heartbeat", "/digest", "x"),
        ("heartbeat", "/readyGates", -1),
        ("heartbeat", "/validPolicies", 0.5),
        ("heartbeat", "/spooled", "0"),
        ("heartbeat", "/entries", None),
        ("heartbeat", "/workloads", True),
        ("heartbeat", "/unexplained", "none"),
        ("control-test", "/test", "probe"),
        ("control-test", "/through", "gate"),
        ("control-test", "/policy", 1),
        ("control-test", "/namespace", 1),
        ("control-test", "/image", 1),
        ("control-test", "/expected", "allowed"),
        ("control-test", "/got", "refused"),
        ("control-test", "/got", "allowed"),
        ("control-test", "/got", None),
        ("control-test", "/reason", "Nothing"),
        ("control-test", "/reason", None),
        ("control-test", "/outcome", "ok"),
        ("disarm", "/state", "created"),
        ("disarm", "/name", None),
        ("disarm", "/uid", None),
        ("disarm", "/until", "soon"),
        ("disarm", "/reason", None),
        ("disarm", "/reason", "the registry is down"),
        ("disarm", "/ticket", "INC-4711"),
        ("policy-changed", "/state", "armed"),
        ("policy-changed", "/state", "started"),
        ("configuration-deleted", "/state", "created"),
        ("configuration-deleted", "/subject", "policy-list"),
        ("control-state", "/state", "armed"),
        ("gap", "/cause", "process-vanished"),
    ],
)
def test_a_wrong_value_of_each_field_is_refused(name, pointer, value):
    record = RECORDS[name]
    assert OF_KIND[record["kind"]].is_valid(record)
    assert not OF_KIND[record["kind"]].is_valid(_set(record, pointer, value))


def test_every_kind_has_an_example():
    assert {record["kind"] for record in RECORDS.values()} == set(rec.Kind)


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_names_are_ascii_so_that_any_encoder_sorts_them_alike(record):
    names = {key for _path, found in _objects(record) for key in found}
    names |= set(record["absent"]) | set(record["shortened"])
    assert all(name.isascii() for name in names)
