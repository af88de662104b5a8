"""Admissions on one side, what is there on the other, in any order."""

from __future__ import annotations

import pytest

from tests.core.assess.support import FactsTwin, OwnersTwin, request
from tests.core.ledger import example_records as ex
from tests.operator.observing import (
    CLUSTER,
    DEPLOYMENT,
    POD,
    REPLICA_SET,
    Watch,
    at,
    brief,
    claim,
    image,
    pod,
    rolled,
    workload,
)
from trailgate.assess.assessor import Assessor
from trailgate.ledger import record as rec
from trailgate.model.admission import Kind
from trailgate.model.digest import Digest
from trailgate_operator import observer_seen
from trailgate_operator.observer_past import Past

FIRST = workload()
SECOND = workload(generation=2, release="2.0")
JOB = Kind("batch", "Job")
D, RS = (DEPLOYMENT, "d"), (REPLICA_SET, "rs")


def started(**more):
    """A Deployment that was admitted and stored."""
    watch = Watch(**more)
    watch.claim(claim(0, None, FIRST))
    watch.see(FIRST)
    assert watch.due() == [("persisted", "d", 1, "observed")]
    return watch


def roll_out(watch, generation=1, release="1.0", **pods):
    watch.see(workload(REPLICA_SET, 1, release, uid="rs", owner=D))
    for name in ("p1", "p2"):
        watch.see(pod(name, RS, release, **pods))
    watch.see(workload(generation=generation, release=release, status=rolled(generation)))


# What was stored


@pytest.mark.parametrize("first", ["claim", "sight"])
def test_an_admission_that_was_stored(first):
    watch = Watch()
    told = claim(7, None, FIRST)
    if first == "claim":
        watch.claim(told)
        assert watch.due() == []
        watch.see(FIRST)
    else:
        watch.see(FIRST)
        assert watch.due() == []
        watch.claim(told)
    assert watch.due() == [("persisted", "d", 1, "observed")]
    (said,) = watch.said
    assert said.claim["claim"] == 7
    assert said.claim["changeId"] == told[1]["changeId"]
    assert said.claim["gate"]["component"] == "observer"
    assert said.claim["operation"] == "CREATE"
    assert watch.later(600) == []


def test_an_admission_of_what_was_never_there():
    watch = Watch()
    watch.claim(claim(0, None, FIRST))
    assert watch.later(59) == []
    assert watch.later(2) == [("not-persisted", "d", 1, "not-seen")]
    assert watch.later(600) == []


def test_what_was_never_there_is_not_remembered_for_ever():
    watch = Watch()
    for number in range(3):
        watch.claim(claim(number, None, workload(uid=f"u{number}")))
    assert len(watch.later(61)) == 3
    assert len(watch.join._tracks) == 3  # something else may still be in the spool
    assert watch.later(1) == []
    assert not watch.join._tracks
    assert not watch.join._empty
    watch.see(workload(uid="u0"))
    assert watch.later() == [("discrepancy", "u0", 1, "NoAdmission")]


def test_without_a_recorder_it_is_remembered_for_half_an_hour():
    watch = Watch()
    watch.claim(claim(0, None, FIRST))
    watch.later(61, recorded=None)
    watch.later(1800, recorded=None)
    assert watch.join._tracks
    watch.later(1, recorded=None)
    assert not watch.join._tracks


def test_what_comes_after_all_is_not_let_go():
    watch = Watch()
    watch.claim(claim(0, None, FIRST))
    watch.later(61)
    watch.see(FIRST)
    assert watch.later() == [("discrepancy", "d", 1, "NoAdmission")]
    assert watch.later(600) == []
    assert watch.join.counts().workloads == 1


def test_what_the_ledger_knows_of_it_is_kept():
    past = past_of(started(), [claim(0, None, FIRST)])
    past.baseline, past.held = True, {}
    watch = Watch(past)
    watch.claim(claim(1, FIRST, None))
    watch.later(600)
    watch.later(1)
    assert not watch.join._tracks
    watch.see(workload(generation=2, replicas=1))
    assert watch.later(600) == []


def test_nothing_is_given_up_before_the_watch_has_caught_up():
    watch = Watch()
    watch.claim(claim(0, None, FIRST))
    assert watch.later(600, heard={}) == []
    assert watch.later(1, heard={DEPLOYMENT: at(59)}) == []
    assert watch.later(1, heard={POD: at(600)}) == []
    watch.see(FIRST)
    assert watch.due() == [("persisted", "d", 1, "observed")]


def test_what_was_admitted_while_nobody_watched_is_undetermined():
    watch = Watch()
    watch.claim(claim(0, None, FIRST))
    told = watch.later(100, watching=at(1))
    assert told == [("not-persisted", "d", 1, "undetermined")]


def test_under_its_generation_something_else_was_stored():
    watch = started()
    watch.claim(claim(1, FIRST, SECOND))
    watch.claim(claim(2, FIRST, workload(generation=2, release="2.1")))
    watch.see(SECOND)
    assert watch.due() == [
        ("persisted", "d", 2, "observed"),
        ("ended", "d", 1, "superseded"),
        ("not-persisted", "d", 2, "other-persisted"),
    ]


def test_a_generation_that_nobody_saw_is_inferred_from_the_next_one():
    watch = started()
    third = workload(generation=3, release="3.0")
    watch.claim(claim(1, FIRST, SECOND))
    watch.claim(claim(2, SECOND, third))
    watch.see(third)
    assert watch.due(recorded=None) == [
        ("persisted", "d", 3, "observed"),
        ("ended", "d", 1, "superseded"),
    ]
    assert watch.later(1) == [("persisted", "d", 2, "inferred")]


def test_which_of_two_was_stored_unseen_cannot_be_told():
    watch = started()
    third = workload(generation=3, release="3.0")
    watch.claim(claim(1, FIRST, SECOND))
    watch.claim(claim(2, FIRST, workload(generation=2, release="2.1")))
    watch.claim(claim(3, SECOND, third))
    watch.see(third)
    assert set(watch.later(1)) >= {("not-persisted", "d", 2, "undetermined")}
    assert [one.claim["kind"] for one in watch.said].count("not-persisted") == 2


def test_a_deletion_is_stored_when_the_object_is_gone():
    watch = started()
    watch.claim(claim(1, FIRST, None))
    watch.see(workload(leaving=True))
    assert watch.later(600) == []
    watch.leave("d")
    assert watch.due(recorded=None) == [("persisted", "d", 1, "observed")]
    assert watch.said[-1].claim["operation"] == "DELETE"
    assert watch.said[-1].claim["object"]["specDigest"] is None
    assert watch.later(1) == [("ended", "d", 1, "deleted")]
    assert watch.said[-1].claim["by"] == claim(1, FIRST, None)[1]["changeId"]


def test_a_deletion_that_did_not_happen():
    watch = started()
    watch.claim(claim(1, FIRST, None))
    assert watch.later(61) == [("not-persisted", "d", 1, "not-seen")]


def test_what_was_deleted_by_nobody_we_know_of():
    watch = started()
    watch.leave("d")
    assert watch.later(1) == [("ended", "d", 1, "deleted")]
    assert watch.said[-1].claim["by"] is None


def test_labels_are_inferred_from_a_change_of_labels():
    watch = started()
    marked = workload(annotations={"acme.example/x": "1"})
    watch.claim(claim(1, FIRST, marked))
    assert watch.due() == []
    watch.see(marked)
    assert watch.due() == [("persisted", "d", 1, "inferred")]
    watch.claim(claim(2, marked, workload(annotations={"acme.example/x": "2"}), seconds=0))
    assert watch.later(61) == [("not-persisted", "d", 1, "not-seen")]


# More and fewer replicas


def test_fewer_replicas_need_no_admission():
    watch = started()
    watch.see(workload(generation=2, replicas=1))
    assert watch.later(600) == []
    assert watch.join.counts().unexplained == 0


def test_more_replicas_need_theirs():
    watch = started()
    watch.see(workload(generation=2, replicas=5))
    assert watch.due() == []
    watch.claim(claim(1, FIRST, FIRST, scale=5))
    assert watch.due() == [("persisted", "d", 2, "observed")]
    watch.see(workload(generation=3, replicas=6))
    watch.claim(claim(2, FIRST, FIRST, scale=7))
    assert watch.later(20) == [
        ("discrepancy", "d", 3, "NoAdmission"),
        ("ended", "d", 1, "superseded"),
    ]


def test_more_replicas_by_an_update_are_no_release():
    watch = started()
    more = workload(generation=2, replicas=3)
    watch.claim(claim(1, FIRST, more, change_class=ex.ChangeClass.SCALE))
    watch.see(more)
    assert watch.later() == [("persisted", "d", 2, "observed")]


@pytest.fixture
def hashed(monkeypatch):
    """How many specifications are hashed to find out about replicas."""
    tries = []

    class Counting:
        @staticmethod
        def of(text):
            tries.append(len(text))
            assert len(tries) <= 2_000
            return Digest.of(text)

    monkeypatch.setattr(observer_seen, "Digest", Counting)
    return tries


def test_far_fewer_replicas_need_no_admission_either():
    many = workload(replicas=3_000)
    watch = Watch()
    watch.claim(claim(0, None, many))
    watch.see(many)
    watch.due()
    watch.see(workload(generation=2, replicas=10))
    assert watch.later(600) == []
    assert watch.join.counts().unexplained == 0


@pytest.mark.parametrize("release", ["1.0", "2.0"])
def test_any_number_of_replicas_is_one_hash(hashed, release):
    watch = started()
    watch.see(workload(generation=2, release=release, replicas=2**31 - 1))
    assert watch.later(1, recorded=None) == []
    assert len(hashed) == 1


@pytest.mark.parametrize("release", ["1.0", "2.0"])
def test_after_a_restart_no_number_takes_long_either(hashed, release):
    past = past_of(started(), [claim(0, None, FIRST)])
    past.baseline = True
    watch = Watch(past)
    for replicas in (2**31 - 1, 300_000):
        watch.see(workload(generation=2, release=release, replicas=replicas))
        for _ in range(3):
            assert watch.later(1, recorded=None) == []
        assert 0 < len(hashed) <= 2_000
        hashed.clear()
    large = {"notes": "x" * 2**20}
    watch.see(workload(generation=3, release=release, replicas=1, spec=large))
    assert watch.later(1, recorded=None) == []
    assert sum(hashed) <= 2**25


@pytest.mark.parametrize(("before", "now"), [(2, 0), (900, 1), (1_999, 1_000), (5_000, 4_500)])
def test_after_a_restart_the_number_is_found(before, now):
    many = workload(replicas=before)
    watch = Watch()
    watch.claim(claim(0, None, many))
    watch.see(many)
    watch.due()
    past = past_of(watch, [claim(0, None, many)])
    past.baseline = True
    again = Watch(past)
    again.see(workload(generation=2, replicas=now))
    assert again.later(600) == []
    assert again.join.counts().unexplained == 0


# What nothing explains


def test_a_state_that_nobody_admitted_is_told_once():
    watch = Watch(armed=False)
    watch.see(FIRST)
    assert watch.later(9) == []
    assert watch.later(5) == [("discrepancy", "d", 1, "NoAdmission")]
    (said,) = watch.said
    assert said.claim["armed"] is False
    assert said.claim["since"] == "2026-11-23T13:00:00.000000Z"
    assert watch.join.counts().unexplained == 1
    watch.see(workload(status=rolled(1)))
    watch.see(workload(annotations={"a": "b"}))
    assert watch.later(600) == []


def test_it_waits_for_what_is_still_in_the_spool():
    watch = Watch()
    watch.see(FIRST)
    assert watch.later(600, recorded=None) == []
    assert watch.later(1, recorded=at(0)) == []
    assert watch.later(1, recorded=at(1)) == [("discrepancy", "d", 1, "NoAdmission")]


def test_it_does_not_wait_for_ever():
    watch = Watch()
    watch.see(FIRST)
    assert watch.later(1801, recorded=None) == [("discrepancy", "d", 1, "NoAdmission")]


def test_an_update_that_nobody_admitted_ends_what_was():
    watch = started()
    watch.see(SECOND)
    assert watch.later() == [
        ("discrepancy", "d", 2, "NoAdmission"),
        ("ended", "d", 1, "superseded"),
    ]
    assert watch.said[-2].claim["since"] == rec.stamp(at(0))
    watch.see(workload(generation=3, release="2.0", replicas=1))
    assert watch.later() == []
    assert watch.join.counts().unexplained == 1
    fourth = workload(generation=4, release="4.0")
    watch.claim(claim(5, SECOND, fourth))
    watch.see(fourth)
    assert watch.later() == [("persisted", "d", 4, "observed")]
    assert watch.join.counts().unexplained == 0


def test_going_back_without_an_admission_is_one_too():
    watch = started()
    watch.claim(claim(1, FIRST, SECOND))
    watch.see(SECOND)
    watch.due()
    watch.see(workload(generation=3))
    assert ("discrepancy", "d", 3, "NoAdmission") in watch.later()


def test_one_that_was_there_for_a_moment_only_is_told_too():
    watch = Watch()
    watch.see(pod("p", None))
    watch.leave("p")
    assert watch.due() == []
    assert watch.later() == [("discrepancy", "p", 1, "NoAdmission")]
    assert watch.join.counts().workloads == 0


@pytest.mark.parametrize("first", ["owner", "child"])
def test_what_a_controller_makes_is_explained_by_its_root(first):
    watch = Watch()
    child = workload(REPLICA_SET, uid="rs", owner=D)
    watch.claim(claim(0, None, FIRST))
    for item in (FIRST, child) if first == "owner" else (child, FIRST):
        watch.see(item)
    watch.see(pod("p", RS))
    assert watch.later(600) == [("persisted", "d", 1, "observed")]
    assert watch.join.counts().workloads == 1


@pytest.mark.parametrize(
    "owner", [(DEPLOYMENT, "nobody"), (POD, "d"), (Kind("acme.example", "Thing"), "t"), D]
)
def test_an_owner_that_is_not_there_or_makes_no_such_thing_explains_nothing(owner):
    watch = started()
    watch.see(pod("p", owner))
    assert watch.later() == [("discrepancy", "p", 1, "NoAdmission")]


@pytest.mark.parametrize("first", ["claim", "sight"])
def test_what_looks_like_a_child_and_was_admitted_itself(first):
    """`kubectl create job --from=cronjob/x`, and a pod that somebody may edit."""
    cron = Kind("batch", "CronJob")
    watch = Watch()
    watch.see(workload(cron, uid="c"))
    job = workload(JOB, uid="j", owner=(cron, "c"))
    if first == "claim":
        watch.claim(claim(0, None, job))
    watch.see(job)
    watch.due(recorded=None)
    watch.leave("j")
    watch.due(recorded=None)
    watch.time += 1
    if first == "sight":
        watch.claim(claim(0, None, job))
    watch.claim(claim(1, job, None))
    watch.later()
    assert {brief(one) for one in watch.said if one.claim["object"]["uid"] == "j"} == {
        ("persisted", "j", 1, "observed"),
        ("ended", "j", 1, "deleted"),
    }
    assert [one.claim["kind"] for one in watch.said].count("persisted") == 2


# The baseline


def test_what_was_there_before_the_gate_was_armed():
    watch = Watch(armed=False, began=False)
    watch.see(FIRST)
    watch.see(workload(uid="other"))
    watch.see(workload(REPLICA_SET, uid="rs", owner=D))
    assert watch.later() == []
    watch.armed = True
    (said,) = watch.later() and watch.said
    assert said.claim["kind"] == "baseline"
    assert [one["uid"] for one in said.claim["objects"]] == ["d", "other"]
    watch.see(workload(generation=2, replicas=1))
    assert watch.later(600) == []
    watch.see(workload(generation=3, release="3.0", replicas=1))
    assert watch.later() == [("discrepancy", "d", 3, "NoAdmission")]


def test_what_comes_after_the_gate_was_armed_is_no_baseline():
    watch = Watch(armed=False, began=False)
    watch.see(FIRST)
    watch.armed = True
    watch.see(workload(uid="later"))
    assert watch.due() == []  # the first one may still be explained
    assert watch.later() == [("baseline", None, None)]
    assert watch.later() == [("discrepancy", "later", 1, "NoAdmission")]


def test_what_was_admitted_is_no_baseline():
    watch = Watch(began=False)
    watch.claim(claim(0, None, FIRST))
    watch.see(FIRST)
    assert watch.due() == [("persisted", "d", 1, "observed"), ("baseline", None, None)]
    assert watch.said[-1].claim["count"] == 0


@pytest.mark.parametrize("lacking", [{"armed": None}, {"armed": False}, {"watching": None}])
def test_a_baseline_waits_until_it_can_be_taken(lacking):
    watch = Watch(armed=None, began=False)
    watch.see(FIRST)
    assert watch.later(100, **lacking) == []
    assert watch.later(1, armed=True) == [("baseline", None, None)]


# What runs


def test_a_change_that_is_rolled_out_runs():
    watch = started()
    roll_out(watch)
    assert watch.due() == [("running", "d", 1)]
    (found,) = watch.said[-1].claim["images"]
    assert (found["match"], len(found["running"])) == ("pinned", 1)
    assert (watch.said[-1].claim["desired"], watch.said[-1].claim["ready"]) == (2, 2)
    assert watch.later(600) == []


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 0},
        {"updatedReplicas": 1},
        {"readyReplicas": 1},
        {"replicas": 3},
        {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
    ],
)
def test_a_rollout_that_is_not_complete_does_not_run(status):
    watch = started()
    roll_out(watch)
    watch.join._tracks["d"].states[1].rolled = None
    watch.see(workload(status=rolled(1, **status)))
    assert watch.later() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"running": ""},
        {"phase": "Pending"},
        {"leaving": True},
    ],
)
def test_pods_that_do_not_run_yet(wrong):
    watch = started()
    watch.see(workload(REPLICA_SET, uid="rs", owner=D))
    watch.see(pod("p1", RS))
    watch.see(pod("p2", RS, **wrong))
    watch.see(workload(status=rolled(1)))
    assert watch.later() == []
    watch.see(pod("p2", RS))
    assert watch.due() == [("running", "d", 1)]


REPO = "registry.example/acme/web"


@pytest.mark.parametrize(
    ("running", "match"),
    [
        (image("1.0"), "pinned"),
        (f"docker-pullable://{image('1.0')}", "pinned"),
        (f"mirror.example/web@{ex.sha('web 1.0')}", "pinned"),
        (f"{REPO}@{ex.sha(str(ex.sha('web 1.0')) + ' amd64')}", "platform"),
        (str(ex.sha("a configuration")), "unverifiable"),
        (f"other.example/web@{ex.sha('who knows')}", "unverifiable"),
        ("sha256:nonsense", "unverifiable"),
        (f"{REPO}:1.0", "unverifiable"),
    ],
)
def test_how_what_runs_compares(running, match):
    watch = started()
    roll_out(watch, running=running)
    assert watch.due() == [("running", "d", 1)]
    assert watch.said[-1].claim["images"][0]["match"] == match


def test_what_runs_and_was_not_admitted():
    watch = started()
    bad = ex.sha("another")
    roll_out(watch, running=f"{REPO}@{bad}")
    assert watch.due() == []
    assert watch.later(31) == [("discrepancy", "d", 1, "ImageNotAdmitted")]
    assert watch.said[-1].claim["running"] == [str(bad)]
    assert watch.said[-1].claim["claim"] == 0
    assert watch.later(600) == []


def test_a_pod_that_was_changed_by_hand():
    watch = started()
    roll_out(watch)
    watch.due()
    watch.see(pod("p2", RS, "6.6"))
    assert watch.due() == []
    assert watch.later(31) == [("discrepancy", "d", 1, "ImageNotAdmitted")]
    assert watch.said[-1].claim["running"] == [str(ex.sha("web 6.6"))]


def test_a_pod_that_is_quite_another_one():
    watch = started()
    watch.see(workload(REPLICA_SET, uid="rs", owner=D))
    watch.see(pod("p1", RS))
    other = pod("p2", RS, "6.6")
    other["spec"]["containers"][0]["name"] = "miner"
    other["status"]["containerStatuses"][0]["name"] = "miner"
    watch.see(other)
    watch.see(workload(status=rolled(1)))
    watch.due()
    assert watch.later(31) == [("discrepancy", "d", 1, "ImageNotAdmitted")]


def test_a_sidecar_that_was_put_beside_it_is_not_its_business():
    watch = started()
    watch.see(workload(REPLICA_SET, uid="rs", owner=D))
    for name in ("p1", "p2"):
        item = pod(name, RS)
        item["spec"]["containers"].append({"name": "proxy", "image": "mesh.example/proxy:1"})
        item["status"]["containerStatuses"].append(
            {"name": "proxy", "imageID": f"mesh.example/proxy@{ex.sha('proxy')}"}
        )
        watch.see(item)
    watch.see(workload(status=rolled(1)))
    assert watch.due() == [("running", "d", 1)]


def test_pods_of_the_state_before_are_not_taken_for_strange_ones():
    watch = started()
    roll_out(watch)
    watch.due()
    watch.claim(claim(1, FIRST, SECOND))
    watch.see(workload(generation=2, release="2.0", status=rolled(2)))
    watch.due()
    assert watch.later(20) == []
    for name in ("p1", "p2"):
        watch.leave(name)
    watch.see(workload(REPLICA_SET, uid="rs2", release="2.0", owner=D))
    for name in ("p3", "p4"):
        watch.see(pod(name, (REPLICA_SET, "rs2"), "2.0"))
    assert watch.due() == [("running", "d", 2)]
    assert watch.later(600) == []


def test_scaled_to_zero_and_back():
    watch = started()
    roll_out(watch)
    watch.due()
    watch.see(workload(generation=2, replicas=0))
    assert watch.due() == []
    for name in ("p1", "p2"):
        watch.leave(name)
    watch.see(workload(generation=2, replicas=0, status={"observedGeneration": 2}))
    assert watch.due() == [("ended", "d", 2, "scaled-to-zero")]
    assert watch.later(600) == []
    watch.claim(claim(3, FIRST, FIRST, scale=1))
    watch.see(workload(generation=3, replicas=1))
    assert watch.due() == [("persisted", "d", 3, "observed")]
    watch.see(pod("p5", RS))
    watch.see(workload(generation=3, replicas=1, status=rolled(3, 1)))
    assert watch.due() == [("running", "d", 3)]
    assert watch.said[-1].claim["changeId"] == watch.said[0].claim["changeId"]


def test_a_pod_that_stands_for_itself_runs_and_is_done():
    watch = Watch()
    bare = pod("p", None, phase="Pending", running="")
    watch.claim(claim(0, None, bare))
    bound = pod("p", None, phase="Pending", running="", spec={"nodeName": "n1"})
    watch.see(bound)
    assert watch.due() == [("persisted", "p", 1, "observed")]
    assert (
        watch.said[-1].claim["object"]["specDigest"]
        == claim(0, None, bare)[1]["object"]["specDigest"]
    )
    watch.see(pod("p", None, spec={"nodeName": "n1"}))
    assert watch.due() == [("running", "p", 1)]
    watch.see(pod("p", None, phase="Succeeded", spec={"nodeName": "n1"}))
    assert watch.due() == [("ended", "p", 1, "completed")]
    assert watch.said[-1].claim["absent"]["/by"] == "NotApplicable"
    watch.leave("p")
    assert watch.later() == []


def test_a_job_runs_and_is_done():
    watch = Watch()
    job = workload(JOB, uid="j")
    watch.claim(claim(0, None, job))
    watch.see(job)
    watch.see(pod("p", (JOB, "j"), phase="Succeeded"))
    done = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
    watch.see(workload(JOB, uid="j", status=done))
    assert watch.due() == [
        ("persisted", "j", 1, "observed"),
        ("running", "j", 1),
        ("ended", "j", 1, "completed"),
    ]


def test_a_daemon_set_runs_on_every_node_that_wants_it():
    kind = Kind("apps", "DaemonSet")
    watch = Watch()
    made = workload(kind, uid="ds")
    watch.claim(claim(0, None, made))
    watch.see(made)
    for name in ("p1", "p2"):
        watch.see(pod(name, (kind, "ds")))
    status = {
        "observedGeneration": 1, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
        "updatedNumberScheduled": 2, "numberReady": 2, "numberMisscheduled": 0,
    }  # fmt: skip
    for name in status:
        wrong = int(name == "numberMisscheduled")
        watch.see(workload(kind, uid="ds", status=status | {name: wrong}))
    assert watch.due() == [("persisted", "ds", 1, "observed")]
    watch.see(workload(kind, uid="ds", status=status))
    assert watch.due() == [("running", "ds", 1)]


def test_it_runs_also_where_the_claim_comes_after_the_next_state():
    watch = Watch()
    watch.see(FIRST)
    roll_out(watch)
    watch.see(SECOND)
    assert watch.due() == []
    watch.claim(claim(1, FIRST, SECOND))
    watch.claim(claim(0, None, FIRST))
    assert watch.due() == [
        ("persisted", "d", 1, "observed"),
        ("running", "d", 1),
        ("persisted", "d", 2, "observed"),
        ("ended", "d", 1, "superseded"),
    ]


# After a restart


def past_of(watch, claims):
    """What a restarted observer reads in the ledger."""
    past = Past(CLUSTER)
    assert not past.baseline
    records = [record for _, record in claims]
    records += [
        rec.commit(said.claim, rec.Vault(), recorded_at=at(0), position=None)[0]
        for said in watch.said
    ]
    assert list(past.noting(map(rec.encode, records))) == [rec.encode(one) for one in records]
    return past


def test_a_restart_says_nothing_twice():
    watch = Watch(began=False)
    watch.claim(claim(0, None, FIRST))
    watch.see(FIRST)
    roll_out(watch)
    watch.see(workload(uid="old", release="0.1"), armed=None)
    watch.later()
    watch.see(workload(uid="strange", release="6.6"))
    watch.later()
    kinds = [one.claim["kind"] for one in watch.said]
    assert sorted(kinds) == ["baseline", "discrepancy", "persisted", "running"]
    again = Watch(past_of(watch, [claim(0, None, FIRST)]))
    again.see(workload(status=rolled(1)))
    roll_out(again)
    again.see(workload(uid="old", release="0.1"))
    again.see(workload(uid="strange", release="6.6"))
    assert again.later(600) == []
    assert again.join.counts() == watch.join.counts()
    again.see(workload(generation=2, replicas=1))
    assert again.later() == []


def test_an_upgrade_of_the_cluster_that_shows_new_defaults_is_no_change():
    watch = started()
    newer = {"spec": {"newDefault": "as ever"}}
    again = Watch(past_of(watch, [claim(0, None, FIRST)]))
    again.join._began = True
    again.see(workload(**newer))
    assert again.later(600) == []
    again.see(workload(generation=2, replicas=1, **newer))
    assert again.later(600) == []
    again.see(workload(generation=3, release="3.0", **newer))
    assert again.later(600)[0] == ("discrepancy", "d", 3, "NoAdmission")


def test_after_a_restart_it_goes_on_where_it_was():
    claims = [claim(0, None, FIRST), claim(1, FIRST, SECOND), claim(2, None, workload(uid="x"))]
    watch = started()
    past = past_of(watch, claims)
    past.baseline = True
    again = Watch(past)
    again.join.listed(DEPLOYMENT, [], at(0), armed=None)
    assert again.later(100, watching=at(50)) == [
        ("not-persisted", "d", 2, "undetermined"),
        ("ended", "d", 1, "deleted"),
        ("not-persisted", "x", 1, "undetermined"),
    ]


def test_the_records_of_another_cluster_are_not_ours():
    watch = started()
    past = past_of(watch, [claim(0, None, FIRST)])
    assert past.held
    assert past.last == at(0)
    other = Past("another cluster")
    for index, record in enumerate([claim(0, None, FIRST)[1]]):
        other.note(index, rec.encode(record))
    assert not other.claims
    assert not other.held


def test_a_list_tells_what_is_gone_and_what_is_not_of_its_kind():
    watch = started()
    watch.see(pod("p", None))
    watch.join.listed(DEPLOYMENT, [], at(0), armed=None)
    told = watch.later()
    assert ("ended", "d", 1, "deleted") in told
    assert ("discrepancy", "p", 1, "NoAdmission") in told
    assert watch.join.counts().workloads == 1


def test_old_news_changes_nothing():
    watch = started()
    watch.claim(claim(1, FIRST, SECOND))
    watch.see(SECOND)
    watch.due()
    watch.see(FIRST)
    assert watch.later(600) == []


def test_downtime_is_a_gap():
    watch = Watch()
    said = watch.join.down(at(0), at(9)).claim
    assert (said["kind"], said["cause"]) == ("gap", "observer-down")
    assert (said["since"], said["until"]) == (rec.stamp(at(0)), rec.stamp(at(9)))


def test_what_is_no_workload_or_has_no_uid_is_not_joined():
    from trailgate_operator.observer_past import admitted

    index, record = claim(0, None, FIRST)
    assert admitted(index, record, CLUSTER) is not None
    for change in ({"kind": "Binding"}, {"uid": None}):
        other = {**record, "object": {**record["object"], **change}}
        assert admitted(index, other, CLUSTER) is None


def test_each_claim_is_read_for_what_it_is():
    from trailgate_operator.observer_past import admitted

    read = lambda told: admitted(*told, CLUSTER)  # noqa: E731
    assert read(claim(0, None, FIRST)).rolls_out
    assert read(claim(0, FIRST, SECOND)).rolls_out
    for told in (
        claim(0, FIRST, None),
        claim(0, FIRST, workload(annotations={"x": "y"})),
        claim(0, FIRST, FIRST, scale=3),
        claim(0, FIRST, workload(generation=2, replicas=3), change_class=ex.ChangeClass.SCALE),
    ):
        assert not read(told).rolls_out
    assert read(claim(0, FIRST, None)).deletes


# What no policy covers


async def of_gate(index, old, new):
    """What a gate without any policy writes of a change."""
    asked = request(new, old, namespace="shop")
    found = await Assessor(lambda: (), FactsTwin(), OwnersTwin()).assess(asked)
    told = rec.admitted(found, ex.CONTEXT)
    record, _ = rec.commit(told, rec.Vault(), recorded_at=at(0), position=None)
    return index, record


async def test_what_no_policy_covers_is_stored_and_runs_as_admitted():
    watch = Watch()
    watch.claim(await of_gate(0, None, FIRST))
    watch.see(FIRST)
    assert watch.due() == [("persisted", "d", 1, "observed")]
    roll_out(watch)
    assert watch.later() == [("running", "d", 1)]
    assert watch.said[-1].claim["images"][0]["match"] == "pinned"
    watch.claim(await of_gate(1, FIRST, SECOND))
    watch.see(SECOND)
    assert watch.due() == [("persisted", "d", 2, "observed"), ("ended", "d", 1, "superseded")]
    assert watch.later(600) == []
    assert watch.join.counts().unexplained == 0


# What has no digest


def huge(generation=1, **more):
    return workload(generation=generation, spec={"huge": (1 << 60) + generation}, **more)


async def test_each_generation_without_a_digest_is_told_once():
    """Two that have no digest needn't be the same, whatever is said of the one before."""
    watch = Watch()
    watch.claim(await of_gate(0, None, huge()))
    watch.see(huge())
    assert watch.due() == [("persisted", "d", 1, "observed")]
    assert watch.later(600) == []
    watch.see(huge(2))
    assert watch.later() == [
        ("discrepancy", "d", 2, "NoAdmission"),
        ("ended", "d", 1, "superseded"),
    ]
    watch.see(huge(2, status=rolled(2)))
    assert watch.later(600) == []
    watch.see(huge(3))
    assert watch.later() == [("discrepancy", "d", 3, "NoAdmission")]
    assert len({one.key for one in watch.said}) == len(watch.said)


def test_without_a_digest_children_are_their_owners():
    watch = Watch()
    watch.see(huge())
    watch.see(workload(REPLICA_SET, uid="rs", owner=D, spec={"huge": 1 << 60}))
    watch.see(workload(POD, uid="p1", owner=RS, spec={"huge": 1 << 60}))
    assert watch.later() == [("discrepancy", "d", 1, "NoAdmission")]


@pytest.mark.parametrize("generation", [0, 1])
def test_without_a_digest_what_was_told_before_a_restart_is_known(generation):
    watch = Watch()
    watch.see(huge(generation))
    assert watch.later() == [("discrepancy", "d", generation, "NoAdmission")]
    past = past_of(watch, [])
    past.baseline = True
    again = Watch(past)
    again.see(huge(generation))
    assert again.later() == []
    again.see(huge(generation + 1))
    assert again.later() == [("discrepancy", "d", generation + 1, "NoAdmission")]


def test_what_had_no_digest_and_has_one_is_another():
    watch = Watch()
    watch.see(huge())
    assert watch.later() == [("discrepancy", "d", 1, "NoAdmission")]
    watch.see(SECOND)
    assert watch.later() == [("discrepancy", "d", 2, "NoAdmission")]
