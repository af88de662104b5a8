"""Arming on a real API server, with a real gate: when it appears, stays, goes, comes back."""

import asyncio
import base64
import json
from datetime import timedelta

import pytest

from tests.operator import rights
from tests.operator.armed import CONFIGURATION, SYSTEM, Site, start_plane, until
from trailgate.ledger.people import reveal

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    plane = start_plane(tmp_path_factory.mktemp("arming") / "control-plane")
    yield plane
    plane.stop()


@pytest.fixture
async def site(plane, tmp_path):
    site = Site(plane, tmp_path)
    yield site
    await site.stop()
    site.clear()


async def test_it_arms_when_a_gate_answers_and_not_before(site):
    site.apply(site.policy())
    await site.start()
    await until(lambda: "no gate answers" in (site.arming.problem() or ""))
    assert await site.configuration() is None
    assert site.deploy(site.shop).returncode == 0
    site.gate.start()
    armed = await site.armed()
    assert [one["name"].partition(".")[0] for one in armed["webhooks"]] == [
        "enforce", "observe", "delete", "own",
    ]  # fmt: skip
    await until(lambda: site.arming.problem() is None)
    assert site.arming.note() == "armed"
    assert site.states() == ["armed"]
    refused = site.deploy(site.shop, "second")
    assert refused.returncode != 0
    assert "DigestRequired" in refused.stderr or "NoPolicyForImage" in refused.stderr


async def test_once_armed_it_stays_whatever_becomes_of_the_gates(site):
    site.apply(site.policy())
    site.gate.start()
    await site.start()
    await site.armed()
    await site.stop()
    site.gate.kill()
    await site.start()
    await until(lambda: site.arming.note() == "armed")
    refused = site.deploy(site.shop)
    assert 'failed calling webhook "enforce.trailgate.dev"' in refused.stderr
    assert site.deploy("default").returncode == 0
    assert site.states() == ["armed"]
    site.plane.kubectl(site.plane.admin, "delete", "-n", "default", "deployment", "web")


async def test_what_somebody_changed_is_put_back_and_told(site):
    site.gate.start()
    await site.start()
    before = await site.armed()
    site.gate.kill()  # putting back takes no gate
    changed = await site.api("GET", CONFIGURATION)
    changed["webhooks"][0]["failurePolicy"] = "Ignore"
    changed["webhooks"][0]["objectSelector"] = {"matchLabels": {"a": "b"}}
    changed["webhooks"][1]["matchConditions"].append({"name": "never", "expression": "false"})
    changed["webhooks"].append(dict(changed["webhooks"][3], name="more.example.com"))
    await site.api("PUT", CONFIGURATION, changed)

    async def back():
        found = await site.configuration()
        return found["webhooks"] == before["webhooks"] and found

    found = await until(back)
    assert found["metadata"]["uid"] == before["metadata"]["uid"]
    await until(lambda: site.states() == ["armed", "changed", "put-back"])
    armed, told, back_ = site.told()
    assert told["previousDigest"] == armed["digest"] == back_["digest"]
    assert told["digest"] == back_["previousDigest"] != armed["digest"]
    assert told["caller"] is None
    assert told["absent"]["/caller"] == "NotShown"
    assert back_["absent"]["/caller"] == "NotApplicable"


async def test_what_somebody_added_to_its_metadata_is_removed(site):
    site.gate.start()
    await site.start()
    before = await site.armed()
    changed = await site.api("GET", CONFIGURATION)
    changed["metadata"] |= {
        "annotations": {"a": "b"}, "labels": {}, "finalizers": ["example.com/stay"],
        "ownerReferences": [],
    }  # fmt: skip
    await site.api("PUT", CONFIGURATION, changed)

    async def back():
        metadata = (await site.configuration())["metadata"]
        return all(
            metadata.get(name) == before["metadata"].get(name)
            for name in ("annotations", "labels", "finalizers", "ownerReferences")
        )

    await until(back)
    await until(lambda: site.states() == ["armed", "put-back"])


async def test_deleted_it_is_put_back_where_a_gate_answers_and_not_else(site):
    site.gate.start()
    await site.start()
    first = await site.armed()
    site.gate.kill()
    await site.api("DELETE", CONFIGURATION)
    await until(lambda: site.states() == ["armed", "deleted"])
    await until(lambda: "no gate answers" in (site.arming.problem() or ""))
    assert await site.configuration() is None
    assert "trailgate_armed 0.0" in site.metrics.render().decode()
    site.gate.start()
    second = await site.armed()
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    await until(lambda: site.states() == ["armed", "deleted", "put-back"])
    assert site.told()[1]["absent"]["/caller"] == "NotShown"


async def test_a_flip_moves_a_namespace_from_failing_open_to_failing_closed_and_back(site):
    site.apply(site.policy(mode="Audit"))
    site.gate.start()
    await site.start()
    await site.armed()
    assert await site.expression() == "false"
    assert await site.expression("observe") == "!(false)"
    site.apply(site.policy(mode="Enforce"))
    await site.enforces(site.shop)
    site.gate.kill()
    assert "failed calling webhook" in site.deploy(site.shop, "one").stderr
    site.apply(site.policy(mode="Audit"))

    async def off():
        return await site.expression() == "false"

    await until(off)
    assert site.deploy(site.shop, "two").returncode == 0
    await until(lambda: site.states() == ["armed", "adjusted", "adjusted"])


async def test_a_new_namespace_of_a_glob_fails_closed_at_once(site):
    site.apply(site.policy("globs", "Enforce", f"team-?-{site.mark}*"))
    site.gate.start()
    await site.start()
    await site.enforces("team-")
    await site.stop()
    site.gate.kill()
    for name, closed in ((f"team-a-{site.mark}", True), (f"team-ab-{site.mark}", False)):
        site.plane.namespace(name)
        done = site.deploy(name)
        assert ("failed calling webhook" in done.stderr) is closed, done.stderr
        assert (done.returncode != 0) is closed


async def test_a_disarm_works_with_the_gate_dead_and_its_end_arms_again(site):
    site.apply(site.policy())
    site.gate.start()
    await site.start()
    await site.enforces(site.shop)
    site.gate.kill()
    assert site.deploy(site.shop).returncode != 0
    site.apply(site.disarm(ticket="INC-7"))
    await site.unarmed()
    assert site.deploy(site.shop).returncode == 0
    name = f"emergency-{site.mark}"
    await until(lambda: "InEffect" in site.state_of(name))
    assert "gate broken" in site.state_of(name)
    assert "INC-7" in site.state_of(name)
    assert site.arming.problem() is None
    assert site.arming.note().startswith("disarmed until")
    site.gate.start()
    await asyncio.sleep(1.0)  # time in which it must not arm
    assert await site.configuration() is None
    site.plane.kubectl(site.plane.admin, "delete", "disarm", name)
    await site.armed()
    await until(lambda: site.states() == ["armed", "disarmed", "armed"])
    assert site.states("disarm") == ["accepted", "deleted"]


async def test_one_that_is_deleted_while_the_operator_is_down_is_told_when_it_is_back(site):
    site.gate.start()
    await site.start()
    await site.armed()
    site.apply(site.disarm(ticket="INC-7"))
    await until(lambda: site.states("disarm") == ["accepted"])
    await site.unarmed()
    await site.stop()
    site.plane.kubectl(site.plane.admin, "delete", "disarm", f"emergency-{site.mark}")
    await site.start()
    await site.armed()
    assert site.states("disarm") == ["accepted", "deleted"]
    accepted, deleted = site.told("disarm")
    assert [deleted[name] for name in ("name", "uid", "until")] == [
        accepted[name] for name in ("name", "uid", "until")
    ]
    records = list(site.store.records())
    last = max(at for at, record in enumerate(records) if b'"kind":"disarm"' in record)
    opened = reveal(site.store.disclosures_of(last))
    assert [opened[one].value for one in deleted["texts"]] == ["gate broken", "INC-7"]
    await site.stop()
    await site.start()
    await until(lambda: site.arming.problem() is None)
    assert site.states("disarm") == ["accepted", "deleted"]


async def test_at_its_end_it_arms_again(site):
    site.gate.start()
    await site.start()
    await site.armed()
    site.apply(site.disarm(hours=2))
    await site.unarmed()
    site.ahead = timedelta(hours=2, seconds=1)
    site.arming.wake()
    await site.armed()
    await until(lambda: "Expired" in site.state_of(f"emergency-{site.mark}"))
    assert site.states("disarm") == ["accepted", "expired"]


@pytest.mark.parametrize(("hours", "why"), [(24.2, "more than 24 hours"), (-1, "not after")])
async def test_a_disarm_that_is_too_long_or_over_does_nothing(site, hours, why):
    site.gate.start()
    await site.start()
    await site.armed()
    site.apply(site.disarm(hours=hours))
    name = f"emergency-{site.mark}"
    await until(lambda: "Refused" in site.state_of(name))
    found = await site.api("GET", f"/apis/trailgate.dev/v1alpha1/disarms/{name}")
    accepted, active = found["status"]["conditions"]
    assert (accepted["type"], accepted["status"]) == ("Accepted", "False")
    assert why in accepted["message"]
    assert (active["type"], active["status"]) == ("Active", "False")
    assert await site.configuration() is not None
    assert site.states() == ["armed"]
    assert site.states("disarm") == ["refused"]


async def test_with_the_role_goes_the_configuration_and_a_new_role_arms_again(site):
    site.gate.start()
    await site.start()
    first = await site.armed()
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/trailgate-arming"
    await until(lambda: site.arming.note() == "armed")
    await site.api("DELETE", role)
    await site.unarmed(seconds=30)
    await until(lambda: site.states() == ["armed", "deleted"])
    await until(lambda: "no ClusterRole trailgate-arming" in (site.arming.problem() or ""))
    assert site.arming.note() is None
    assert site.arming.armed() is False
    assert "trailgate_armed 0.0" in site.metrics.render().decode()
    site.apply(*rights.manifests("trailgate-operator", SYSTEM))
    second = await site.armed(seconds=30)
    uid = (await site.api("GET", role))["metadata"]["uid"]
    (owner,) = second["metadata"]["ownerReferences"]
    assert owner["uid"] == uid != first["metadata"]["ownerReferences"][0]["uid"]
    await until(lambda: site.states() == ["armed", "deleted", "put-back"])


async def test_killed_between_doing_and_telling_it_tells_after_the_restart_and_once(site):
    site.gate.start()
    await site.start()
    await site.armed()
    await until(lambda: site.states() == ["armed"])
    for _ in range(2):
        await site.kill()
        await site.start()
        await until(lambda: site.arming.problem() is None)
    assert site.states() == ["armed"]


async def test_an_authority_that_no_gate_has_yet_locks_nobody_out(site):
    own = site.authority.read_bytes()
    site.authority = site.directory / "kept-by-somebody.crt"
    site.authority.write_bytes(own)
    site.apply(site.policy())
    site.gate.start()
    await site.start()
    await site.enforces(site.shop)

    async def trusted():
        entry = await site.entry("enforce")
        return base64.b64decode(entry["clientConfig"]["caBundle"]).count(b"-----BEGIN")

    assert await trusted() == 1
    site.authority.write_bytes(site.plane.authority.file.read_bytes())  # no gate's
    site.arming.wake()
    await until(lambda: site.states() == ["armed", "adjusted"])
    assert await trusted() == 2
    refused = site.deploy(site.shop)
    assert "failed calling webhook" not in refused.stderr
    assert "denied the request: trailgate" in refused.stderr
    site.authority.write_bytes(own)
    site.arming.wake()
    await until(lambda: site.states() == ["armed", "adjusted", "adjusted"])
    assert await trusted() == 1


async def test_a_changed_policy_says_so_in_its_status(site):
    good, bad = site.policy("good"), site.policy("bad", "Audit")
    bad["spec"]["rules"][0]["signature"]["signers"][0]["key"] = (
        "-----BEGIN PUBLIC KEY-----\nnone\n-----END PUBLIC KEY-----"
    )
    await site.start()
    site.apply(good, bad)

    def ready():
        lines = site.plane.kubectl(site.plane.admin, "get", "dpol", "--no-headers").stdout
        return {line.split()[0]: line.split()[1:3] for line in lines.splitlines()}

    await until(lambda: ready()[f"good-{site.mark}"] == ["Enforce", "True"])
    await until(lambda: ready()[f"bad-{site.mark}"] == ["Audit", "False"])
    path = f"/apis/trailgate.dev/v1alpha1/deploypolicies/bad-{site.mark}"
    (condition,) = (await site.api("GET", path))["status"]["conditions"]
    assert condition["reason"] == "Unreadable"
    assert "spec.rules[0].signature.signers[0].key: got" in condition["message"]
    bad["spec"]["rules"][0]["signature"] = good["spec"]["rules"][0]["signature"]
    site.apply(bad)
    await until(lambda: ready()[f"bad-{site.mark}"] == ["Audit", "True"])
    found = await site.api("GET", path)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 2


def thing(version, kind, name, **more):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


async def test_enforced_everywhere_and_no_gate_it_stops_workloads_and_nothing_else(site):
    """What a cluster needs to live, and to mend the gate, is never asked about."""
    exempt = f"registry-{site.mark}"
    for name in (exempt, "other"):
        site.plane.namespace(name)
    site.deploy(site.shop, "before")
    site.apply(site.policy("all", "Enforce", "*"))
    site.gate.start()
    await site.start(exempt=(exempt,))
    await site.enforces("[^/]*")
    await site.stop()
    site.gate.kill()
    for name in ("kube-system", "kube-public", "kube-node-lease", SYSTEM, exempt):
        assert site.deploy(name, f"web-{site.mark}").returncode == 0, name
    assert "failed calling webhook" in site.deploy("other").stderr
    admin = site.plane.admin
    create = ["create", "-n", site.shop, "-f", "-"]
    for document in (
        thing("coordination.k8s.io/v1", "Lease", "a", spec={}),
        thing("v1", "ConfigMap", "a"),
        thing("v1", "Secret", "a"),
        thing("v1", "Service", "a", spec={"ports": [{"port": 80}]}),
        thing("v1", "ServiceAccount", "a"),
    ):
        site.plane.kubectl(admin, *create, stdin=json.dumps(document))
    for document in (
        thing("v1", "Node", f"node-{site.mark}"),
        thing("v1", "Namespace", f"new-{site.mark}"),
        site.disarm(),
        site.policy("another", "Audit"),
    ):
        site.plane.kubectl(admin, "create", "-f", "-", stdin=json.dumps(document))
    in_shop = ["-n", site.shop]
    scaled = site.plane.kubectl(
        admin, *in_shop, "scale", "deploy/before", "--replicas=2", check=False
    )
    assert 'failed calling webhook "enforce.trailgate.dev"' in scaled.stderr
    changed = site.plane.kubectl(
        admin, *in_shop, "set", "image", "deploy/before", "before=ghcr.io/a/b:2", check=False
    )
    assert 'failed calling webhook "enforce.trailgate.dev"' in changed.stderr
    site.plane.kubectl(admin, *in_shop, "delete", "deploy/before")  # the entry of deletions
    site.plane.kubectl(admin, "delete", f"node/node-{site.mark}")
    for name in ("kube-system", "kube-public", "kube-node-lease", SYSTEM):
        site.plane.kubectl(admin, "delete", "-n", name, f"deploy/web-{site.mark}")
