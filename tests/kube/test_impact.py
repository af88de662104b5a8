"""``trailgate policy impact``: what runs, what is attached to it, what a policy would say."""

import csv
import io
import json
import sys
import uuid
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from tests.bench.webhook import push_signed
from tests.core.assess.world import HOST, KINDS, World, policy
from tests.core.oci.support import Place, client_for, push_image
from tests.webhook.world import policy as document
from trailgate.assess.gather import RegistryEvidence
from trailgate.cli.main import main
from trailgate.evidence import keys
from trailgate.model.decision import CheckResult
from trailgate.model.evidence import StatementKind
from trailgate.oci.errors import UnavailableError
from trailgate.policy.material import keys_for
from trailgate_kube.cli import impact
from trailgate_kube.cli.appraisal import Appraiser, State, Verdict
from trailgate_kube.cli.running import Running, running
from trailgate_kube.crd import definitions
from trailgate_kube.errors import NotFoundError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import DEPLOY_POLICIES, WORKLOADS

DIGEST = "sha256:" + "ab" * 32
BY_KIND = {one.kind: one for one in WORKLOADS}


def owned(kind, name, version="apps/v1"):
    return [
        {
            "apiVersion": version,
            "kind": kind,
            "name": name,
            "uid": f"uid-{name}",
            "controller": True,
        }
    ]


def pod(name, image, *, owners=None, image_id="", phase="Running", namespace="shop", **spec):
    """A Pod with one container, as it runs."""
    metadata = {"name": name, "namespace": namespace}
    if owners:
        metadata["ownerReferences"] = owners
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "web", "image": image}], **spec},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "web", "imageID": image_id}],
        },
    }


def made(kind, name, owners, version="apps/v1"):
    metadata = {"name": name, "namespace": "shop", "ownerReferences": owners}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {}}


async def listed(*objects, namespaces=()):
    kube = MemoryKube()
    for one in objects:
        await kube.create(BY_KIND[one["kind"]], one, one["metadata"]["namespace"])
    return await running(kube, namespaces)


async def test_a_pod_is_its_workload_s_and_runs_by_the_node_s_digest():
    found = await listed(
        made("ReplicaSet", "web-1", owned("Deployment", "web")),
        made("Job", "report-1", owned("CronJob", "report", "batch/v1"), "batch/v1"),
        pod("web-1-a", "acme/web:1", owners=owned("ReplicaSet", "web-1"), image_id=f"x/y@{DIGEST}"),
        pod("web-1-b", "acme/web:1", owners=owned("ReplicaSet", "web-1"), image_id=f"x/y@{DIGEST}"),
        pod("report-1-a", "acme/report:1", owners=owned("Job", "report-1", "batch/v1")),
        pod("db-0", "acme/db:1", owners=owned("StatefulSet", "db")),
        pod("static", "acme/static:1", owners=owned("Node", "n1", "v1")),
        pod("alone", "acme/alone:1", image_id="sha256:" + "cd" * 32),
    )
    assert [(one.workload, one.image, one.digest) for one in found] == [
        ("CronJob/report", "acme/report:1", ""),
        ("Deployment/web", "acme/web:1", DIGEST),
        ("Pod/alone", "acme/alone:1", ""),  # a bare id may be of the configuration
        ("Pod/static", "acme/static:1", ""),
        ("StatefulSet/db", "acme/db:1", ""),
    ]


async def test_a_tag_that_moved_in_the_middle_of_a_rollout_is_two_images():
    found = await listed(
        pod("a", "acme/web:1", owners=owned("StatefulSet", "db"), image_id=f"x@{DIGEST}"),
        pod("b", "acme/web:1", owners=owned("StatefulSet", "db"), image_id="x@sha256:" + "cd" * 32),
    )
    assert len(found) == 2


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_what_has_ended_runs_no_more(phase):
    assert await listed(pod("a", "acme/web:1", phase=phase)) == ()


async def test_every_class_of_container_counts():
    item = pod(
        "a",
        "acme/web:1",
        initContainers=[{"name": "init", "image": "acme/init:1"}],
        volumes=[{"name": "data", "image": {"reference": "acme/data:1"}}],
    )
    item["status"]["initContainerStatuses"] = [{"name": "init", "imageID": f"x@{DIGEST}"}]
    found = await listed(item)
    assert [(one.image, one.digest) for one in found] == [
        ("acme/data:1", ""),
        ("acme/init:1", DIGEST),
        ("acme/web:1", ""),
    ]


async def test_only_the_namespaces_that_were_named():
    objects = [pod("a", "acme/a:1"), pod("b", "acme/b:1", namespace="other")]
    assert [one.image for one in await listed(*objects, namespaces=("other",))] == ["acme/b:1"]
    assert len(await listed(*objects)) == 2


async def appraised(world, image, *policies, text=None, namespace="shop"):
    """The appraisal of one image that runs, by the command's own way."""
    appraiser = Appraiser(policies, None, datetime.now(UTC))
    what = Running(namespace, "Deployment/web", text or str(image), str(image.digest), ("web",))
    evidence = RegistryEvidence(world, lambda: {HOST})
    try:
        (found,) = await impact._appraised({what: image}, appraiser, evidence)
    finally:
        await evidence.close()
    return found


ALL = policy(ask=("signature", "provenance", "tests"))


async def test_what_the_policy_asks_for_and_has_is_admitted_and_named():
    world = World()
    image = await world.image("web", *KINDS)
    found = await appraised(world, image, ALL)
    assert (found.verdict, found.codes) == (Verdict.ADMITTED, ())
    fact = found.facts[StatementKind.SIGNATURE]
    assert (fact.state, fact.signers, fact.result) == (State.LISTED, ("build",), CheckResult.MET)


async def test_the_codes_are_those_of_the_gate_whatever_the_mode():
    world = World()
    image = await world.image("web")
    for mode in ("Audit", "Warn", "Enforce"):
        found = await appraised(world, image, policy(mode=mode))
        assert (found.verdict, found.codes) == (Verdict.DENIED, ("SignatureMissing",))
        assert found.facts[StatementKind.SIGNATURE].state is State.NONE


async def test_a_key_that_no_policy_names_is_attached_and_proves_nothing():
    world = World()
    image = await world.image("web", *KINDS, by="stranger")
    found = await appraised(world, image, policy())
    assert found.verdict is Verdict.DENIED
    assert {fact.state for fact in found.facts.values()} == {State.UNLISTED}
    bare = await appraised(world, image)
    assert bare.verdict is Verdict.NOT_COVERED
    assert {fact.state for fact in bare.facts.values()} == {State.UNLISTED}


async def test_another_policy_s_key_is_named_and_counts_for_nothing_here():
    world = World()
    image = await world.image("web", "signature", by="other")
    elsewhere = policy("elsewhere", by="other", namespaces=["elsewhere"])
    found = await appraised(world, image, policy(), elsewhere)
    assert found.facts[StatementKind.SIGNATURE].signers == ("other",)
    assert found.verdict is Verdict.DENIED
    alone = await appraised(world, image, policy())
    assert found.codes == alone.codes  # as the gate says it, which has this policy's keys only


async def test_a_tag_is_held_against_what_it_runs_and_never_passes():
    world = World()
    image = await world.image("web", "signature")
    found = await appraised(world, image, policy(), text=f"{HOST}/acme/web:v1")
    assert found.codes == ("DigestRequired",)
    unsigned = await world.image("web")
    found = await appraised(world, unsigned, policy(), text=f"{HOST}/acme/web:v1")
    assert found.codes == ("DigestRequired", "SignatureMissing")


async def test_a_registry_that_is_away_is_told_for_each_image():
    world = World()
    image = await world.image("web", "signature")
    world.failures = [UnavailableError("registry.example: no connection")] * 20
    found = await appraised(world, image, policy())
    assert (found.verdict, found.codes) == (Verdict.UNDETERMINED, ("EvidenceUnavailable",))
    assert "no connection" in found.error
    assert {fact.state for fact in found.facts.values()} == {State.UNKNOWN}


async def test_what_no_policy_covers_is_said_to_be_so():
    world = World()
    image = await world.image("web", "signature")
    found = await appraised(world, image, policy(), namespace="other")
    assert found.verdict is Verdict.NOT_COVERED
    assert found.facts[StatementKind.SIGNATURE].signers == ("build",)


async def test_the_caller_is_not_judged():
    world = World()
    image = await world.image("web", "signature")
    asked = policy(callers={"users": ["nobody"]})
    assert (await appraised(world, image, asked)).verdict is Verdict.ADMITTED


async def test_it_decides_as_the_gate_does_on_what_the_gate_has():
    world = World()
    image = await world.image("web", "signature")
    appraiser = Appraiser((policy(),), None, datetime.now(UTC))
    what = Running("shop", "Deployment/web", str(image), "", ("web",))
    assert keys_for(appraiser.covering(what), image) == keys_for((policy(),), image)


async def test_a_cluster_without_our_kinds_has_no_policies():
    kube = MemoryKube()
    kube.fail("page", NotFoundError("404"))
    assert await impact._from_cluster(kube) == impact._Policies(())
    assert await impact._from_cluster(kube) == impact._Policies(())


async def test_a_policy_that_can_t_be_read_is_told_and_makes_the_answer_incomplete(capsys):
    kube = MemoryKube()
    good, bad = document(name="good"), document(name="bad")
    bad["spec"]["requireEverything"] = True
    for one in (good, bad):
        await kube.create(DEPLOY_POLICIES, one)
    found = await impact._from_cluster(kube)
    assert [one.name for one in found.usable] == ["good"]
    assert found.unusable == ("bad",)
    assert "requireEverything" in capsys.readouterr().err
    assert impact._exit_code([], found) == 3


async def test_without_a_policy_an_unasked_registry_is_no_clean_answer(capsys):
    world = World()
    image = await world.image("web", "signature")
    none = impact._Policies(())
    found = await appraised(world, image)
    assert impact._exit_code([found], none) == 0
    world.failures = [UnavailableError("registry.example: no connection")] * 20
    found = await appraised(world, await world.image("other"))
    assert impact._exit_code([found], none) == 3
    impact._summarize([found], none)
    assert "nothing of it is verified" in capsys.readouterr().err


def test_where_no_gate_is_asked_is_left_out_and_said(capsys):
    there = [Running(name, "Pod/a", "acme/a:1", "", ("a",)) for name in ("kube-system", "shop")]
    assert [one.namespace for one in impact._asked_about(there)] == ["shop"]
    assert "left out: 1 images in kube-system" in capsys.readouterr().err


class Cluster:
    """Pods of a real API server, as a node would report them, and images of a real registry."""

    def __init__(self, plane, address):
        self.plane, self.address = plane, address
        self.mark = uuid.uuid4().hex[:8]
        self.shop = f"shop-{self.mark}"
        self.key = keys.generate()
        plane.install_crds(*definitions())
        plane.namespace(self.shop)

    def run(self, name, image, image_id=""):
        item = pod(name, image, image_id=image_id, namespace=self.shop)
        path = f"/api/v1/namespaces/{self.shop}/pods"
        status = item.pop("status")
        status["containerStatuses"][0] |= {
            "image": image, "ready": True, "restartCount": 0, "state": {"running": {}},
        }  # fmt: skip
        self.plane.api("POST", path, item)
        stored = self.plane.api("GET", f"{path}/{name}")
        self.plane.api("PUT", f"{path}/{name}/status", stored | {"status": status})

    def policy(self, mode="Audit"):
        return document(
            namespace=self.shop, mode=mode, image=f"{self.address}/acme/*",
            name=f"impact-{self.mark}", pem=keys.public_pem(self.key.public).decode(),
        )  # fmt: skip

    def impact(self, *arguments, user=None):
        kubeconfig = (user or self.plane.admin).kubeconfig
        words = ["policy", "impact", "--kubeconfig", str(kubeconfig), "-n", self.shop, *arguments]
        env = {"TRAILGATE_ALLOW_INSECURE_REGISTRY": self.address, "HOME": "/nonexistent"}
        return CliRunner().invoke(main, words, env=env)


@pytest.fixture
async def cluster(control_plane, registry):
    scene = Cluster(control_plane, registry.address)
    async with client_for(registry.address) as client:
        repository = f"{registry.address}/acme/{scene.mark}"
        scene.signed = await push_signed(client, repository, 1, scene.key)
        scene.strange = await push_signed(client, repository, 2, keys.generate())
        place = Place(client, registry.address, f"acme/{scene.mark}", referrers=True)
        scene.unsigned = str(await push_image(place))
    scene.run("a-signed", scene.signed)
    scene.run("b-strange", scene.strange)
    scene.run("c-unsigned", scene.unsigned)
    yield scene
    control_plane.kubectl(
        control_plane.admin, "delete", "dpol", f"impact-{scene.mark}", "--ignore-not-found"
    )


def rows(done):
    return {row["workload"]: row for row in json.loads(done.stdout)["images"]}


def in_thread(function, *arguments, **more):
    import asyncio

    return asyncio.to_thread(function, *arguments, **more)  # the command has its own loop


async def test_with_no_policy_it_says_what_is_attached(cluster):
    done = await in_thread(cluster.impact, "-o", "json")
    found = rows(done)
    states = {name: row["signed"]["state"] for name, row in found.items()}
    assert states == {
        "Pod/a-signed": "unlisted",
        "Pod/b-strange": "unlisted",
        "Pod/c-unsigned": "none",
    }
    # Other tests share the cluster: with policies of theirs, there is just none for here.
    assert {row["verdict"] for row in found.values()} == {"not-covered"}
    assert {row["caller"] for row in found.values()} == {"unknown"}
    assert done.exit_code == 0, done.stderr


async def test_the_cluster_s_own_policies_decide_in_audit_mode_too(cluster):
    cluster.plane.apply(cluster.policy())
    done = await in_thread(cluster.impact, "-o", "json")
    assert done.exit_code == 1
    found = rows(done)
    assert {name: row["codes"] for name, row in found.items()} == {
        "Pod/a-signed": [],
        "Pod/b-strange": ["SignerMismatch"],
        "Pod/c-unsigned": ["SignatureMissing"],
    }
    assert found["Pod/a-signed"]["signed"] == {
        "state": "listed", "signers": ["release"], "check": "met",
    }  # fmt: skip
    assert "3 images: 1 would be admitted, 2 denied" in done.stderr


async def test_a_policy_of_a_file_instead_and_the_table(cluster, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(cluster.policy(mode="Enforce")))
    done = await in_thread(cluster.impact, "-f", str(path))
    assert done.exit_code == 1
    head, *lines = done.stdout.splitlines()
    assert head.split("  ")[0] == "NAMESPACE"
    assert head.endswith("IF ENFORCED")
    assert "release (met)" in lines[0]
    assert lines[0].endswith("admitted")
    assert "attached, by a key no policy names" in lines[1]
    assert lines[1].endswith("SignerMismatch")
    assert lines[2].endswith("SignatureMissing")


async def test_csv_has_the_same_and_an_error_stands_with_its_image(cluster, tmp_path):
    gone = f"127.0.0.1:1/acme/web@{DIGEST}"
    cluster.run("d-gone", gone)
    path = tmp_path / "policy.json"
    asked = cluster.policy()
    asked["spec"]["rules"][0]["images"].append("127.0.0.1:1/acme/*")
    path.write_text(json.dumps(asked))
    done = await in_thread(cluster.impact, "-f", str(path), "-o", "csv")
    found = {row["workload"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert found["Pod/d-gone"]["codes"] == "EvidenceUnavailable"
    assert "127.0.0.1" in found["Pod/d-gone"]["error"]
    assert found["Pod/d-gone"]["signed"] == "unknown"
    assert found["Pod/b-strange"]["codes"] == "SignerMismatch"
    assert done.exit_code == 1
    done = await in_thread(cluster.impact, "-f", str(path))
    assert f"{cluster.shop} Pod/d-gone {gone}: 127.0.0.1" in done.stdout


async def test_only_unknowns_are_exit_3_and_all_well_is_0(cluster, tmp_path):
    plane = cluster.plane
    for name in ("b-strange", "c-unsigned"):
        plane.kubectl(
            plane.admin, "-n", cluster.shop, "delete", f"pod/{name}", "--grace-period=0", "--force"
        )
    path = tmp_path / "policy.json"
    asked = cluster.policy()
    asked["spec"]["rules"][0]["images"].append("127.0.0.1:1/acme/*")
    path.write_text(json.dumps(asked))
    assert (await in_thread(cluster.impact, "-f", str(path))).exit_code == 0
    cluster.run("d-gone", f"127.0.0.1:1/acme/web@{DIGEST}")
    assert (await in_thread(cluster.impact, "-f", str(path))).exit_code == 3


async def test_who_may_not_list_pods_is_told_so_with_exit_4(cluster):
    nobody = cluster.plane.person(f"nobody-{cluster.mark}")
    done = await in_thread(cluster.impact, user=nobody)
    assert done.exit_code == 4
    assert "403" in done.stderr
    assert done.stdout == ""


def test_no_kubeconfig_and_no_policy_are_usage_errors(tmp_path):
    for words, text in (
        (["--kubeconfig", str(tmp_path / "none")], "kubeconfig"),
        (["-f", str(tmp_path / "none.yaml")], "none.yaml"),
    ):
        done = CliRunner().invoke(main, ["policy", "impact", *words])
        assert done.exit_code == 2, done.stderr
        assert text in done.stderr


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "trailgate_kube.cli.impact", None)
    done = CliRunner().invoke(main, ["policy", "impact"])
    assert done.exit_code == 2
    assert "pip install 'trailgate[kube]'" in done.stderr
    shown = CliRunner().invoke(main, ["policy", "--help"])
    assert shown.exit_code == 0
    assert "impact" in shown.stdout
