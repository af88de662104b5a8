"""Installed, upgraded, forced and removed by both majors of Helm, on a real API server."""

import json

import pytest
import yaml

from e2e.controlplane.cluster import ApiError
from e2e.controlplane.helm import CHART, MAJORS
from tests.charts.installing import RELEASE, eventually, installed
from tests.charts.rendering import (
    EVERYTHING,
    GIVEN,
    MONITORING,
    NAMESPACE,
    at,
    hook,
    merged,
    pods,
    render,
)
from tests.kube.batches import Chain
from trailgate_kube.resources import ADMISSIONS, DEPLOY_POLICIES

pytestmark = [pytest.mark.cluster, pytest.mark.helm]

OTHER = {"helm3": "helm4", "helm4": "helm3"}
FORCED = [
    ("helm3", ["--force"]),
    ("helm4", ["--force-conflicts"]),
    ("helm4", ["--force-replace", "--server-side=false"]),
]
#: What the server keeps about who wrote when, and what controllers say.
NOT_OURS = ("resourceVersion", "managedFields")


def wanted(objects):
    """What was asked for, with the generation: it counts each change of that."""
    return {
        key: {part: value for part, value in one.items() if part not in ("metadata", "status")}
        | {"metadata": {k: v for k, v in one["metadata"].items() if k not in NOT_OURS}}
        for key, one in objects.items()
    }


def uid(objects, kind, name):
    return objects[kind, name]["metadata"]["uid"]


@pytest.fixture(params=MAJORS)
def major(request):
    return request.param


def test_a_second_upgrade_changes_nothing(installation, major):
    with installed(installation, name=major):
        before = wanted(installation.settled())
        assert len(before) > 30
        installation.upgrade(major)
        assert wanted(installation.settled()) == before
        # The other major finds nothing to change either, and no conflict.
        installation.upgrade(OTHER[major])
        assert wanted(installation.settled()) == before


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["plain", "all"])
def test_a_differ_sees_no_difference(installation, major, values):
    """As Argo CD and Flux see it: what is rendered, applied over what is stored."""
    for namespace in ("shop", "bank", "harbor"):
        installation.plane.namespace(namespace)
    with installed(installation, values, name=major):
        installation.settled()
        manifest = yaml.safe_dump_all(
            o for o in render(installation.helms[major], values) if not hook(o)
        )
        diff = installation.plane.kubectl(
            installation.plane.admin, "diff", "--server-side", "--force-conflicts", "-f", "-",
            stdin=manifest, check=False,
        )  # fmt: skip
        changed = [
            line
            for line in diff.stdout.splitlines()
            if line[:1] in "+-" and line[:3] not in ("+++", "---")
        ]
        assert diff.returncode in (0, 1), diff.stderr
        assert changed == []


def test_the_other_major_may_change_how_a_guard_acts(installation, major):
    """The actions are a set: merged instead of replaced, Warn and Deny would be refused."""
    with installed(installation, name=major):
        installation.upgrade(OTHER[major], at("guards.kubeSystem.action", "Deny"))
        binding = installation.objects()[
            "ValidatingAdmissionPolicyBinding", "trailgate-system-kube"
        ]
        assert sorted(binding["spec"]["validationActions"]) == ["Audit", "Deny"]


def test_what_others_write_is_no_conflict(installation, major):
    """A status, an autoscaler's or an admin's label: an upgrade neither fails nor fights."""
    with installed(installation, name=major):
        plane, admin = installation.plane, installation.plane.admin
        plane.kubectl(admin, "annotate", "deployment/trailgate-webhook", "-n", NAMESPACE, "example.com/seen=1")  # fmt: skip
        plane.kubectl(admin, "rollout", "restart", "deployment/trailgate-webhook", "-n", NAMESPACE)
        installation.upgrade(major)
        installation.upgrade(OTHER[major])
        one = installation.objects()["Deployment", "trailgate-webhook"]
        assert one["metadata"]["annotations"]["example.com/seen"] == "1"


@pytest.mark.parametrize(("major", "force"), FORCED, ids=["3", "4-conflicts", "4-replace"])
def test_a_forced_upgrade_keeps_the_owner_of_the_configuration(installation, major, force):
    """Were it made anew, garbage collection would take the webhook configuration with it."""
    with installed(installation, name=major):
        before = installation.settled()
        installation.upgrade(major, at("operator.logLevel", "debug"), arguments=force)
        after = installation.settled()
        for kind, name in before:
            assert uid(after, kind, name) == uid(before, kind, name), name
        pod = after["Deployment", "trailgate-operator"]["spec"]["template"]["spec"]
        assert "--log-level=debug" in pod["containers"][0]["args"]


def test_an_upgrade_brings_the_kinds_up_to_date(installation, major):
    """What Helm leaves alone for ever when it lies in crds/."""
    with installed(installation, name=major):
        plane = installation.plane
        stale = '[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]'
        plane.kubectl(plane.admin, "patch", "crd", "deploypolicies.trailgate.dev", "--type=json", "-p", stale)  # fmt: skip
        forced = ["--force-conflicts"] if major == "helm4" else []
        installation.upgrade(major, at("operator.logLevel", "debug"), arguments=forced)
        crd = installation.objects()["CustomResourceDefinition", "deploypolicies.trailgate.dev"]
        if major == "helm4":  # Helm 3 writes only where two releases differ
            assert crd["spec"]["versions"][0]["additionalPrinterColumns"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_it_leaves_what_it_says_and_comes_back_to_it(installation, major):
    plane, admin = installation.plane, installation.plane.admin
    with installed(installation, name=major):
        body = {
            "apiVersion": DEPLOY_POLICIES.api_version,
            "kind": DEPLOY_POLICIES.kind,
            "metadata": {"name": "kept"},
            "spec": {"mode": "Audit", "namespaces": ["shop"], "rules": []},
        }
        eventually(lambda: _created(plane, DEPLOY_POLICIES.path(None), body))
        claim = uid(installation.objects(), "PersistentVolumeClaim", "trailgate-ledger")
        installation.uninstall(major)
        left = installation.objects()
        assert {kind for kind, _ in left} == {"CustomResourceDefinition", "PersistentVolumeClaim"}
        assert {name for kind, name in left if kind == "PersistentVolumeClaim"} == {"trailgate-ledger", "trailgate-checkpoint"}  # fmt: skip
        plane.api("GET", DEPLOY_POLICIES.path(None, "kept"))
        installation.install(OTHER[major])
        assert uid(installation.objects(), "PersistentVolumeClaim", "trailgate-ledger") == claim
        plane.kubectl(admin, "delete", "dpol", "kept")


def _created(plane, path, body):
    try:
        plane.api("POST", path, body)
    except ApiError as error:
        return error.status == 409
    return True


def test_the_end_of_our_namespace_is_not_stuck(installation):
    """With Admissions in it, which the guards let nobody else delete."""
    with installed(installation):
        plane = installation.plane
        gate = plane.service_account(NAMESPACE, "trailgate-webhook")
        batch = Chain().next()
        body = {
            "apiVersion": ADMISSIONS.api_version,
            "kind": ADMISSIONS.kind,
            "metadata": {"name": batch.name},
            "spec": batch.to_spec(),
        }
        plane.api("POST", ADMISSIONS.path(NAMESPACE), body, user=gate)
        for claim in ("trailgate-ledger", "trailgate-checkpoint"):
            installation.drop_claim(claim)
        plane.kubectl(plane.admin, "delete", "pods", "--all", "-n", NAMESPACE, "--force", "--grace-period=0")  # fmt: skip
        plane.kubectl(plane.admin, "delete", "namespace", NAMESPACE, "--timeout=40s")
        # The cluster-wide half has lost its release's secret with the namespace.
        half = "clusterrole,clusterrolebinding,flowschema,prioritylevelconfiguration,namespace"
        plane.kubectl(plane.admin, "delete", half, "-lapp.kubernetes.io/name=trailgate")


def test_the_api_server_takes_every_object_as_it_is(installation):
    """Strictly: an unknown or doubled field is an error. Hooks too."""
    plane = installation.plane
    for namespace in ("shop", "bank"):
        plane.namespace(namespace)
    with installed(installation, EVERYTHING):
        plane.service_account(NAMESPACE, "trailgate-test")
        manifest = yaml.safe_dump_all(render(installation.helms["helm4"], EVERYTHING))
        said = plane.kubectl(
            plane.admin, "apply", "--server-side", "--force-conflicts", "--dry-run=server",
            "--validate=strict", "-f", "-", stdin=manifest,
        )  # fmt: skip
        assert len(said.stdout.splitlines()) > 50


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["plain", "all"])
def test_every_pod_fits_the_restricted_profile(installation, values):
    plane, namespace = installation.plane, "restricted"
    plane.namespace(namespace)
    level = "pod-security.kubernetes.io/enforce=restricted"
    plane.kubectl(plane.admin, "label", "--overwrite", "namespace", namespace, level)
    seen = 0
    for name, metadata, spec in pods(render(installation.helms["helm4"], values)):
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": metadata["labels"]},
            "spec": {**spec, "serviceAccountName": "default"},
        }
        body["spec"].pop("priorityClassName", None)
        body["spec"].setdefault("restartPolicy", "Always")
        eventually(lambda body=body: _created(plane, f"/api/v1/namespaces/{namespace}/pods?dryRun=All", body))  # fmt: skip
        seen += 1
    assert seen == 4
    bad = json.loads(json.dumps(body))
    del bad["spec"]["securityContext"]["seccompProfile"]
    with pytest.raises(ApiError, match="violates PodSecurity"):
        plane.api("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", bad)


def test_our_requests_have_seats_of_their_own(installation):
    with installed(installation):
        plane = installation.plane
        level = uid(installation.objects(), "PriorityLevelConfiguration", "trailgate")
        path = DEPLOY_POLICIES.path(None)

        def seated(account):
            user = plane.service_account(NAMESPACE, account)
            answer = plane.kubectl(user, "get", "--raw", path, "-v=8", check=False)
            return f"X-Kubernetes-Pf-Prioritylevel-Uid: {level}" in answer.stderr

        for account in ("trailgate-webhook", "trailgate-operator"):
            eventually(lambda account=account: seated(account))
        assert not seated("trailgate-uninstall")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["mode Audit", "helm test trailgate", "trailgate disarm", "leaves the kinds"]),
        (at("webhook.replicas", 1), ["whenever that pod restarts"]),
        (at("operator.replicas", 0), ["nothing is recorded"]),
        (at("guards.enabled", False), ["by RBAC alone"]),
        (at("registry.insecureHosts", ["127.0.0.1:5000"]), ["127.0.0.1:5000 comes over plain"]),
        (at("webhook.exemptNamespaces", ["harbor"]), ["never asked about harbor"]),
        (at("ledger.persistence", {"enabled": False, "acceptLoss": True}), ["gone with the"]),
        (at("image.allowTags", True), ["could replace the gate"]),
    ],
)  # fmt: skip
def test_the_notes_tell_mode_next_step_and_what_is_weak(installation, major, values, words):
    said = installation.helm(
        major, "install", RELEASE, CHART, "--dry-run=client", "--values", "-", values=[values]
    ).stdout.partition("NOTES:")[2]
    assert [word for word in words if word not in said] == []
    assert ("WARNING" in said) == bool(values)


def test_alerts_and_monitor_are_rendered_on_demand(helm):
    kinds = {one["kind"] for one in render(helm, MONITORING)}
    assert {"ServiceMonitor", "PrometheusRule"} <= kinds
    assert not {"ServiceMonitor", "PrometheusRule"} & {one["kind"] for one in render(helm)}
    assert merged(GIVEN, MONITORING)["metrics"]
