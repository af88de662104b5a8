"""The sentinel without a cluster: how answers are read, when it asks and tells, what beats claim."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tests.core.ledger import example_records as ex
from tests.operator.waiting import until
from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.ledger.record import ControlSubject, ControlTest, TestOutcome, Verdict
from trailgate.model.admission import Kind
from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate.model.reason import Reason
from trailgate.policy.naming import policy_digest
from trailgate.policy.parse import parse_policy
from trailgate_kube.errors import ForbiddenError, NotFoundError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.policies import Policies
from trailgate_kube.resources import (
    CLUSTER_ROLES,
    DEPLOY_POLICIES,
    SYSTEM_NAMESPACE,
    VALIDATING_WEBHOOKS,
    WORKLOADS,
)
from trailgate_kube.webhooks import ARMING_ROLE, CONFIGURATION, Address
from trailgate_operator.arming_plan import digest_of
from trailgate_operator.assemble import Given, Trail, loops
from trailgate_operator.configuration import ConfigurationError, period
from trailgate_operator.loops import WaitingError
from trailgate_operator.metrics import Metrics
from trailgate_operator.observer_past import Past
from trailgate_operator.probes import Health
from trailgate_operator.register import Register
from trailgate_operator.sentinel import Parts, Rhythm, Sentinel
from trailgate_operator.sentinel_guards import BINDINGS, GUARDS, POLICIES
from trailgate_operator.sentinel_policy import ProbePolicy, body
from trailgate_operator.sentinel_probe import ADMITTED, IMAGES, PROBE, REFUSED, judge, pod
from trailgate_operator.sentinel_tests import Timer
from trailgate_webhook.own import _digest as gates_digest

REFUSAL, ADMISSION = ControlTest.REFUSAL, ControlTest.ADMISSION
WEBHOOK = 'admission webhook "enforce.trailgate.dev" denied the request: '
HEAD = f'trailgate: Pod {PROBE}/{PROBE} denied by DeployPolicy "{{}}" (1 of 1 images) [01234567]'
DENIED = WEBHOOK + HEAD.format(PROBE) + f"\n- {REFUSED}: DigestRequired\n    got      a tag"
DEPLOYMENTS = next(one for one in WORKLOADS if one.plural == "deployments")


@pytest.mark.parametrize(
    ("test", "text", "got", "code", "outcome"),
    [
        (REFUSAL, DENIED, "denied", "DigestRequired", "passed"),
        (REFUSAL, DENIED.replace("enforce", "observe"), "denied", "DigestRequired", "passed"),
        (REFUSAL, DENIED.replace(f'"{PROBE}"', '"all"'), "denied", "DigestRequired", "passed"),
        (REFUSAL, DENIED.replace("Required", "Required (and Malformed)"),
         "denied", "DigestRequired", "passed"),
        (REFUSAL, DENIED.replace("DigestRequired", "EvidenceUnavailable"),
         "denied", "EvidenceUnavailable", "undetermined"),
        (REFUSAL, DENIED.replace("DigestRequired", "NewerReason"), "denied", None, "undetermined"),
        (REFUSAL, WEBHOOK + HEAD.format(PROBE), "denied", None, "undetermined"),
        (REFUSAL, DENIED.replace("trailgate.dev", "example.dev"), None, None, "undetermined"),
        (REFUSAL, 'pods is forbidden: User "u" cannot create', None, None, "undetermined"),
        (REFUSAL, 'failed calling webhook "enforce.trailgate.dev"', None, None, "undetermined"),
        (ADMISSION, DENIED, "denied", "DigestRequired", "failed"),
        (ADMISSION, DENIED.replace(f'"{PROBE}"', f'"all", "{PROBE}"'),
         "denied", "DigestRequired", "failed"),
        (ADMISSION, DENIED.replace(f'"{PROBE}"', '"all"'), None, None, "undetermined"),
        (ADMISSION, DENIED.replace(f' by DeployPolicy "{PROBE}"', ""),
         "denied", "DigestRequired", "failed"),
        (ADMISSION, DENIED.replace("DigestRequired", "Internal"),
         "denied", "Internal", "undetermined"),
        (ADMISSION, "exceeded quota: none", None, None, "undetermined"),
        (ADMISSION, 'violates PodSecurity "restricted:latest"', None, None, "undetermined"),
    ],
)  # fmt: skip
def test_an_answer_is_read(test, text, got, code, outcome):
    answer = judge(test, text)
    assert answer.got == (None if got is None else Verdict(got))
    assert answer.code == (None if code is None else Reason(code))
    assert answer.outcome is TestOutcome(outcome)


def test_the_policy_lets_in_the_one_image_and_asks_nothing_else():
    policy = parse_policy(body("uid") | {"metadata": {"name": PROBE, "generation": 1}})
    assert policy.mode.value == "Enforce"
    assert policy.namespaces.texts == (PROBE,)
    repository, _, digest = ADMITTED.partition("@")
    (given,) = body("uid")["spec"]["thirdParty"]
    assert (given["image"], given["digests"]) == (repository, [digest])
    assert Digest.parse(digest) == Digest.of(b"")
    assert REFUSED.startswith(f"{repository}:")


def test_the_pod_is_one_that_the_strictest_standard_takes():
    spec = pod(ADMITTED)["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("text", ["59s", "25h", "0s", "", "1", "1d", "-1h", "1h ", "forever"])
def test_a_period_is_between_a_minute_and_a_day(text):
    with pytest.raises(ConfigurationError, match="--heartbeat-every: got"):
        period("--heartbeat-every", text)


@pytest.mark.parametrize(("text", "seconds"), [("1m", 60), ("90s", 90), ("1h30m", 5400), ("24h", 86400)])  # fmt: skip
def test_a_period_is_read(text, seconds):
    assert period("--control-test-every", text) == timedelta(seconds=seconds)


class GatedKube(MemoryKube):
    """Answers a dry run as the gate would, or as it is told."""

    def __init__(self):
        super().__init__()
        self.answers = {REFUSED: ForbiddenError(DENIED), ADMITTED: None}
        self.asked = []
        self.meanwhile = None

    async def create(self, resource, body, namespace=None, *, dry_run=False, seconds=None):
        if not dry_run:
            return await super().create(resource, body, namespace, seconds=seconds)
        image = body["spec"]["containers"][0]["image"]
        self.asked.append((resource.plural, namespace, image))
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.answers[image] is not None:
            raise self.answers[image]
        return body


@dataclass
class Counted:
    workloads: int
    unexplained: int


class Post:
    """A sentinel whose time is ours."""

    def __init__(self, *, every=3600.0, address=None):
        self.kube, self.metrics = GatedKube(), Metrics()
        self.time, self.armed, self.told, self.full = 0.0, True, [], False
        self.observed = Counted(12, 1)
        self.policies, self.register, self.recorded = (
            Policies(self.kube),
            Register(ControlSubject.POLICY),
            None,
        )
        self.guards = Register(ControlSubject.GUARD)
        self.sentinel = Sentinel(
            Parts(
                kube=self.kube, policies=self.policies, address=address or Address(),
                armed=lambda: self.armed, spooled=lambda: 4, entries=lambda: 77,
                observed=lambda: self.observed, tell=self.tell, context=ex.context_of("sentinel"),
                register=self.register, guards=self.guards, recorded=lambda: self.recorded,
                metrics=self.metrics,
            ),
            Rhythm(Timer(every)), clock=self.now, monotonic=lambda: self.time,
        )  # fmt: skip
        self.tests, self.heart = self.sentinel._tests, self.sentinel._heart

    def now(self):
        return datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=self.time)

    async def tell(self, statements):
        if self.full:
            raise LedgerUnavailableError("disk full")
        self.told += statements
        for one in statements:
            self.append(one.claim)
        return frozenset(one.key for one in statements)

    def append(self, claim):
        self.sentinel.appended(1, json.dumps(claim, separators=(",", ":")).encode())

    async def unclaimed(self, later=0.0, recorded=0.0):
        """Some time later it compares; returns what is new, in short."""
        self.time += later
        self.recorded = None if recorded is None else self.now() - timedelta(seconds=recorded)
        before = len(self.told)
        await self.sentinel._unclaimed.look()
        return [
            (one.claim["name"], one.claim["state"], one.claim["absent"].get("/caller"))
            for one in self.told[before:]
        ]

    async def ready(self):
        """Everything is there."""
        await self.kube.create(CLUSTER_ROLES, {"metadata": {"name": ARMING_ROLE}})
        webhooks = {"metadata": {"name": CONFIGURATION}, "webhooks": [{"name": "a"}]}
        await self.kube.create(VALIDATING_WEBHOOKS, webhooks)
        self.task = self.policies.task()
        await self.policies.synced()
        await self.tests.look()  # makes the policy
        await until(lambda: PROBE in self.policies.objects)
        self.told.clear()
        self.kube.asked.clear()
        self.tests.renew()

    async def look(self, later=0.0):
        """Some time later it looks; returns what is new of tests, in short."""
        self.time += later
        before = len(self.told)
        self.rest = await self.tests.look()
        return [
            (one.claim["test"], one.claim["outcome"])
            for one in self.told[before:]
            if one.claim["kind"] == "control-test"
        ]

    async def beats(self, later=0.0):
        self.time += later
        before = len(self.told)
        self.rest = await self.heart.look()
        return [one.claim for one in self.told[before:]]


PASSED = [("refusal", "passed"), ("admission", "passed")]
FAILED = [("refusal", "failed"), ("admission", "passed")]


@pytest.fixture
async def post():
    post = Post()
    await post.ready()
    yield post
    post.task.cancel()
    await asyncio.gather(post.task, return_exceptions=True)


async def test_both_are_told_at_once_and_then_on_the_timer(post):
    assert await post.look() == PASSED
    assert post.kube.asked == [("pods", PROBE, IMAGES[test]) for test in ControlTest]
    assert post.rest == 30
    assert await post.look(3599) == []
    assert post.rest == 1
    assert len(post.kube.asked) == 2
    assert await post.look(1) == PASSED
    assert len({one.key for one in post.told}) == 4


async def test_what_is_wrong_is_told_when_it_begins_when_it_ends_and_on_the_timer(post):
    assert await post.look() == PASSED
    post.kube.answers[REFUSED] = None
    assert await post.look(3600) == FAILED
    assert "refusal failed, got allowed" in post.sentinel.note()
    assert post.sentinel.problem() == "has not looked yet"  # the note is none
    asked = len(post.kube.asked)
    for _ in range(5):  # asked again every minute, and not told
        assert await post.look(60) == []
        asked += 2
        assert len(post.kube.asked) == asked
    assert await post.look(3300) == FAILED
    post.kube.answers[REFUSED] = ForbiddenError(DENIED)
    assert await post.look(60) == PASSED
    assert post.sentinel.note() is None
    assert await post.look(60) == []


async def test_just_armed_a_wrong_answer_counts_only_if_it_stays(post):
    post.kube.answers[REFUSED] = None
    assert await post.look() == []
    assert post.rest == 2
    assert await post.look(29) == []
    post.kube.answers[REFUSED] = ForbiddenError(DENIED)
    assert await post.look(0.5) == PASSED
    post.tests.renew()
    post.kube.answers[REFUSED] = None
    assert await post.look(29.9) == []
    assert await post.look(0.1) == FAILED


async def test_while_it_is_not_armed_nothing_is_asked(post):
    for armed in (False, None):
        post.armed = armed
        assert await post.look(7200) == []
    post.armed = True
    await post.kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION)
    assert await post.look(7200) == []
    assert post.kube.asked == []


async def test_an_answer_while_it_was_disarmed_shows_nothing(post):
    async def disarm():
        post.kube.meanwhile = None
        await post.kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION)

    post.time += 60
    post.kube.answers[REFUSED], post.kube.meanwhile = None, disarm
    assert await post.look() == []
    assert post.kube.asked
    assert "failed" not in (post.sentinel.note() or "")


@pytest.mark.parametrize(
    ("state", "subject", "again"),
    [
        ("armed", "webhook-configuration", True),
        ("put-back", "webhook-configuration", True),
        ("adjusted", "webhook-configuration", False),
        ("started", "gate", False),
    ],
)
async def test_after_each_arming_it_tests_and_tells_again(post, state, subject, again):
    assert await post.look() == PASSED
    told = {"kind": "control-state", "subject": subject, "state": state}
    post.sentinel.appended(9, json.dumps(told, separators=(",", ":")).encode())
    assert await post.look() == (PASSED if again else [])


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError('failed calling webhook "enforce.trailgate.dev"', maybe_done=True),
        NotFoundError(f'namespaces "{PROBE}" not found'),
        ForbiddenError("pods is forbidden"),
    ],
)
async def test_no_answer_of_the_gate_is_told_as_undetermined(post, error):
    post.kube.answers = dict.fromkeys(post.kube.answers, error)
    assert await post.look(60) == [("refusal", "undetermined"), ("admission", "undetermined")]
    assert "got no answer of the gate" in post.sentinel.note()


async def test_what_could_not_be_told_is_asked_and_told_again(post):
    post.full = True
    with pytest.raises(LedgerUnavailableError):
        await post.look()
    post.full = False
    assert await post.look() == PASSED


async def test_they_are_counted(post):
    await post.look()
    post.kube.answers[REFUSED] = None
    await post.look(3600)
    value = post.metrics.registry.get_sample_value
    name = "trailgate_operator_control_tests_total"
    assert value(name, {"test": "refusal", "outcome": "passed"}) == 2  # one while it got ready
    assert value(name, {"test": "refusal", "outcome": "failed"}) == 1
    assert value(name, {"test": "admission", "outcome": "passed"}) == 3
    assert value(name, {"test": "admission", "outcome": "undetermined"}) == 0
    passed = "trailgate_operator_control_test_passed_seconds"
    assert value(passed, {"test": "admission"}) - value(passed, {"test": "refusal"}) == 3600


async def test_its_policy_is_kept_as_it_is_and_owned(post):
    keeper = ProbePolicy(post.kube, post.policies)
    assert await keeper.keep() is False
    found = post.policies.objects[PROBE]
    (owner,) = found["metadata"]["ownerReferences"]
    assert owner["name"] == ARMING_ROLE
    for change in (
        {"mode": "Audit"},
        {"namespaces": ["other"]},
        {"thirdParty": []},
        {"rules": [{"images": ["a.example/*"], "trusted": True}]},
        {"callers": {"users": ["somebody"]}},
    ):
        before = post.policies.objects[PROBE]
        await post.kube.replace(DEPLOY_POLICIES, before | {"spec": before["spec"] | change})
        await until(lambda before=before: post.policies.objects[PROBE] != before)
        changed = post.policies.objects[PROBE]
        assert await keeper.keep() is True, change
        await until(lambda changed=changed: post.policies.objects[PROBE] != changed)
        assert post.policies.objects[PROBE]["spec"] == found["spec"]


@pytest.mark.parametrize("owners", [[], [{"uid": "another"}]])
async def test_its_policy_goes_with_the_installation_whatever_somebody_does(post, owners):
    before = post.policies.objects[PROBE]
    metadata = before["metadata"] | {"ownerReferences": owners}
    await post.kube.replace(DEPLOY_POLICIES, before | {"metadata": metadata})
    await until(lambda: post.policies.objects[PROBE] != before)
    assert await ProbePolicy(post.kube, post.policies).keep() is True
    found = await post.kube.get(DEPLOY_POLICIES, PROBE)
    role = await post.kube.get(CLUSTER_ROLES, ARMING_ROLE)
    assert [one["uid"] for one in found["metadata"]["ownerReferences"]] == [role["metadata"]["uid"]]


async def test_without_its_owner_the_policy_is_not_made():
    post = Post()
    with pytest.raises(WaitingError, match="policies have not been read"):
        await post.look()
    task = post.policies.task()
    await post.policies.synced()
    with pytest.raises(WaitingError, match=ARMING_ROLE):
        await post.look()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_heartbeats_claim_all_time_and_count(post):
    deployment = {"metadata": {"name": "trailgate-webhook"}, "status": {"readyReplicas": 2}}
    await post.kube.create(DEPLOYMENTS, deployment, SYSTEM_NAMESPACE)
    claims = []
    for _ in range(21):
        claims += await post.beats(30)
    first, second = claims
    assert first["since"] == "2026-11-23T00:00:00.000000Z"
    assert first["until"] == second["since"] == "2026-11-23T00:05:00.000000Z"
    assert second["until"] == "2026-11-23T00:10:00.000000Z"
    assert first["gate"]["component"] == "sentinel"
    assert {name: first[name] for name in (
        "armed", "digest", "readyGates", "validPolicies", "spooled", "entries", "workloads",
        "unexplained",
    )} == {
        "armed": True, "digest": str(digest_of({"webhooks": [{"name": "a"}]})), "readyGates": 2,
        "validPolicies": 1, "spooled": 4, "entries": 77, "workloads": 12, "unexplained": 1,
    }  # fmt: skip


@pytest.mark.parametrize("slept", [121, 3600, -10])
async def test_what_it_slept_through_no_heartbeat_claims(post, slept):
    assert await post.beats(30) == []
    assert await post.beats(slept) == []
    woke = post.now()
    claims = [claim for _ in range(10) for claim in await post.beats(30)]
    (claim,) = claims
    if slept > 0:
        assert datetime.fromisoformat(claim["since"]) == woke
    else:  # the clock went back, and not behind the beginning
        assert claim["since"] < claim["until"]


async def test_a_number_that_it_can_not_get_is_null():
    post = Post(address=Address(url="https://gate/validate"))
    post.observed = None
    post.kube.fail("get", UnavailableError("away", maybe_done=False))
    await post.heart.beat()
    (told,) = post.told
    claim = told.claim
    for name in ("armed", "digest", "readyGates", "validPolicies", "workloads", "unexplained"):
        assert claim[name] is None, name
        assert claim["absent"][f"/{name}"] == "Unavailable"


async def test_without_a_configuration_a_heartbeat_says_unarmed():
    post = Post()
    await post.heart.beat()
    assert post.told[0].claim["armed"] is False


async def test_a_heartbeat_that_was_not_told_is_made_up_for(post):
    for _ in range(9):
        await post.beats(30)
    post.full = True
    with pytest.raises(LedgerUnavailableError):
        await post.beats(30)
    post.full = False
    (claim,) = await post.beats(30)
    assert claim["since"] == "2026-11-23T00:00:00.000000Z"
    assert claim["until"] == "2026-11-23T00:05:30.000000Z"


async def test_at_its_end_it_says_until_when_it_was_there(post):
    stop = asyncio.Event()
    task = asyncio.create_task(post.sentinel.run(stop))
    await until(lambda: post.sentinel.problem() is None)
    post.time += 7
    stop.set()
    await asyncio.wait_for(task, 5)
    last = post.told[-1].claim
    assert (last["kind"], last["until"]) == ("heartbeat", "2026-11-23T00:00:07.000000Z")


async def test_an_end_without_a_ledger_is_one_all_the_same(post):
    stop = asyncio.Event()
    stop.set()
    post.full = True
    await asyncio.wait_for(post.sentinel.run(stop), 5)
    assert post.told == []


async def test_after_a_restart_one_gap_tells_the_downtime_and_no_heartbeat_claims_it(place):
    kube, told = MemoryKube(), []

    async def tell(statements):
        told.extend(one.claim for one in statements)
        return frozenset(one.key for one in statements)

    before = datetime.now(UTC) - timedelta(hours=1)
    past = Past(ex.CONTEXT.cluster.uid, baseline=True, last=before)
    trail = Trail(past, lambda: None, lambda _: None)
    armed = place.configuration(arm=True, webhook_ca=place.directory / "ca.crt")
    made = loops(armed, Given(kube, tell, ex.CONTEXT, Metrics(), Health(), trail))
    mine = [loop for loop in made if loop.name in ("observer", "sentinel")]
    stop = asyncio.Event()
    running = [asyncio.create_task(loop.run(stop)) for loop in mine]
    await until(lambda: mine[0].problem() is None)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*running), 10)
    (gap,) = [one for one in told if one["kind"] == "gap"]
    (beat,) = [one for one in told if one["kind"] == "heartbeat"]
    assert gap["cause"] == "observer-down"
    assert datetime.fromisoformat(gap["since"]) == before
    assert beat["since"] > gap["since"]
    assert datetime.fromisoformat(beat["since"]) - before >= timedelta(hours=1)
    assert beat["gate"]["component"] == "sentinel"


def policy_change(name, digest, state="changed"):
    """What the gate claims of a policy's change."""
    return {"kind": "control-state", "subject": "policy", "state": state, "name": name,
            "digest": None if digest is None else str(digest)}  # fmt: skip


async def given(post, name, mode="Audit"):
    """Create or change a policy, as anybody does; returns its digest."""
    spec = {"mode": mode, "namespaces": ["shop"], "rules": []}
    item = {"metadata": {"name": name}, "spec": spec}
    try:
        found = await post.kube.get(DEPLOY_POLICIES, name)
    except NotFoundError:
        stored = await post.kube.create(DEPLOY_POLICIES, item)
    else:
        stored = await post.kube.replace(DEPLOY_POLICIES, found | {"spec": spec})
    return policy_digest(stored)


async def test_policies_from_before_the_gate_are_told_once_without_a_name():
    post = Post()
    digest = await given(post, "old")
    assert await post.unclaimed() == []
    assert await post.unclaimed(29) == []
    assert await post.unclaimed(1) == [("old", "created", "NotFound")]
    (told,) = post.told
    assert told.claim["digest"] == str(digest)
    assert told.claim["previousDigest"] is None
    assert await post.unclaimed(600) == []


async def test_a_change_that_the_gate_claimed_is_not_told_again():
    post = Post()
    post.append(policy_change("p", await given(post, "p"), "created"))
    assert await post.unclaimed(0) == await post.unclaimed(600) == []
    digest = await given(post, "p", "Enforce")
    assert await post.unclaimed() == []
    post.append(policy_change("p", digest))
    assert await post.unclaimed(600) == []
    await post.kube.delete(DEPLOY_POLICIES, "p")
    post.append(policy_change("p", None, "deleted"))
    assert await post.unclaimed(0) == await post.unclaimed(600) == []


async def test_changes_while_nobody_asked_the_gate_are_told():
    post = Post()
    before = await given(post, "p")
    post.append(policy_change("p", before, "created"))
    after = await given(post, "p", "Enforce")
    assert await post.unclaimed() == []
    assert await post.unclaimed(30) == [("p", "changed", "NotFound")]
    claim = post.told[-1].claim
    assert (claim["previousDigest"], claim["digest"]) == (str(before), str(after))
    await post.kube.delete(DEPLOY_POLICIES, "p")
    assert await post.unclaimed() == []
    assert await post.unclaimed(30) == [("p", "deleted", "NotFound")]
    assert post.told[-1].claim["previousDigest"] == str(after)


async def test_nothing_is_told_while_a_claim_may_still_wait_in_the_spool():
    post = Post()
    await given(post, "p")
    await post.unclaimed(0)
    assert await post.unclaimed(1700, recorded=None) == []
    assert await post.unclaimed(0, recorded=1680) == []
    assert await post.unclaimed(0, recorded=1670) == [("p", "created", "NotFound")]


@pytest.mark.parametrize("recorded", [None, 1800])
async def test_a_spool_that_is_never_emptied_keeps_nothing_untold(recorded):
    post = Post()
    await given(post, "p")
    await post.unclaimed(0, recorded=None)
    assert await post.unclaimed(1799, recorded=recorded) == []
    assert await post.unclaimed(1, recorded=recorded) == [("p", "created", "NotFound")]


async def test_a_policy_that_can_not_be_read_has_a_digest_too():
    post = Post()
    await post.kube.create(DEPLOY_POLICIES, {"metadata": {"name": "p"}, "spec": {"mode": 1}})
    await post.unclaimed()
    assert await post.unclaimed(30) == [("p", "created", "NotFound")]


async def test_after_a_restart_it_knows_what_the_ledger_knows():
    post = Post()
    digest = await given(post, "p")
    other = {"kind": "control-state", "subject": "gate", "name": "p", "digest": None}
    records = [
        policy_change("p", Digest.of(b"older"), "created"),
        policy_change("gone", Digest.of(b"x"), "created"),
        policy_change("p", digest),
        policy_change("gone", None, "deleted"),
        other,
        {"kind": "admitted", "text": '"subject":"policy"', "subject": None},
    ]
    lines = [json.dumps(one, separators=(",", ":")).encode() for one in records]
    register = Register(ControlSubject.POLICY)
    assert list(register.noting(lines)) == lines
    assert register.known == {"p": str(digest)}


class Guardhouse:
    """The guards, and what is told of them."""

    def __init__(self, post):
        self.post, self.kube = post, post.kube

    async def build(self):
        for resource, name in GUARDS:
            spec = {"metadata": {"name": name}, "spec": {"for": name}}
            await self.kube.create(resource, spec)

    async def look(self):
        before = len(self.post.told)
        await self.post.sentinel._guards.look()
        return [(one.claim["name"], one.claim["state"]) for one in self.post.told[before:]]


async def test_guards_are_told_when_they_come_change_and_go():
    house = Guardhouse(Post())
    assert await house.look() == []  # never there: nothing is missing
    await house.build()
    came = await house.look()
    assert came == [(f"{resource.kind}/{name}", "created") for resource, name in GUARDS]
    assert await house.look() == []
    resource, name = GUARDS[0]
    found = await house.kube.get(resource, name)
    await house.kube.replace(resource, found | {"spec": {"for": "nobody"}})
    assert await house.look() == [(f"{resource.kind}/{name}", "changed")]
    claim = house.post.told[-1].claim
    assert claim["previousDigest"] == str(fingerprint(found["spec"]))
    assert claim["digest"] == str(fingerprint({"for": "nobody"}))
    assert claim["absent"]["/caller"] == "NotShown"
    binding, name = GUARDS[-1]
    await house.kube.delete(binding, name)
    assert await house.look() == [(f"{binding.kind}/{name}", "deleted")]
    assert await house.look() == []


async def test_a_guard_that_went_while_nobody_looked_is_told_after_the_restart():
    house = Guardhouse(Post())
    await house.build()
    await house.look()
    lines = [json.dumps(one.claim, separators=(",", ":")).encode() for one in house.post.told]
    known = Register(ControlSubject.GUARD)
    assert list(known.noting([*lines, b'{"subject":"guard","kind":"erasure"}']))
    later = Post()
    later.guards.known.update(known.known)
    told = await Guardhouse(later).look()
    assert {state for _, state in told} == {"deleted"}
    assert len(told) == len(GUARDS) == len(POLICIES) + len(BINDINGS)


async def test_without_the_right_to_read_them_it_says_so(post):
    post.kube.fail("get", ForbiddenError("validatingadmissionpolicies is forbidden"))
    with pytest.raises(ForbiddenError):
        await post.sentinel._guards.look()
    assert post.told == []


@pytest.mark.parametrize("spec", [body("u")["spec"], {"mode": 1}, {"mode": "Audit", "x": 1.5}])
def test_a_policy_has_the_digest_that_the_gate_gives_it(spec):
    listed = {"metadata": {"name": "p", "generation": 3}, "spec": spec}  # as a list has it
    whole = {"apiVersion": DEPLOY_POLICIES.api_version, "kind": DEPLOY_POLICIES.kind, **listed}
    kind = Kind(DEPLOY_POLICIES.group, DEPLOY_POLICIES.kind)
    assert policy_digest(listed) == gates_digest(kind, whole)
