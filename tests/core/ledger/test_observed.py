"""What the observer and the sentinel claim: each value lands where it belongs, or is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.ledger import example_records as ex
from trailgate.ledger import record as rec
from trailgate.ledger.observed import MAX_IMAGES
from trailgate.model.admission import Operation
from trailgate.model.reason import RETRYABLE, Absence, Reason

CLAIMS = ex.claims()
ABOUT = rec.Claimed(ex.change_of(ex.thing()), 0)
OBSERVER = ex.context_of("observer")


def test_the_observer_names_a_change_as_the_gate_does():
    admitted = CLAIMS["admitted"]
    for name in ("persisted", "running", "ended", "not-persisted"):
        assert CLAIMS[name]["changeId"] == admitted["changeId"]
        for member in ("uid", "generation", "specDigest", "namespace", "name", "kind", "group"):
            assert CLAIMS[name]["object"][member] == admitted["object"][member]
    uid = ex.thing().uid
    deleted = rec.deletion_id(ex.CONTEXT.cluster.uid, uid)
    assert str(deleted) == CLAIMS["deleted"]["changeId"]


@pytest.mark.parametrize("change", [{"uid": "other"}, {"generation": 5}, {"spec": ex.sha("spec")}])
def test_another_state_is_another_change(change):
    assert ex.change_of(replace(ex.thing(), **change)) != ex.change_of(ex.thing())


def test_a_state_that_raised_no_generation_is_named_by_what_it_replaced():
    one = ex.thing()
    parts = (ex.CONTEXT.cluster.uid, one.uid, one.generation, one.spec)
    assert len({rec.state_id(*parts, replaced) for replaced in (None, "", "7", "8")}) == 4


def test_a_deletion_has_no_specification():
    gone = replace(ex.thing(), spec=None, images=())
    claim = rec.persisted(OBSERVER, ex.NOW, ABOUT, gone, operation=Operation.DELETE)
    assert claim["object"]["specDigest"] is None
    assert claim["absent"]["/object/specDigest"] == "NotApplicable"
    assert claim["images"] == []


def test_a_kind_without_generations_says_so():
    claim = rec.persisted(
        OBSERVER, ex.NOW, ABOUT, replace(ex.thing(), generation=None), operation=Operation.CREATE
    )
    assert claim["absent"] == {"/object/generation": "NotApplicable"}


def test_images_are_listed_once_and_a_cut_shows():
    many = replace(ex.thing(), images=tuple(f"r.example/i:{n % 70}" for n in range(140)))
    claim = rec.persisted(OBSERVER, ex.NOW, ABOUT, many, operation=Operation.UPDATE)
    assert (len(claim["images"]), claim["allImages"]) == (MAX_IMAGES, False)
    assert claim["absent"]["/images/63/digest"] == "NoDigest"
    fits = replace(many, images=many.images[:MAX_IMAGES])
    claim = rec.persisted(OBSERVER, ex.NOW, ABOUT, fits, operation=Operation.UPDATE)
    assert (len(claim["images"]), claim["allImages"]) == (MAX_IMAGES, True)


def test_running_images_are_cut_the_same_way():
    image = rec.RunningImage("r.example/i:1", (), rec.Match.UNVERIFIABLE)
    claim = rec.running(OBSERVER, ex.NOW, ABOUT, ex.thing(), [image] * 65, desired=1, ready=1)
    assert (len(claim["images"]), claim["allImages"]) == (MAX_IMAGES, False)
    assert claim["absent"]["/images/0/digest"] == "NoDigest"


def test_what_ended_by_itself_was_ended_by_nothing():
    done = rec.ended(OBSERVER, ex.NOW, ABOUT, ex.thing(), cause=rec.End.COMPLETED)
    gone = rec.ended(OBSERVER, ex.NOW, ABOUT, ex.thing(), cause=rec.End.DELETED)
    assert done["absent"] == {"/by": "NotApplicable"}
    assert gone["absent"] == {"/by": "NotFound"}


def test_a_discrepancy_says_what_it_does_not_know():
    claim = rec.discrepancy(
        OBSERVER, ex.NOW, ex.thing(), why=rec.Why.NO_ADMISSION, change=ABOUT.change
    )
    assert claim["absent"] == {
        "/claim": "NotFound",
        "/since": "NotFound",
        "/armed": "Unavailable",
    }


def test_a_baseline_takes_as_many_entries_as_it_needs_and_loses_nothing():
    things = [
        replace(ex.thing(), uid=f"uid-{n}", images=tuple(f"r.example/{n}/{i}" for i in range(9)))
        for n in range(100)
    ]
    claims = rec.baseline(OBSERVER, ex.NOW, things)
    assert len(claims) > 1
    assert [claim["part"] for claim in claims] == list(range(1, len(claims) + 1))
    assert {(claim["count"], claim["parts"]) for claim in claims} == {(100, len(claims))}
    uids = [found["uid"] for claim in claims for found in claim["objects"]]
    assert uids == [f"uid-{n}" for n in range(100)]
    for claim in claims:
        record, _ = rec.commit(claim, rec.Vault(), recorded_at=ex.NOW, position=None)
        assert len(rec.encode(record)) <= rec.MAX_RECORD
        assert not record["shortened"]


def test_a_baseline_of_nothing_is_one_entry_that_says_so():
    (claim,) = rec.baseline(OBSERVER, ex.NOW, [])
    assert (claim["count"], claim["objects"]) == (0, [])


@pytest.mark.parametrize(
    ("test", "got", "code", "outcome"),
    [
        ("refusal", "denied", Reason.SIGNATURE_MISSING, "passed"),
        ("refusal", "denied", None, "undetermined"),
        ("refusal", "allowed", None, "failed"),
        ("refusal", None, None, "undetermined"),
        ("admission", "allowed", None, "passed"),
        ("admission", "denied", Reason.SIGNATURE_MISSING, "failed"),
        ("admission", "denied", None, "failed"),
        ("admission", None, None, "undetermined"),
        *(
            (test, "denied", code, "undetermined")
            for code in sorted(RETRYABLE)
            for test in rec.ControlTest
        ),
    ],
)
def test_an_answer_is_judged(test, got, code, outcome):
    claim = rec.control_test(
        ex.context_of("sentinel"),
        ex.NOW,
        rec.ControlTest(test),
        None if got is None else rec.Verdict(got),
        through=rec.Through.API_SERVER,
        code=code,
    )
    assert claim["outcome"] == outcome
    assert claim["expected"] == {"refusal": "denied", "admission": "allowed"}[test]
    assert claim["absent"].get("/got") == ("Unavailable" if got is None else None)


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("armed", "armed"),
        ("configuration", "digest"),
        ("gates", "readyGates"),
        ("policies", "validPolicies"),
        ("spool", "spooled"),
        ("workloads", "workloads"),
        ("unexplained", "unexplained"),
    ],
)
def test_what_a_heartbeat_does_not_know_is_null_with_a_reason(name, member):
    pulse = replace(ex.PULSE, **{name: None})
    claim = rec.heartbeat(ex.CONTEXT, ex.NOW, pulse, since=ex.NOW, until=ex.NOW)
    assert claim["absent"] == {f"/{member}": "Unavailable"}
    assert CLAIMS["heartbeat"]["absent"] == {}
    assert CLAIMS["heartbeat"][member] is not None


def test_why_it_was_disarmed_is_committed_to():
    claim = CLAIMS["disarm"]
    record, rows = rec.commit(claim, rec.Vault(), recorded_at=ex.NOW, position=None)
    content = rec.encode(record)
    for word in (b"INC-4711", b"registry is down"):
        assert word not in content
        assert word in rec.encode(claim)
    assert len(rows) == 2


def test_a_disarm_without_a_ticket_or_a_readable_end_says_so():
    state = rec.DisarmState.REFUSED
    claim = rec.disarm(ex.CONTEXT, ex.NOW, state, name="x", uid="u", until=None, reason="r")
    assert claim["absent"] == {"/until": "NotVerified", "/ticket": "NotStated"}


ALLOWED = {
    "gate": "started ended",
    "ledger": "started ended",
    "webhook-configuration": "armed adjusted disarmed put-back changed deleted",
    "policy": "created changed deleted",
    "guard": "created changed deleted",
    "disarm": "created changed deleted",
}


@pytest.mark.parametrize("subject", rec.ControlSubject)
@pytest.mark.parametrize("state", rec.ControlState)
def test_each_subject_has_its_own_states(subject, state):
    make = lambda: rec.control_state(ex.CONTEXT, ex.NOW, subject, state, name="x")  # noqa: E731
    if state in ALLOWED[subject].split():
        assert (make()["subject"], make()["state"]) == (subject, state)
    else:
        with pytest.raises(rec.RecordError, match=f"got state {state} of {subject}"):
            make()


@pytest.mark.parametrize("caller", [None, ex.LAPTOP, *Absence])
def test_who_changed_the_control_or_why_that_is_not_known(caller):
    claim = rec.control_state(
        ex.CONTEXT,
        ex.NOW + timedelta(seconds=1),
        rec.ControlSubject.POLICY,
        rec.ControlState.DELETED,
        name="x",
        caller=caller,
    )
    if caller is ex.LAPTOP:
        assert claim["caller"]["person"] == 0
    else:
        assert claim["absent"]["/caller"] == (caller or "NotApplicable")
