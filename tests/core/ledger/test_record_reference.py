"""The record's reference page names everything that the schema has."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from tests.core.ledger import example_records as ex
from trailgate.ledger.events import ControlState, ControlSubject, GapCause
from trailgate.ledger.record import (
    ControlTest,
    DisarmState,
    End,
    Kind,
    Match,
    NotPersisted,
    Seen,
    TestOutcome,
    Through,
    Verdict,
    Why,
)
from trailgate.model.assessment import ChangeClass
from trailgate.model.decision import CheckResult
from trailgate.model.reason import Absence

PAGE = (ex.FOLDER.parent / "record.md").read_text("utf-8")
WORDS = set(re.findall(r"[A-Za-z][A-Za-z-]*", " ".join(re.findall(r"`([^`]+)`", PAGE))))
SCHEMA = json.loads(
    resources.files("trailgate.ledger").joinpath("schema/record-v1.json").read_text("utf-8")
)
RECORDED = (ChangeClass.ROOT, ChangeClass.DELETE, ChangeClass.MIRROR, ChangeClass.SCALE)


@pytest.mark.parametrize(
    "values",
    [
        Kind,
        Absence,
        GapCause,
        ControlSubject,
        ControlState,
        CheckResult,
        RECORDED,
        Seen,
        Match,
        End,
        NotPersisted,
        Why,
        ControlTest,
        Through,
        Verdict,
        TestOutcome,
        DisarmState,
    ],
)
def test_every_code_is_explained(values):
    assert {value.value for value in values} <= WORDS


@pytest.mark.parametrize("kind", Kind)
def test_every_member_of_a_record_is_explained(kind):
    members = set(SCHEMA["$defs"][kind.value]["properties"])
    assert members <= WORDS


@pytest.mark.parametrize(
    "part",
    [
        "image",
        "change",
        "finding",
        "caller",
        "gate",
        "namedPerson",
        "object",
        "runningImage",
        "baselineObject",
    ],
)
def test_every_member_of_a_part_is_explained(part):
    assert set(SCHEMA["$defs"][part]["properties"]) <= WORDS


def test_every_example_is_linked():
    assert {f"examples/{name}.json" for name in ex.examples()} == set(
        re.findall(r"\((examples/[^)]+\.json)\)", PAGE)
    )
