"""The real command behind a real API server: real reviews, real kubectl, real quota."""

import asyncio
import base64
import contextlib
import json
import subprocess
import uuid

import pytest

from tests.bench.webhook import publish
from tests.webhook import rights
from tests.webhook.conftest import running, until
from tests.webhook.world import World, policy
from trailgate.evidence import keys
from trailgate.ledger.chain import follow
from trailgate.ledger.spool import Batch, open_batch
from trailgate.ledger.spoolkeys import key_id
from trailgate.model.canonical import fingerprint
from trailgate.policy.parse import parse_policy
from trailgate_kube.crd import definitions

pytestmark = pytest.mark.timeout(240)

ADMISSIONS = "/apis/trailgate.dev/v1alpha1/namespaces/{}/admissions"


class Guarded:
    """A namespace behind the gate, its people, and what the recorder would see."""

    def __init__(self, plane, world, registry, tmp_path):
        mark = uuid.uuid4().hex[:8]
        self.plane, self.world, self.mark = plane, world, mark
        self.shop, self.system = f"shop-{mark}", f"trailgate-{mark}"
        self.ci = f"ci-{mark}"
        plane.install_crds(*definitions())
        for name in (self.shop, self.system):
            plane.namespace(name)
        self.deployer = plane.service_account(self.ci, "deployer")
        self.laptop = plane.person(f"dana-{mark}@example.com")
        for user in (self.deployer, self.laptop):
            plane.bind(user, "edit", self.shop)
        self.gate = plane.service_account(self.system, "gate")
        role = f"gate-{mark}"
        plane.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": role},
                "rules": rights.rules(),
            }
        )
        plane.bind(self.gate, role)
        self.registry = registry.address
        self.key = keys.generate()

    def policy(self):
        document = policy(
            namespace=self.shop,
            image=f"{self.registry}/acme/*",
            name=f"production-{self.mark}",
            pem=keys.public_pem(self.key.public).decode(),
        )
        document["spec"]["callers"] = {"serviceAccounts": [f"{self.ci}/deployer"]}
        return document

    def options(self, port_file):
        return self.world.options(
            port_file=port_file,
            policy_dir=None,
            spool_dir=None,
            cluster_uid=None,
            kubeconfig=self.gate.kubeconfig,
            namespace=self.system,
            allow_insecure_registry=self.registry,
        )

    def arm(self, port):
        authority = base64.b64encode((self.world.certs / "ca.crt").read_bytes()).decode()
        self.plane.apply(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": f"gate-{self.mark}"},
                "webhooks": [
                    {
                        "name": "gate.trailgate.dev",
                        "clientConfig": {
                            "url": f"https://localhost:{port}/validate",
                            "caBundle": authority,
                        },
                        "rules": [
                            {
                                "apiGroups": ["", "apps", "batch"],
                                "apiVersions": ["*"],
                                "operations": ["CREATE", "UPDATE"],
                                "resources": [
                                    "pods",
                                    "pods/ephemeralcontainers",
                                    "deployments",
                                    "deployments/scale",
                                    "replicasets",
                                ],
                            }
                        ],
                        "namespaceSelector": {
                            "matchLabels": {"kubernetes.io/metadata.name": self.shop}
                        },
                        "failurePolicy": "Fail",
                        "sideEffects": "NoneOnDryRun",
                        "admissionReviewVersions": ["v1"],
                        "timeoutSeconds": 10,
                    },
                    {
                        "name": "own.trailgate.dev",
                        "clientConfig": {
                            "url": f"https://localhost:{port}/validate",
                            "caBundle": authority,
                        },
                        "rules": [
                            {
                                "apiGroups": ["trailgate.dev"],
                                "apiVersions": ["*"],
                                "operations": ["CREATE", "UPDATE", "DELETE"],
                                "resources": ["deploypolicies", "disarms"],
                            }
                        ],
                        "failurePolicy": "Ignore",
                        "sideEffects": "NoneOnDryRun",
                        "admissionReviewVersions": ["v1"],
                        "timeoutSeconds": 10,
                    },
                ],
            }
        )

    def disarm(self):
        name = f"validatingwebhookconfiguration/gate-{self.mark}"
        self.plane.kubectl(self.plane.admin, "delete", name, "--ignore-not-found")

    def deployment(self, name, image, replicas=1):
        labels = {"app": name}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.shop},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": name, "image": image}]},
                },
            },
        }

    def apply(self, user, document, *more):
        """The real ``kubectl apply`` of one object, whatever comes back."""
        manifest = json.dumps(document)
        return self.plane.kubectl(user, "apply", "-f", "-", *more, stdin=manifest, check=False)

    def claims(self, kind):
        items = self.plane.api("GET", ADMISSIONS.format(self.system))["items"]
        batches = {Batch.from_spec(item["spec"]): item["metadata"]["name"] for item in items}
        signer = self.world.signer.public_key()
        found = []
        for step in follow({}, batches).steps:
            assert isinstance(step, Batch), step
            found += open_batch(
                step,
                name=batches[step],
                recorder_keys=[self.world.recorder],
                signer_keys={key_id(signer): signer},
            )
        return [claim for claim in found if claim["kind"] == kind]

    def pods(self):
        found = self.plane.api("GET", f"/api/v1/namespaces/{self.shop}/pods")
        return found["items"]


@pytest.fixture
async def guarded(control_plane_with_controllers, registry, tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    world = World(root)
    scene = Guarded(control_plane_with_controllers, world, registry, tmp_path)
    scene.images = await publish(scene.registry, 2, scene.key)
    scene.plane.apply(scene.policy())
    port_file, log = tmp_path / "port", tmp_path / "log"
    with contextlib.ExitStack() as stack:
        scene.server = stack.enter_context(
            running(scene.options(port_file), port_file, world.certs, log)
        )
        stack.callback(scene.disarm)

        async def ready():
            return (await scene.server.get("/readyz"))[0] == 200

        await until(ready, 30)
        scene.arm(scene.server.port)
        # The API server takes a moment to see a configuration: ask until it does.
        probe = scene.deployment("probe", "docker.io/library/nginx:1")
        await until(
            lambda: scene.apply(scene.deployer, probe, "--dry-run=server").returncode != 0, 30
        )
        yield scene


async def test_a_signed_deployment_rolls_out_and_only_the_root_change_is_recorded(guarded):
    document = guarded.deployment("web", guarded.images[0], replicas=2)
    done = guarded.apply(guarded.deployer, document)
    assert done.returncode == 0, done.stderr
    await until(lambda: len(guarded.pods()) == 2, 60)
    (claim,) = guarded.claims("admitted")
    assert claim["object"]["name"] == "web"
    stored = guarded.plane.api("GET", f"/apis/apps/v1/namespaces/{guarded.shop}/deployments/web")
    assert claim["object"]["uid"] == stored["metadata"]["uid"]
    counted = 'trailgate_admission_decisions_total{class="child",mode="Enforce",outcome="allowed",reason=""}'
    assert await guarded.server.metric(counted) >= 3
    assert await guarded.server.metric("trailgate_evidence_fetches_total") == 1
    assert await guarded.server.metric("trailgate_evidence_warm_total") >= 3


async def test_what_kubectl_prints_for_a_refusal_is_our_message(guarded):
    done = guarded.apply(guarded.laptop, guarded.deployment("web", guarded.images[0]))
    assert done.returncode == 1
    assert "Error from server (CallerNotAllowed)" in done.stderr
    assert 'admission webhook "gate.trailgate.dev" denied the request: trailgate: ' in done.stderr
    done = guarded.apply(guarded.deployer, guarded.deployment("web", "docker.io/library/nginx:1"))
    assert done.returncode == 1
    assert f"production-{guarded.mark}" in done.stderr
    assert guarded.claims("admitted") == []
    await until(lambda: len(guarded.claims("refused")) == 2, 20)


async def test_a_server_dry_run_is_decided_and_leaves_nothing(guarded):
    document = guarded.deployment("web", guarded.images[0])
    assert guarded.apply(guarded.deployer, document, "--dry-run=server").returncode == 0
    assert guarded.apply(guarded.laptop, document, "--dry-run=server").returncode == 1
    assert guarded.claims("admitted") == []


async def counts(guarded, quota):
    """Make the quota anew until it counts: its controller sees new kinds every 30 s only."""
    path = f"/api/v1/namespaces/{guarded.system}/resourcequotas/admissions"
    guarded.plane.kubectl(
        guarded.plane.admin,
        "delete",
        "-n",
        guarded.system,
        "quota/admissions",
        "--ignore-not-found",
    )
    guarded.plane.apply(quota)
    for _ in range(20):
        status = guarded.plane.api("GET", path).get("status", {})
        if "count/admissions.trailgate.dev" in status.get("used", {}):
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_used_up_quota_is_spool_full_and_heals(guarded):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "admissions", "namespace": guarded.system},
        "spec": {"hard": {"count/admissions.trailgate.dev": "1"}},
    }
    await until(lambda: counts(guarded, quota), 120)
    document = guarded.deployment("web", guarded.images[0])
    done = guarded.apply(guarded.deployer, document)
    assert done.returncode == 1
    assert "Error from server (SpoolFull)" in done.stderr
    guarded.plane.kubectl(guarded.plane.admin, "delete", "-n", guarded.system, "quota/admissions")

    def admitted() -> bool:
        found: subprocess.CompletedProcess[str] = guarded.apply(guarded.deployer, document)
        return found.returncode == 0

    await until(admitted, 30)
    assert len(guarded.claims("admitted")) == 1


async def test_policies_follow_the_cluster(guarded):
    document = guarded.deployment("web", guarded.images[1])
    changed = guarded.policy()
    changed["spec"]["callers"] = {"users": [guarded.laptop.name]}
    guarded.plane.apply(changed)
    await until(
        lambda: guarded.apply(guarded.laptop, document, "--dry-run=server").returncode == 0, 20
    )
    assert guarded.apply(guarded.deployer, document, "--dry-run=server").returncode == 1


async def test_a_killed_gate_loses_nothing_and_a_new_one_begins_a_new_chain(guarded, tmp_path):
    assert (
        guarded.apply(guarded.deployer, guarded.deployment("web", guarded.images[0])).returncode
        == 0
    )
    guarded.server.process.kill()
    guarded.server.process.wait()
    done = guarded.apply(guarded.deployer, guarded.deployment("later", guarded.images[0]))
    assert done.returncode == 1  # failurePolicy Fail
    port_file, log = tmp_path / "port-2", tmp_path / "log-2"
    with running(guarded.options(port_file), port_file, guarded.world.certs, log) as server:

        async def ready():
            return (await server.get("/readyz"))[0] == 200

        await until(ready, 30)
        guarded.arm(server.port)
        again = guarded.deployment("later", guarded.images[0])
        await until(lambda: guarded.apply(guarded.deployer, again).returncode == 0, 30)
    names = sorted(claim["object"]["name"] for claim in guarded.claims("admitted"))
    assert names == ["later", "web"]
    assert len(guarded.claims("control-state")) == 2


def own_claims(guarded, name):
    return [
        (claim["subject"], claim["state"], claim["digest"], claim["previousDigest"])
        for claim in guarded.claims("control-state")
        if claim["name"] == name
    ]


async def test_who_writes_a_policy_is_recorded_and_never_refused(guarded):
    plane = guarded.plane
    written = policy(namespace="nowhere", mode="Audit", name=f"own-{guarded.mark}")
    changed = policy(namespace="elsewhere", mode="Audit", name=f"own-{guarded.mark}")
    first, second = (str(parse_policy(one).reference.digest) for one in (written, changed))
    done = guarded.apply(plane.admin, written, "--dry-run=server")
    assert done.returncode == 0, done.stderr
    for document in (written, changed):
        done = guarded.apply(plane.admin, document)
        assert (done.returncode, done.stderr) == (0, "")
    plane.kubectl(plane.admin, "label", f"dpol/own-{guarded.mark}", "team=shop")
    plane.kubectl(plane.admin, "delete", f"dpol/own-{guarded.mark}")
    assert own_claims(guarded, f"own-{guarded.mark}") == [
        ("policy", "created", first, None),
        ("policy", "changed", second, first),
        ("policy", "deleted", None, second),
    ]


async def test_who_writes_a_policy_that_no_gate_can_read_is_warned_by_kubectl(guarded):
    broken = policy(namespace="nowhere", mode="Audit", name=f"own-{guarded.mark}")
    (rule,) = broken["spec"]["rules"]
    rule["signature"]["signers"][0]["key"] = (
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    )
    try:
        done = guarded.apply(guarded.plane.admin, broken)
        assert done.returncode == 0, done.stderr
        assert "Warning: trailgate: this policy can't be read" in done.stderr
        assert "Warning: trailgate: spec.rules[0].signature.signers[0].key: got " in done.stderr
        path = f"/apis/trailgate.dev/v1alpha1/deploypolicies/own-{guarded.mark}"
        digest = str(fingerprint(guarded.plane.api("GET", path)["spec"]))
        ((_, state, got, _),) = own_claims(guarded, f"own-{guarded.mark}")
        assert (state, got) == ("created", digest)
    finally:
        guarded.plane.kubectl(guarded.plane.admin, "delete", f"dpol/own-{guarded.mark}")
