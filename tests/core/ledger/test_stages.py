"""What became of a change stands in its one row, and is read from the entries."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.ledger import example_records as ex
from tests.core.ledger import trails
from trailgate.ledger import record as rec
from trailgate.ledger.index import Index, index_path
from trailgate.ledger.plain import plain
from trailgate.ledger.query import Filter, Question
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.summary import COLUMNS, summary
from trailgate.ledger.verify import verify
from trailgate.model.admission import Operation
from trailgate.report.html import Proof, page

OBSERVER = ex.context_of("observer")
ADMITTED, OTHER, PERSISTED, RUNNING, ENDED, ORPHAN, STRANGE, NOT = range(8)
CONTROL = 8


def at(seconds):
    return ex.NOW + timedelta(seconds=seconds)


def claims():
    web, about = ex.thing(), rec.Claimed(ex.change_of(ex.thing()), ADMITTED)
    configured = rec.admitted(ex.configuration_only(), ex.CONTEXT)
    config = ex.fingerprint(ex.configuration_only().request.object["spec"])
    other = rec.Claimed(rec.state_id(ex.CONTEXT.cluster.uid, ex.thing().uid, 5, config), OTHER)
    orphan = ex.thing("7.0", 70)
    made = ex.claims()
    return [
        rec.admitted(ex.release(), ex.CONTEXT),
        configured,
        rec.persisted(OBSERVER, at(2), about, web, operation=Operation.UPDATE),
        rec.running(
            OBSERVER, at(3), about, web,
            [rec.RunningImage(web.images[0], (ex.sha("a node's"),), rec.Match.UNVERIFIABLE)],
            desired=2, ready=2,
        ),
        rec.ended(OBSERVER, at(4), about, web, cause=rec.End.DELETED),
        rec.persisted(
            OBSERVER, at(5), rec.Claimed(ex.change_of(orphan), 99), orphan,
            operation=Operation.CREATE,
        ),
        made["discrepancy"],
        rec.not_persisted(
            OBSERVER, at(6), other, replace(web, generation=5, spec=config),
            cause=rec.NotPersisted.UNSEEN,
        ),
        *(made[name] for name in NAMES),
    ]  # fmt: skip


NAMES = ("other-image", "baseline", "control-test", "heartbeat", "disarm", "configuration-deleted")


@pytest.fixture
def trail(tmp_path, key):
    return trails.write(tmp_path / "stages.db", key, some=claims())


def ask(path, **asked):
    with SqliteReader(path) as reader, Index(reader) as index:
        return [row[0] for row in Question(reader, index).select(Filter(**asked))]


def read(path, number):
    with SqliteReader(path) as reader, Index(reader) as index:
        return Question(reader, index).read(number)


def test_a_change_is_one_row_whatever_became_of_it(trail):
    assert ask(trail) == [ADMITTED, OTHER, ORPHAN, STRANGE, *range(CONTROL, CONTROL + len(NAMES))]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"kind": "admitted"}, [ADMITTED, OTHER]),
        ({"kind": "persisted"}, [ADMITTED, ORPHAN]),
        ({"kind": "running"}, [ADMITTED]),
        ({"kind": "ended"}, [ADMITTED]),
        ({"kind": "not-persisted"}, [OTHER]),
        ({"kind": "discrepancy"}, [STRANGE, CONTROL]),
        ({"kind": "heartbeat"}, [CONTROL + 3]),
        ({"state": "admitted"}, []),
        ({"state": "persisted"}, [ORPHAN]),
        ({"state": "running"}, []),
        ({"state": "ended"}, [ADMITTED]),
        ({"state": "not-persisted"}, [OTHER]),
        ({"kind": "persisted", "state": "ended"}, [ADMITTED]),
        ({"kind": "persisted", "approver": "bob"}, [ADMITTED]),
        ({"outcome": "passed"}, [CONTROL + 2]),
        ({"image": str(ex.sha("a node's"))}, [ADMITTED]),
        ({"image": str(ex.sha("web, but another"))}, [CONTROL]),
        ({"image": str(ex.sha("webhooks"))}, []),
        ({"workload": "web", "kind": "baseline"}, [CONTROL + 1]),
        ({"namespace": "shop", "kind": "control-test"}, [CONTROL + 2]),
    ],
)
def test_each_filter_finds_and_leaves_out(trail, asked, expected):
    assert ask(trail, **asked) == expected


def test_the_row_says_when_it_was_stored_ran_and_ended(trail):
    row = summary(read(trail, ADMITTED)).plain()
    assert (row["kind"], row["state"], row["outcome"]) == ("admitted", "ended", "admitted")
    for column, seconds in (("persistedAt", 2), ("runningAt", 3), ("endedAt", 4)):
        assert row[column] == rec.stamp(at(seconds))
    assert row["approvers"] == ["bob (github:1002)"]
    row = summary(read(trail, OTHER)).plain()
    assert row["state"] == "not-persisted"
    assert row["persistedAt"] is None
    assert row["absent"]["persistedAt"] == "NotFound"


def test_a_stage_without_its_admission_is_not_hidden(trail):
    row = summary(read(trail, ORPHAN)).plain()
    assert (row["kind"], row["state"]) == ("persisted", "persisted")
    assert row["persistedAt"] == rec.stamp(at(5))


def test_what_is_no_change_has_no_state_but_of_the_control(trail):
    told = {}
    for number in (STRANGE, *range(CONTROL, CONTROL + len(NAMES))):
        row = summary(read(trail, number)).plain()
        assert row["absent"]["persistedAt"] == "NotApplicable"
        if row["state"] is None:
            assert row["absent"]["state"] == "NotApplicable"
        else:
            told[row["kind"]] = row["state"]
    assert told == {"control-state": "deleted", "disarm": "accepted"}


def test_what_a_row_is_about(trail):
    about = [
        summary(read(trail, CONTROL + number)).cells()["workload"] for number in range(len(NAMES))
    ]
    assert about == [
        "Deployment/web",
        "null, NotApplicable",
        "refusal",
        "null, NotApplicable",
        "incident-4711",
        "webhook-configuration/trailgate",
    ]
    assert summary(read(trail, STRANGE)).values["reasons"] == ["NoAdmission"]


def test_an_index_can_hide_a_stage_and_invent_none(trail):
    ask(trail)
    with sqlite3.connect(index_path(trail)) as intruder:
        intruder.execute(
            "UPDATE event SET stage = 1, kind = 'running', change_id = "
            "(SELECT change_id FROM event WHERE idx = 1) WHERE idx IN (2, 6)"
        )
    intruder.close()
    assert [stage.kind for stage in read(trail, OTHER).stages] == ["not-persisted"]
    with SqliteReader(trail) as reader:
        Index(reader, rebuild=True).close()
    assert [stage.index for stage in read(trail, ADMITTED).stages] == [PERSISTED, RUNNING, ENDED]


def test_the_stages_are_told_in_plain_language(trail):
    told = [text for name, text in plain(read(trail, ADMITTED)) if name == "since then"]
    assert told == [
        f"{kind} at {rec.stamp(at(seconds))} (entry {seconds})"
        for kind, seconds in (("persisted", 2), ("running", 3), ("ended", 4))
    ]


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (PERSISTED, "change", "Deployment shop/web was stored"),
        (PERSISTED, "admitted", "by entry 0"),
        (RUNNING, "pods", "2 ready of 2"),
        (ENDED, "cause", "deleted: the object was deleted"),
        (ENDED, "by change", "null, NotFound"),
        (NOT, "cause", "not-seen: nothing of it was there in its time"),
        (STRANGE, "change", "Deployment shop/web: no admission led to what is there"),
        (STRANGE, "gate armed then", "no"),
        (CONTROL, "change", "Deployment shop/web: something runs that was not admitted"),
        (CONTROL, "runs", str(ex.sha("web, but another"))),
        (CONTROL + 1, "change", "2 workloads were there before the gate was armed"),
        (CONTROL + 2, "outcome", "passed: expected denied, got denied"),
        (CONTROL + 3, "gate armed", "yes"),
        (CONTROL + 3, "of them unexplained", "0"),
        (CONTROL + 4, "reason", "the registry is down, and shop must be fixed"),
        (CONTROL + 5, "caller", None),
    ],
)
def test_each_kind_is_told_in_plain_language(trail, number, name, words):
    lines = plain(read(trail, number))
    told = dict(reversed(lines))
    assert told.get(name) == words
    for label, text in lines:
        assert "None" not in text, (label, text)
    html = page(number, lines, Proof("log.example", 9, "checkpoint"))
    assert words is None or words.split(",")[0] in html


def test_every_null_of_a_row_has_a_reason(trail):
    for number in range(CONTROL + len(NAMES)):
        row = summary(read(trail, number))
        assert tuple(row.values) == COLUMNS
        assert {name for name, value in row.values.items() if value is None} == set(row.absent)


def test_a_ledger_of_all_kinds_verifies(trail, key):
    with SqliteReader(trail) as reader:
        result = verify(reader, [key.verifier], [])
    assert result.holds, result.problems
    assert result.authenticated
