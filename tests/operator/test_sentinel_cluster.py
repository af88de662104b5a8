"""The sentinel on a real API server, with a real gate, one that is dead and one that lies."""

import asyncio
import contextlib
import json
import ssl
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from aiohttp import web

from tests.operator.armed import SYSTEM, Site, start_plane, until
from trailgate.ledger import sqlite
from trailgate.ledger.record import ControlSubject
from trailgate.ledger.spoolkeys import key_id
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.verify import verify
from trailgate.tlog.note import SigningKey
from trailgate_kube.webhooks import Address
from trailgate_operator.intake import Keys
from trailgate_operator.register import Register
from trailgate_operator.sentinel import Parts, Rhythm, Sentinel
from trailgate_operator.sentinel_guards import GUARDS
from trailgate_operator.sentinel_probe import ADMITTED, PROBE, REFUSED
from trailgate_operator.sentinel_tests import Timer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

HOUR = 3600.0
QUICK = Timer(HOUR, settle=8.0, pause=0.1)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    plane = start_plane(tmp_path_factory.mktemp("sentinel") / "control-plane")
    yield plane
    plane.stop()


class Guarded(Site):
    """A site with a sentinel, a ledger in a file, and a clock of the sentinel's."""

    def __init__(self, plane, directory):
        super().__init__(plane, directory)
        self.key = SigningKey.generate("log.example/sentinel")
        self.path = directory / "ledger.db"
        sqlite.create(self.path, self.key)
        self.store = SqliteStore(self.path, self.key)
        self.passed = 0.0
        """How many seconds later it is for the sentinel."""

    async def guard(self, timer=QUICK, **settings):
        await self.start(**settings)
        self.sentinel = Sentinel(
            Parts(
                kube=self._kube, policies=self.policies,
                address=settings.get("address", Address(SYSTEM, url=self.gate.url)),
                armed=self.arming.armed, spooled=lambda: self.recorder.waiting,
                entries=lambda: self.recorder.size, observed=lambda: None,
                register=Register(ControlSubject.POLICY),
                guards=Register(ControlSubject.GUARD),
                recorded=lambda: self.recorder.emptied,
                tell=self.recorder.tell, context=self.arming._parts.context,
                metrics=self.metrics,
            ),
            Rhythm(timer, 300.0),
            clock=lambda: self.now() + timedelta(seconds=self.passed),
            monotonic=lambda: asyncio.get_running_loop().time() + self.passed,
        )  # fmt: skip
        self.recorder.followers.append(self.sentinel.appended)
        self._stop_sentinel = asyncio.Event()
        self._sentinel = asyncio.create_task(self.sentinel.run(self._stop_sentinel))

    async def record(self):
        """Take what the gate spooled, by the sentinel's clock."""
        world, recorder = self.gate.world, self.recorder
        signer = world.signer.public_key()
        keys = Keys((world.recorder,), {key_id(signer): signer})
        recorder._desk = replace(recorder._desk, keys=keys)
        recorder._clock = self.sentinel._heart._clock
        await recorder.drain()

    async def stop(self):
        if self._running is not None and self._sentinel is not None:
            self._stop_sentinel.set()
            await asyncio.wait_for(self._sentinel, 15)
            self._sentinel = None
        await super().stop()

    def clear(self):
        super().clear()  # the next one's gate has other keys: it must not find this one's batches
        self.plane.kubectl(self.plane.admin, "-n", SYSTEM, "delete", "admissions", "--all")

    def later(self, seconds):
        self.passed += seconds
        self.sentinel.wake()

    async def live(self, seconds):
        """Let time pass while it looks as it does: every 30 s."""
        while seconds > 0:
            self.later(min(seconds, 30))
            seconds -= 30
            now = self.sentinel._heart._clock()
            await until(lambda now=now: self.sentinel._heart._alive >= now)

    def tests(self):
        return [(one["test"], one["outcome"], one["reason"]) for one in self.told("control-test")]

    async def tested(self, count):
        await until(lambda: len(self.tests()) >= count, 30.0)
        return self.tests()[count - 2 : count]

    async def passing(self):
        """Armed, and tested once."""
        self.gate.start()
        await self.guard()
        assert await self.tested(2) == PASSED


PASSED = [("refusal", "passed", "DigestRequired"), ("admission", "passed", None)]


@pytest.fixture
async def site(plane, tmp_path):
    site = Guarded(plane, tmp_path)
    yield site
    await site.stop()
    site.store.close()
    site.clear()


@contextlib.asynccontextmanager
async def answering(site, *, allowed):
    """Something else at the gate's address, with its certificate: it says the same to all."""

    async def answer(request):
        review = await request.json()
        response = {"uid": review["request"]["uid"], "allowed": allowed}
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        )

    application = web.Application()
    application.router.add_post("/validate", answer)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(site.gate.world.certs / "tls.crt", site.gate.world.certs / "tls.key")
    try:
        await web.TCPSite(runner, "127.0.0.1", site.gate.port, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


async def test_after_arming_both_are_tried_the_way_a_user_goes_and_nothing_stays(site):
    await site.passing()
    refusal, admission = site.told("control-test")
    assert (refusal["image"], admission["image"]) == (REFUSED, ADMITTED)
    for one in (refusal, admission):
        assert (one["policy"], one["namespace"], one["through"]) == (PROBE, PROBE, "api-server")
    assert (refusal["got"], admission["got"]) == ("denied", "allowed")
    assert site.sentinel.problem() is None
    assert site.sentinel.note() is None
    pods = await site.api("GET", f"/api/v1/namespaces/{PROBE}/pods")
    assert pods["items"] == []
    text = site.metrics.render().decode()
    for test in ("refusal", "admission"):
        assert (
            f'control_tests_total{{outcome="passed",test="{test}"}} 1.0' in text
            or f'control_tests_total{{test="{test}",outcome="passed"}} 1.0' in text
        )
        assert f'control_test_passed_seconds{{test="{test}"}} 0.0' not in text


async def test_on_its_timer_it_tests_again_and_not_before(site):
    await site.passing()
    site.later(HOUR - 60)
    await until(lambda: site.sentinel._heart._since > site.now() + timedelta(seconds=HOUR - 70))
    assert len(site.tests()) == 2
    site.later(61)
    assert await site.tested(4) == PASSED


async def test_a_gate_that_lets_everything_in_is_found_within_one_timer(site):
    await site.passing()
    site.gate.kill()
    async with answering(site, allowed=True):
        site.later(HOUR)
        assert await site.tested(4) == [("refusal", "failed", None), ("admission", "passed", None)]
        assert "refusal failed, got allowed" in site.sentinel.note()
        site.later(61)  # asked again, sooner; that it is still so is told at the timer's turn
        await until(lambda: 'outcome="failed",test="refusal"} 2.0' in metrics(site))
        assert len(site.tests()) == 4
        site.later(HOUR)
        assert (await site.tested(6))[0] == ("refusal", "failed", None)
    site.gate.start()
    await gate_is_up(site)
    site.later(61)
    assert await site.tested(8) == PASSED
    assert site.sentinel.note() is None


async def test_a_gate_that_refuses_everything_is_found_too(site):
    await site.passing()
    site.gate.kill()
    async with answering(site, allowed=False):
        site.later(HOUR)
        refusal, admission = await site.tested(4)
    # Without a code it isn't known whose "no" that was.
    assert refusal == ("refusal", "undetermined", None)
    assert admission == ("admission", "undetermined", None)


async def test_a_dead_gate_shows_nothing_and_that_is_told(site):
    await site.passing()
    site.gate.kill()
    site.later(HOUR)
    assert await site.tested(4) == [
        ("refusal", "undetermined", None), ("admission", "undetermined", None),
    ]  # fmt: skip
    found = site.told("control-test")[-1]
    assert (found["got"], found["absent"]["/got"]) == (None, "Unavailable")
    assert "refusal undetermined, got no answer of the gate" in site.sentinel.note()
    assert site.sentinel.problem() is None


async def test_disarmed_nothing_is_tested_and_armed_again_it_is(site):
    await site.passing()
    site.apply(site.disarm())
    await site.unarmed()
    await until(lambda: site.arming.armed() is False)
    site.later(2 * HOUR)
    await until(lambda: site.sentinel._tests._since is None)
    assert len(site.tests()) == 2
    site.plane.kubectl(site.plane.admin, "delete", "disarm", f"emergency-{site.mark}")
    await site.armed()
    assert await site.tested(4) == PASSED


async def test_its_policy_is_put_back_and_nobody_elses_is_touched(site):
    site.apply(site.policy())
    await site.passing()
    path = f"/apis/trailgate.dev/v1alpha1/deploypolicies/{PROBE}"
    before = await site.api("GET", path)
    weak = before | {"spec": before["spec"] | {"mode": "Audit"}}
    await site.api("PUT", path, weak)

    async def back():
        return (await site.api("GET", path))["spec"] == before["spec"]

    site.later(31)
    await until(back)
    await site.api("DELETE", path)
    site.later(31)

    async def there():
        with contextlib.suppress(Exception):
            return await site.api("GET", path)

    await until(there)
    assert (await site.tested(4))[0][:2] == ("refusal", "passed")
    (owner,) = (await there())["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("ClusterRole", "trailgate-arming")


async def test_another_policy_for_its_namespace_makes_the_admission_undetermined(site):
    site.apply(site.policy("all", "Enforce", "*"))
    site.gate.start()
    await site.guard()
    refusal, admission = await site.tested(2)
    assert refusal == ("refusal", "passed", "NoPolicyForImage")
    assert admission == ("admission", "undetermined", None)
    assert f"all-{site.mark} is for {PROBE}, too" in site.sentinel.note()


async def test_heartbeats_follow_each_other_and_the_ledger_verifies(site):
    await site.passing()
    began = site.sentinel._heart._since
    await site.live(301)
    await until(lambda: len(site.told("heartbeat")) == 1)
    await site.live(301)
    await until(lambda: len(site.told("heartbeat")) == 2)
    await site.stop()
    first, second, last = site.told("heartbeat")
    assert first["until"] == second["since"]
    assert second["until"] == last["since"]
    for one in (first, second):
        assert one["armed"] is True
        assert one["digest"] == site.told()[-1]["digest"]
        assert one["validPolicies"] == 1
        assert (one["readyGates"], one["absent"]["/readyGates"]) == (None, "Unavailable")
        assert one["workloads"] is None
    kinds = [json.loads(record)["kind"] for record in site.store.records()]
    beats = [index for index, kind in enumerate(kinds) if kind == "heartbeat"]
    assert [one["entries"] for one in (first, second, last)] == beats
    assert datetime.fromisoformat(first["since"]) == began
    with SqliteReader(site.path) as reader:
        found = verify(reader, [site.key.verifier])
        assert found.problems == ()


def metrics(site):
    return site.metrics.render().decode()


async def gate_is_up(site):
    async def answers():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", site.gate.port)
            writer.close()
            return True

    await until(answers)


async def test_guards_are_read_by_name_and_told_when_they_change(site):
    resource, name = next(one for one in GUARDS if one[1] == "trailgate-spool")
    path = resource.path(None, name)
    guard = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["trailgate.dev"], "apiVersions": ["*"],
                        "operations": ["CREATE"], "resources": ["admissions"],
                    }
                ]
            },
            "validations": [{"expression": "true"}],
        },
    }  # fmt: skip
    site.apply(guard)
    await site.guard()

    def states():
        return [
            (one["name"], one["state"], one["absent"]["/caller"])
            for one in site.told()
            if one["subject"] == "guard"
        ]

    which = f"{resource.kind}/{name}"
    await until(lambda: states() == [(which, "created", "NotShown")])
    changed = await site.api("GET", path)
    changed["spec"]["validations"][0]["expression"] = "1 == 1"
    await site.api("PUT", path, changed)
    site.later(0)
    await until(lambda: len(states()) == 2)
    await site.api("DELETE", path)
    site.later(0)
    await until(lambda: len(states()) == 3)
    assert [state for _, state, _ in states()] == ["created", "changed", "deleted"]


async def test_a_policys_change_is_told_by_the_gate_and_while_disarmed_by_the_sentinel(site):
    await site.passing()
    name = f"production-{site.mark}"

    def changes(which=name):
        return [
            (one["state"], one["absent"].get("/caller"))
            for one in site.told()
            if one["subject"] == "policy" and one["name"] == which
        ]

    async def unclaimed(which):
        """Wait until everything that nobody claimed is told; ``which`` is among it."""
        before = len(changes(which))

        async def told():
            site.later(31)
            await site.record()
            return len(changes(which)) > before

        await until(told)

    site.apply(site.policy(mode="Audit"))

    async def claimed():
        await site.record()
        return changes()

    await until(claimed)
    await unclaimed(PROBE)  # made before the gate was asked
    assert changes() == [("created", None)]
    site.apply(site.disarm())
    await site.unarmed()
    site.apply(site.policy(mode="Enforce"))
    await unclaimed(name)
    assert changes() == [("created", None), ("changed", "NotFound")]
    first, second = (one for one in site.told() if one["name"] == name)
    assert second["previousDigest"] == first["digest"] != second["digest"]
    assert changes(PROBE) == [("created", "NotFound")]
