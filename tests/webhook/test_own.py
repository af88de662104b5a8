"""Our own objects: never refused, never unseen, and the writer of a broken policy is told."""

import json
import uuid

import pytest

from tests.webhook.conftest import ready, review, until
from tests.webhook.memory_spool import MemoryAdmissions
from tests.webhook.test_process import deployment
from tests.webhook.test_spool import Scribe
from tests.webhook.world import policy
from trailgate.ledger.record import ControlState, ControlSubject
from trailgate.ledger.spoolwriter import SpoolFullError
from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate.policy.parse import parse_policy
from trailgate_webhook import own
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.review import ReviewError, read
from trailgate_webhook.spool import NotKeptError, SpoolWriter

PLURALS = {"DeployPolicy": "deploypolicies", "Disarm": "disarms"}


def disarm(reason="emergency"):
    return {
        "apiVersion": "trailgate.dev/v1alpha1",
        "kind": "Disarm",
        "metadata": {"name": "drill", "uid": str(uuid.uuid4())},
        "spec": {"reason": reason, "until": "2026-11-23T18:00:00Z"},
    }


def body(operation, new=None, old=None, **changes):
    """A review of one of our own objects, as the API server sends it."""
    kind = (new or old)["kind"]
    document = review("create-deployment", uid=str(uuid.uuid4()))
    document["request"] |= {
        "kind": {"group": "trailgate.dev", "version": "v1alpha1", "kind": kind},
        "resource": {"group": "trailgate.dev", "version": "v1alpha1", "resource": PLURALS[kind]},
        "operation": operation,
        "namespace": "",
        "name": (new or old)["metadata"]["name"],
        "object": new,
        "oldObject": old,
    } | changes
    for name in ("requestKind", "requestResource"):
        document["request"].pop(name, None)
    return document


def request(*args, **changes):
    return read(json.dumps(body(*args, **changes)).encode())


def broken():
    document = policy()
    document["spec"]["requireEverything"] = True
    return document


def numbered():
    """A policy whose specification has no canonical form."""
    document = policy()
    document["spec"]["mode"] = 1.5
    return document


async def test_who_writes_a_policy_is_in_the_spool_before_the_answer(begin, world):
    server = begin()
    await ready(server)
    document, changed = policy(), policy(mode="Audit")
    for one in (
        body("CREATE", document),
        body("UPDATE", changed, document),
        body("DELETE", None, changed),
    ):
        status, answer = await server.post(one)
        assert (status, answer["response"]["allowed"]) == (200, True)
        assert "warnings" not in answer["response"]
    digests = [str(parse_policy(one).reference.digest) for one in (document, changed)]
    claims = [claim for claim in world.claims("control-state") if claim["subject"] == "policy"]
    assert [
        (claim["state"], claim["name"], claim["digest"], claim["previousDigest"])
        for claim in claims
    ] == [
        ("created", "production", digests[0], None),
        ("changed", "production", digests[1], digests[0]),
        ("deleted", "production", None, digests[1]),
    ]
    assert all(claim["caller"] is not None for claim in claims)
    counted = (
        'trailgate_admission_decisions_total{class="own",mode="none",outcome="allowed",reason=""}'
    )
    assert await server.metric(counted) == 3


async def test_a_disarm_that_comes_and_goes_is_recorded(begin, world):
    server = begin()
    await ready(server)
    one = disarm()
    for sent in (body("CREATE", one), body("DELETE", None, one)):
        assert (await server.post(sent))[1]["response"]["allowed"] is True
    claims = [claim for claim in world.claims("control-state") if claim["subject"] == "disarm"]
    digest = str(fingerprint(one["spec"]))
    assert [(c["state"], c["name"], c["digest"], c["previousDigest"]) for c in claims] == [
        ("created", "drill", digest, None),
        ("deleted", "drill", None, digest),
    ]


async def test_a_policy_that_can_t_be_read_passes_and_its_writer_is_told(begin, world):
    server = begin()
    await ready(server)
    _, answer = await server.post(body("UPDATE", broken(), policy()))
    response = answer["response"]
    assert response["allowed"] is True
    assert "last good form" in response["warnings"][0]
    assert any("requireEverything" in line for line in response["warnings"])
    (claim,) = (c for c in world.claims("control-state") if c["subject"] == "policy")
    assert claim["digest"] == str(fingerprint(broken()["spec"]))


async def test_the_own_objects_do_not_wait_for_policies_that_were_never_read(start):
    server = start(policies_after=3600)
    _, answer = await server.post(body("CREATE", policy()), "?timeout=1s")
    assert answer["response"]["allowed"] is True
    status, _ = await server.post(review("create-deployment"), "?timeout=1s")
    assert status == 503  # what the policies decide does


async def test_a_full_spool_stops_no_policy_and_becomes_a_gap(begin, world):
    server = begin()
    await ready(server)
    for number in range(5_000):
        (world.spool / f"{number}.json").touch()

    async def full():
        _, answer = await server.post(deployment(namespace="free"))
        return "no evidence was kept" in str(answer["response"].get("warnings"))

    await until(full)
    lost = await server.metric("trailgate_admission_evidence_lost_total")
    _, answer = await server.post(body("UPDATE", policy(mode="Audit"), policy()))
    assert answer["response"]["allowed"] is True
    assert answer["response"]["warnings"] == ["trailgate: this change was not recorded"]
    assert await server.metric("trailgate_admission_evidence_lost_total") == lost + 1
    for number in range(5_000):
        (world.spool / f"{number}.json").unlink()
    await server.stop()
    assert sum(gap["count"] for gap in world.claims("gap")) == lost + 1
    assert not [c for c in world.claims("control-state") if c["subject"] == "policy"]


@pytest.mark.parametrize(
    "changes",
    [{"dryRun": True}, {"subResource": "status"}],
    ids=["dry run", "status"],
)
def test_what_changes_nothing_is_not_recorded(changes):
    assert own.change_of(request("UPDATE", policy(mode="Audit"), policy(), **changes)) is None


def test_labels_alone_are_no_change_of_a_policy():
    labelled = policy()
    labelled["metadata"]["labels"] = {"team": "shop"}
    assert own.change_of(request("UPDATE", labelled, policy())) is None


def test_the_digest_is_the_one_that_decisions_name():
    change = own.change_of(request("UPDATE", policy(namespace="other"), policy()))
    assert change.digest == parse_policy(policy(namespace="other")).reference.digest
    assert change.previous == parse_policy(policy()).reference.digest


def test_a_form_without_a_canonical_one_still_has_a_digest():
    change = own.change_of(request("UPDATE", numbered(), policy()))
    assert isinstance(change.digest, Digest)
    assert change.digest != change.previous
    assert (change.subject, change.state) == (ControlSubject.POLICY, ControlState.CHANGED)


def test_a_new_broken_policy_is_told_apart_from_a_broken_edit():
    first, *rest = own.warnings(request("CREATE", broken()))
    assert "last good form" not in first
    assert rest
    assert all(len(line) <= 256 for line in (first, *rest))


def test_many_mistakes_are_told_in_a_few_lines_and_none_is_dropped_silently():
    document = policy()
    document["spec"] |= {f"unknown{number}\u202e": 1 for number in range(50)}
    lines = own.warnings(request("CREATE", document))
    assert len(lines) == 8
    assert lines[-1] == "trailgate: and 44 more"
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("operation", ["DELETE"])
def test_a_broken_policy_that_goes_is_no_news_to_its_writer(operation):
    assert own.warnings(request(operation, None, broken())) == ()


def test_a_good_policy_and_a_disarm_are_not_remarked_on():
    assert own.warnings(request("CREATE", policy())) == ()
    assert own.warnings(request("CREATE", disarm())) == ()


@pytest.mark.parametrize(
    ("operation", "new", "old"),
    [
        ("CREATE", policy(), policy()),
        ("UPDATE", policy(), None),
        ("DELETE", policy(), None),
    ],
)
def test_a_review_that_no_api_server_sends_is_malformed(operation, new, old):
    with pytest.raises(ReviewError):
        request(operation, new, old)


def test_only_what_people_write_is_our_own():
    other = body("CREATE", disarm())
    other["request"]["kind"] = {"group": "example.com", "version": "v1", "kind": "DeployPolicy"}
    assert not own.is_own(read(json.dumps(other).encode()))
    other["request"]["kind"] = {"group": "trailgate.dev", "version": "v1", "kind": "Admission"}
    assert not own.is_own(read(json.dumps(other).encode()))


async def test_a_claim_is_durable_when_it_was_kept_and_an_error_when_it_can_t_be():
    admissions = MemoryAdmissions()
    writer = SpoolWriter(admissions, Scribe(), Metrics())
    await writer.start()
    await until(lambda: writer.started)
    change = own.change_of(request("CREATE", policy()))
    await writer.changed(change, 2)
    assert len(admissions.stored) == 2
    admissions.failures = [SpoolFullError("full")]
    with pytest.raises(NotKeptError):
        await writer.changed(change, 2)
    await writer.stop()
