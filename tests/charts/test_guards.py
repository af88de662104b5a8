"""The guards on a real API server, without a gate: each refuses, and each lets the rest be."""

import base64
import dataclasses
import json
import uuid

import pytest

from e2e.controlplane.cluster import ApiError
from tests.charts.installing import eventually, installed
from tests.charts.rendering import NAMESPACE, at
from tests.kube.batches import Chain
from trailgate_kube.resources import ADMISSIONS, DEPLOY_POLICIES, DISARMS, WORKLOADS
from trailgate_operator.sentinel_probe import ADMITTED, PROBE, pod

pytestmark = [pytest.mark.cluster, pytest.mark.helm]

KUBE = "kube-system"
DRY = "?dryRun=All"
POD = {"containers": [{"name": "a", "image": "registry.example/a"}]}
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": POD}
SELECTED = {"selector": {"matchLabels": {"app": "a"}}, "template": TEMPLATE}
ONCE = {"template": {"spec": POD | {"restartPolicy": "Never"}}}
SPECS = {
    "Pod": POD,
    "ReplicationController": {"selector": {"app": "a"}, "template": TEMPLATE},
    "Deployment": SELECTED,
    "ReplicaSet": SELECTED,
    "StatefulSet": SELECTED | {"serviceName": "a"},
    "DaemonSet": SELECTED,
    "Job": ONCE,
    "CronJob": {"schedule": "0 0 * * *", "jobTemplate": {"spec": ONCE}},
}
#: Everything in the groups of workloads, in one namespace: more than the built-in edit and admin.
ALMIGHTY = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "almighty"},
    "rules": [{"apiGroups": ["", "apps", "batch"], "resources": ["*"], "verbs": ["*"]}],
}
#: Every verb on our own kinds, by name: what a careless role may give.
CARELESS = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "careless"},
    "rules": [
        {
            "apiGroups": ["trailgate.dev"],
            "resources": ["admissions", "deploypolicies", "deploypolicies/status", "disarms", "disarms/status"],
            "verbs": ["*"],
        }
    ],
}  # fmt: skip


def body(kind, name, spec, namespace=None, **metadata):
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, **place, **metadata},
        "spec": spec,
    }


def admission(**metadata):
    batch = Chain().next()
    return body(ADMISSIONS, batch.name, batch.to_spec(), NAMESPACE, **metadata)


def policy(name, mode="Audit"):
    return body(DEPLOY_POLICIES, name, {"mode": mode, "namespaces": ["shop"], "rules": []})


def disarm(name):
    return body(DISARMS, name, {"reason": "a test", "until": "2999-01-01T00:00:00Z"})


def named():
    return f"t-{uuid.uuid4().hex[:8]}"


class Stage:
    """The people, and whether a guard refuses them."""

    def __init__(self, installation):
        plane = self.plane = installation.plane
        self.installation, self.admin = installation, plane.admin
        plane.apply(ALMIGHTY, CARELESS)
        self.root = self._person("root@example", "cluster-admin")
        self.editor = self._person("editor@example", "almighty", NAMESPACE, KUBE)
        self.careless = self._person("careless@example", "careless")
        self.policies = self._person("policies@example", "trailgate-admin")
        self.kubelet = plane.person("system:node:n1", ["system:nodes"])
        plane.bind(self.kubelet, "system:node")
        self.gate = plane.service_account(NAMESPACE, "trailgate-webhook")
        self.operator = plane.service_account(NAMESPACE, "trailgate-operator")
        self.controller = plane.service_account(KUBE, "daemon-set-controller")

    def _person(self, name, role, *namespaces):
        person = self.plane.person(name)
        for namespace in namespaces or [None]:
            self.plane.bind(person, role, namespace)
        return person

    def call(self, user, method, path, what=None, content_type="application/json"):
        return self.plane.api(method, path, what, user=user, content_type=content_type)

    def refused(self, guard, *arguments, **others):
        """The guard refuses it, says who we are, and nobody else does."""
        with pytest.raises(ApiError) as error:
            self.call(*arguments, **others)
        message = error.value.body["message"]
        assert error.value.status == 403, message
        assert f"ValidatingAdmissionPolicy '{guard}'" in message, message
        assert "denied request: trailgate: " in message
        return message

    def passed(self, *arguments, **others):
        """No guard has anything against it, whatever else may fail."""
        try:
            return self.call(*arguments, **others)
        except ApiError as error:
            if error.status == 403:
                raise
            return None

    def create(self, kind, name, namespace):
        return self.call(self.admin, "POST", kind.path(namespace), body(kind, name, SPECS[kind.kind], namespace))  # fmt: skip


@pytest.fixture(scope="module")
def stage(installation):
    with installed(installation, at("guards.kubeSystem.action", "Deny")):
        stage = Stage(installation)
        pods = WORKLOADS[0]

        def guards_are_there():
            stage.refused("trailgate-spool", stage.root, "POST", ADMISSIONS.path(NAMESPACE) + DRY, admission())  # fmt: skip
            stage.refused("trailgate-policies", stage.careless, "POST", DEPLOY_POLICIES.path(None) + DRY, policy("a"))  # fmt: skip
            for namespace in (NAMESPACE, KUBE):
                stage.refused("trailgate-system", stage.editor, "POST", pods.path(namespace) + DRY, body(pods, "a", POD, namespace))  # fmt: skip
            path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/trailgate-webhook/token"
            stage.refused("trailgate-identity", stage.editor, "POST", path, {})
            return True

        def they_answer():
            try:
                return guards_are_there()
            except pytest.fail.Exception:  # not refused yet
                return False

        eventually(they_answer)
        yield stage


# The spool.


def test_the_gate_makes_admissions_and_the_operator_deletes_them(stage):
    one = admission()
    stage.call(stage.gate, "POST", ADMISSIONS.path(NAMESPACE), one)
    stage.call(stage.operator, "DELETE", ADMISSIONS.path(NAMESPACE, one["metadata"]["name"]))


@pytest.mark.parametrize("who", ["admin", "root", "careless"])
def test_nobody_else_makes_deletes_or_changes_an_admission(stage, who):
    user, collection = getattr(stage, who), ADMISSIONS.path(NAMESPACE)
    said = stage.refused("trailgate-spool", user, "POST", collection, admission())
    assert user.name in said
    one = admission()
    stage.call(stage.gate, "POST", collection, one)
    path = ADMISSIONS.path(NAMESPACE, one["metadata"]["name"])
    stage.refused("trailgate-spool", user, "DELETE", path)
    stage.refused("trailgate-spool", user, "DELETE", collection)
    stage.refused(
        "trailgate-spool", user, "PATCH", path, {"metadata": {"finalizers": ["example.com/stay"]}},
        content_type="application/merge-patch+json",
    )  # fmt: skip
    stage.call(stage.operator, "DELETE", path)


def test_who_impersonates_the_gate_makes_no_admission(stage):
    done = stage.plane.kubectl(
        stage.root, "create", "-f", "-", f"--as={stage.gate.name}",
        stdin=json.dumps(admission()), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ValidatingAdmissionPolicy 'trailgate-spool'" in done.stderr


def test_the_gate_makes_admissions_in_our_namespace_alone(stage):
    stage.plane.namespace("elsewhere")
    stage.plane.bind(stage.gate, "careless", "elsewhere")
    one = admission() | {}
    one["metadata"]["namespace"] = "elsewhere"
    stage.refused("trailgate-spool", stage.gate, "POST", ADMISSIONS.path("elsewhere"), one)


def test_the_operator_makes_no_admission_and_the_gate_deletes_none(stage):
    stage.plane.bind(stage.operator, "careless", NAMESPACE)
    stage.plane.bind(stage.gate, "careless", NAMESPACE)
    one = admission()
    path = ADMISSIONS.path(NAMESPACE, one["metadata"]["name"])
    stage.refused("trailgate-spool", stage.operator, "POST", ADMISSIONS.path(NAMESPACE), one)
    stage.call(stage.gate, "POST", ADMISSIONS.path(NAMESPACE), one)
    stage.refused("trailgate-spool", stage.gate, "DELETE", path)
    stage.call(stage.operator, "DELETE", path)


def test_garbage_collection_still_takes_an_admission(stage):
    configmaps = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    name = named()
    owner = stage.call(stage.admin, "POST", configmaps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})  # fmt: skip
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"]}  # fmt: skip
    one = admission(ownerReferences=[reference])
    stage.call(stage.gate, "POST", ADMISSIONS.path(NAMESPACE), one)
    stage.call(stage.admin, "DELETE", f"{configmaps}/{name}")
    path = ADMISSIONS.path(NAMESPACE, one["metadata"]["name"])
    eventually(lambda: _gone(stage, path))


def _gone(stage, path):
    try:
        stage.call(stage.admin, "GET", path)
    except ApiError as error:
        return error.status == 404
    return False


# Policies and disarms.


@pytest.mark.parametrize("make", [policy, disarm])
@pytest.mark.parametrize("who", ["admin", "root", "policies"])
def test_who_may_manage_policies_writes_them(stage, who, make):
    kind = DEPLOY_POLICIES if make is policy else DISARMS
    user, name = getattr(stage, who), named()
    stage.call(user, "POST", kind.path(None), make(name))
    stage.call(user, "PATCH", kind.path(None, name), {"metadata": {"labels": {"a": "b"}}}, content_type="application/merge-patch+json")  # fmt: skip
    stage.call(user, "DELETE", kind.path(None, name))


@pytest.mark.parametrize("make", [policy, disarm])
def test_every_verb_on_policies_is_not_enough(stage, make):
    kind = DEPLOY_POLICIES if make is policy else DISARMS
    name, merge = named(), "application/merge-patch+json"
    said = stage.refused("trailgate-policies", stage.careless, "POST", kind.path(None), make(name))
    assert "careless@example may not change" in said
    stage.call(stage.admin, "POST", kind.path(None), make(name))
    path = kind.path(None, name)
    stage.refused("trailgate-policies", stage.careless, "PATCH", path, {"metadata": {"labels": {"a": "b"}}}, content_type=merge)  # fmt: skip
    stage.refused("trailgate-policies", stage.careless, "PATCH", f"{path}/status", {"status": {"conditions": []}}, content_type=merge)  # fmt: skip
    stage.refused("trailgate-policies", stage.careless, "DELETE", path)
    stage.refused("trailgate-policies", stage.careless, "DELETE", kind.path(None))
    stage.call(stage.admin, "DELETE", path)


@pytest.mark.parametrize("make", [policy, disarm])
def test_the_operator_writes_the_status_and_nothing_else(stage, make):
    kind = DEPLOY_POLICIES if make is policy else DISARMS
    name = named()
    made = stage.call(stage.admin, "POST", kind.path(None), make(name))
    path = kind.path(None, name)
    stage.call(stage.operator, "PUT", f"{path}/status", made | {"status": {"conditions": []}})
    stage.plane.bind(stage.operator, "careless")
    try:
        stage.refused("trailgate-policies", stage.operator, "PATCH", path, {"metadata": {"labels": {"a": "b"}}}, content_type="application/merge-patch+json")  # fmt: skip
        stage.refused("trailgate-policies", stage.operator, "DELETE", path)
    finally:
        binding = f"careless-{stage.operator.name}".replace(":", ".")
        stage.call(stage.admin, "DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{binding}")  # fmt: skip
        stage.call(stage.admin, "DELETE", path)


def test_the_uninstall_hook_may_disarm_and_not_write_policies(stage):
    hook = stage.plane.service_account(NAMESPACE, "trailgate-uninstall")
    stage.plane.bind(hook, "careless")
    stage.plane.bind(hook, "almighty", NAMESPACE)
    mine, other = "trailgate-uninstall", named()
    stage.call(hook, "POST", DISARMS.path(None), disarm(mine))
    stage.call(hook, "DELETE", DISARMS.path(None, mine))
    stage.refused("trailgate-policies", hook, "POST", DISARMS.path(None), disarm(other))
    stage.refused("trailgate-policies", hook, "POST", DEPLOY_POLICIES.path(None), policy(mine))
    stage.call(stage.admin, "POST", DISARMS.path(None), disarm(other))
    stage.refused("trailgate-policies", hook, "DELETE", DISARMS.path(None, other))
    stage.call(stage.admin, "DELETE", DISARMS.path(None, other))


def test_the_uninstall_hook_stops_our_pods_and_changes_nothing_else_of_them(stage):
    hook = stage.plane.service_account(NAMESPACE, "trailgate-uninstall")
    stage.plane.bind(hook, "almighty", NAMESPACE)
    stage.plane.bind(hook, "almighty", KUBE)
    deployments, merge = WORKLOADS[2], "application/merge-patch+json"
    path, none = deployments.path(NAMESPACE, "trailgate-webhook"), {"spec": {"replicas": 0}}
    stage.call(hook, "PATCH", f"{path}/scale{DRY}", none, content_type=merge)
    stage.refused("trailgate-system", hook, "PATCH", f"{path}{DRY}", none, content_type=merge)
    name = named()
    stage.create(deployments, name, KUBE)
    path = deployments.path(KUBE, name)
    stage.refused("trailgate-system", hook, "PATCH", f"{path}/scale", none, content_type=merge)
    stage.call(stage.admin, "DELETE", path)


def test_the_operator_keeps_the_probes_policy_and_writes_no_other(stage):
    collection, merge = DEPLOY_POLICIES.path(None), "application/merge-patch+json"
    made = stage.call(stage.operator, "POST", collection, policy(PROBE))
    path = DEPLOY_POLICIES.path(None, PROBE)
    stage.call(stage.operator, "PUT", path, made | {"metadata": made["metadata"] | {"labels": {"a": "b"}}})  # fmt: skip
    stage.refused("trailgate-policies", stage.operator, "POST", collection, policy(named()))
    stage.refused("trailgate-policies", stage.careless, "PATCH", path, {"spec": {"mode": "Audit"}}, content_type=merge)  # fmt: skip
    stage.call(stage.admin, "DELETE", path)


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.kind)
def test_nothing_runs_where_the_control_is_tested(stage, kind):
    strict = pod(ADMITTED)["spec"]  # or Pod Security refuses it first
    what = body(kind, named(), strict if kind.kind == "Pod" else SPECS[kind.kind], PROBE)
    stage.refused("trailgate-probe", stage.admin, "POST", kind.path(PROBE), what)
    stage.call(stage.admin, "POST", kind.path(PROBE) + DRY, what)


def test_the_sentinel_may_ask_there_and_nowhere_else(stage):
    for image, namespace, allowed in ((ADMITTED, PROBE, True), (ADMITTED, NAMESPACE, False)):
        tried = pod(image) | {"metadata": {"name": PROBE, "namespace": namespace}}
        path = WORKLOADS[0].path(namespace) + DRY
        if allowed:
            stage.call(stage.operator, "POST", path, tried)
            stage.refused("trailgate-probe", stage.operator, "POST", WORKLOADS[0].path(namespace), tried)  # fmt: skip
        else:
            with pytest.raises(ApiError, match="cannot create resource"):
                stage.call(stage.operator, "POST", path, tried)


# Workloads where the gate is never asked.


@pytest.mark.parametrize("namespace", [NAMESPACE, KUBE])
@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.kind)
def test_an_editor_writes_no_workload(stage, kind, namespace):
    what = body(kind, named(), SPECS[kind.kind], namespace)
    said = stage.refused("trailgate-system", stage.editor, "POST", kind.path(namespace) + DRY, what)
    assert f"editor@example should not write or enter workloads in {namespace}" in said
    for user in (stage.admin, stage.root, stage.controller):
        if user is stage.controller and kind.kind != "Pod":
            continue  # RBAC gives it pods alone
        stage.call(user, "POST", kind.path(namespace) + DRY, what)


@pytest.mark.parametrize("namespace", [NAMESPACE, KUBE])
@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.kind)
def test_an_editor_changes_none_and_may_delete(stage, kind, namespace):
    name = named()
    stage.create(kind, name, namespace)
    path, merge = kind.path(namespace, name), "application/merge-patch+json"
    change = {"metadata": {"annotations": {"a": "b"}}}
    stage.refused("trailgate-system", stage.editor, "PATCH", path, change, content_type=merge)
    stage.call(stage.root, "PATCH", path, change, content_type=merge)
    if kind.kind in ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"):
        none = {"spec": {"replicas": 0}}
        stage.refused("trailgate-system", stage.editor, "PATCH", f"{path}/scale", none, content_type=merge)  # fmt: skip
        stage.call(stage.root, "PATCH", f"{path}/scale", none, content_type=merge)
    # Kubernetes' own rights decide: a drain and a namespace's end must never be stuck here.
    stage.call(stage.editor, "DELETE", path)


@pytest.mark.parametrize("namespace", [NAMESPACE, KUBE])
def test_an_editor_gets_into_no_pod_and_may_evict_it(stage, namespace):
    pods = WORKLOADS[0]
    name = named()
    stage.create(pods, name, namespace)
    path = pods.path(namespace, name)
    for verb, way in (("GET", "exec?command=sh"), ("POST", "exec?command=sh"), ("GET", "attach"), ("POST", "attach"), ("GET", "portforward"), ("POST", "portforward")):  # fmt: skip
        stage.refused("trailgate-system", stage.editor, verb, f"{path}/{way}")
        stage.passed(stage.root, verb, f"{path}/{way}")
    debug = {"spec": {"ephemeralContainers": [{"name": "d", "image": "registry.example/d"}]}}
    strategic = "application/strategic-merge-patch+json"
    stage.refused("trailgate-system", stage.editor, "PATCH", f"{path}/ephemeralcontainers", debug, content_type=strategic)  # fmt: skip
    stage.call(stage.root, "PATCH", f"{path}/ephemeralcontainers", debug, content_type=strategic)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}  # fmt: skip
    stage.call(stage.editor, "POST", f"{path}/eviction", eviction)


@pytest.mark.parametrize("namespace", [NAMESPACE, KUBE])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("where", ["pods/https:a:8443", "services/https:trailgate-webhook:443"])
def test_an_editor_reaches_no_port_of_ours_through_the_api_server(stage, where, method, namespace):
    path = f"/api/v1/namespaces/%s/{where}/proxy/validate"
    stage.refused("trailgate-system", stage.editor, method, path % namespace)
    stage.passed(stage.root, method, path % namespace)
    stage.plane.namespace("shop")
    stage.plane.bind(stage.editor, "almighty", "shop")
    stage.passed(stage.editor, method, path % "shop")


def test_elsewhere_an_editor_is_free(stage):
    stage.plane.namespace("shop")
    stage.plane.bind(stage.editor, "almighty", "shop")
    for kind in WORKLOADS:
        what = body(kind, named(), SPECS[kind.kind], "shop")
        stage.call(stage.editor, "POST", kind.path("shop") + DRY, what)


def test_controllers_make_the_pods_of_our_own_deployments(stage):
    pods = WORKLOADS[0]

    def ours():
        found = stage.call(stage.admin, "GET", pods.path(NAMESPACE))["items"]
        return len([p for p in found if p["metadata"]["name"].startswith("trailgate-")]) >= 3

    eventually(ours)


def test_a_kubelet_makes_its_mirror_pod(stage):
    pods = WORKLOADS[0]
    node = stage.call(stage.admin, "POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})  # fmt: skip
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["metadata"]["uid"], "controller": True}  # fmt: skip
    mirror = body(
        pods, "etcd-n1", POD | {"nodeName": "n1"}, KUBE,
        annotations={"kubernetes.io/config.mirror": "1"}, ownerReferences=[owner],
    )  # fmt: skip
    try:
        stage.call(stage.kubelet, "POST", pods.path(KUBE) + DRY, mirror)
    finally:
        stage.call(stage.admin, "DELETE", "/api/v1/nodes/n1")


def test_kube_system_is_only_warned_about_unless_told(stage):
    installation = stage.installation
    one = body(WORKLOADS[0], named(), POD, KUBE)
    try:
        installation.upgrade("helm4")

        def only_a_warning():
            done = stage.plane.kubectl(stage.editor, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(one), check=False)  # fmt: skip
            return done.returncode == 0 and "Warning: " in done.stderr and "editor@example should not write" in done.stderr  # fmt: skip

        eventually(only_a_warning)
        installation.upgrade("helm4", at("guards.kubeSystem.action", "Off"))

        def nothing():
            done = stage.plane.kubectl(stage.editor, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(one), check=False)  # fmt: skip
            return done.returncode == 0 and not done.stderr

        eventually(nothing)
    finally:
        installation.upgrade("helm4", at("guards.kubeSystem.action", "Deny"))


# Our accounts and our keys.


def test_tokens_of_our_accounts_go_to_their_pods_alone(stage):
    for account in ("trailgate-webhook", "trailgate-operator", "default"):
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        stage.refused("trailgate-identity", stage.editor, "POST", path, {})
        stage.call(stage.kubelet, "POST", path, {})
        stage.call(stage.root, "POST", path, {})
    stage.passed(
        stage.editor, "POST", f"/api/v1/namespaces/{KUBE}/serviceaccounts/default/token", {}
    )


OURS = ("trailgate-authority", "trailgate-gate", "trailgate-log", "trailgate-recorder", "trailgate-webhook-tls")  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_our_keys_are_written_by_the_operator_alone(stage, name):
    secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "data": {"a": "YQ=="},
    }
    stage.refused("trailgate-identity", stage.editor, "POST", secrets, secret)
    made = stage.call(stage.operator, "POST", secrets, secret)
    stage.call(stage.operator, "PUT", f"{secrets}/{name}", made | {"data": {"a": "Yg=="}})
    stage.refused("trailgate-identity", stage.editor, "PUT", f"{secrets}/{name}", secret)
    stage.refused("trailgate-identity", stage.editor, "DELETE", f"{secrets}/{name}")
    stage.refused("trailgate-identity", stage.editor, "DELETE", secrets)
    stage.call(stage.root, "DELETE", f"{secrets}/{name}")


def test_other_secrets_are_their_owners_business(stage):
    secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    name = named()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
    stage.call(stage.editor, "POST", secrets, secret)
    stage.call(stage.editor, "PUT", f"{secrets}/{name}", secret | {"data": {"a": "YQ=="}})
    stage.call(stage.editor, "DELETE", f"{secrets}/{name}")
    unnamed = {"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "t-"}}
    made = stage.call(stage.editor, "POST", secrets, unnamed)
    stage.call(stage.editor, "DELETE", f"{secrets}/{made['metadata']['name']}")


def test_the_guards_are_well_typed(stage):
    objects = stage.installation.settled()
    checked = [
        one["status"] for (kind, _), one in objects.items() if kind == "ValidatingAdmissionPolicy"
    ]
    assert len(checked) == 5
    assert not [status for status in checked if status["typeChecking"]]


TOKEN = "kubernetes.io/service-account-token"


def token_of(account, name):
    """A Secret that the cluster fills with a token of an account."""
    metadata = {"name": name, "annotations": {"kubernetes.io/service-account.name": account}}
    return {"apiVersion": "v1", "kind": "Secret", "type": TOKEN, "metadata": metadata}


@pytest.mark.parametrize("who", ["editor", "operator"])
@pytest.mark.parametrize("account", ["trailgate-operator", "default"])
def test_no_secret_becomes_a_token_of_our_accounts(stage, account, who):
    secrets, user = f"/api/v1/namespaces/{NAMESPACE}/secrets", getattr(stage, who)
    said = stage.refused("trailgate-identity", user, "POST", secrets, token_of(account, named()))
    assert f"{user.name} may not write secrets that hold tokens" in said
    stage.call(stage.root, "POST", secrets + DRY, token_of(account, named()))


def test_a_secret_that_is_a_token_is_not_turned_to_another_account(stage):
    secrets, name = f"/api/v1/namespaces/{NAMESPACE}/secrets", named()
    stage.call(stage.root, "POST", secrets, token_of("default", name))
    change = token_of("trailgate-operator", name)
    stage.refused("trailgate-identity", stage.editor, "PUT", f"{secrets}/{name}", change)
    stage.call(stage.editor, "DELETE", f"{secrets}/{name}")
    elsewhere = f"/api/v1/namespaces/{KUBE}/secrets{DRY}"
    stage.call(stage.editor, "POST", elsewhere, token_of("default", named()))


# Our accounts' names alone, without a credential of theirs.


def dressed(stage, account, method, path, what=None):
    """What kubectl says to somebody who impersonates an account of ours."""
    verb = {"POST": "create", "PUT": "replace", "DELETE": "delete"}[method]
    given = ["-f", "-"] if what else []
    return stage.plane.kubectl(
        stage.root, verb, "--raw", path, *given, f"--as=system:serviceaccount:{NAMESPACE}:{account}",
        stdin=json.dumps(what), check=False,
    )  # fmt: skip


def refused_dressed(guard, *arguments):
    done = dressed(*arguments)
    assert done.returncode == 1, done.stdout
    assert f"ValidatingAdmissionPolicy '{guard}'" in done.stderr, done.stderr


def test_who_impersonates_the_operator_takes_no_admission(stage):
    one = admission()
    stage.call(stage.gate, "POST", ADMISSIONS.path(NAMESPACE), one)
    path = ADMISSIONS.path(NAMESPACE, one["metadata"]["name"])
    refused_dressed("trailgate-spool", stage, "trailgate-operator", "DELETE", path)
    stage.call(stage.operator, "DELETE", path)


def test_a_token_from_a_secret_takes_no_admission(stage):
    """One that a cluster admin has made, or that is older than the guard."""
    secrets, name = f"/api/v1/namespaces/{NAMESPACE}/secrets", named()
    stage.call(stage.root, "POST", secrets, token_of("trailgate-operator", name))
    held = eventually(
        lambda: stage.call(stage.root, "GET", f"{secrets}/{name}").get("data", {}).get("token")
    )
    lasting = dataclasses.replace(stage.operator, token=base64.b64decode(held).decode())
    one = admission()
    stage.call(stage.gate, "POST", ADMISSIONS.path(NAMESPACE), one)
    path = ADMISSIONS.path(NAMESPACE, one["metadata"]["name"])
    stage.call(lasting, "GET", ADMISSIONS.path(NAMESPACE))  # it is the operator, as RBAC sees it
    stage.refused("trailgate-spool", lasting, "DELETE", path)
    stage.call(stage.operator, "DELETE", path)
    stage.call(stage.root, "DELETE", f"{secrets}/{name}")


@pytest.mark.parametrize("make", [policy, disarm])
def test_who_impersonates_the_operator_writes_no_status(stage, make):
    kind = DEPLOY_POLICIES if make is policy else DISARMS
    name = named()
    made = stage.call(stage.admin, "POST", kind.path(None), make(name))
    path, status = kind.path(None, name), {"status": {"conditions": []}}
    refused_dressed("trailgate-policies", stage, "trailgate-operator", "PUT", f"{path}/status", made | status)  # fmt: skip
    stage.call(stage.admin, "DELETE", path)


def test_who_impersonates_the_operator_writes_neither_its_policy_nor_our_keys(stage):
    who = (stage, "trailgate-operator", "POST")
    refused_dressed("trailgate-policies", *who, DEPLOY_POLICIES.path(None), policy(PROBE))
    for name in OURS:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
        refused_dressed("trailgate-identity", *who, path, secret)


def test_who_impersonates_the_uninstall_hook_neither_disarms_nor_stops(stage):
    hook = stage.plane.service_account(NAMESPACE, "trailgate-uninstall")
    stage.plane.bind(hook, "careless")
    stage.plane.bind(hook, "almighty", NAMESPACE)
    name = "trailgate-uninstall"
    refused_dressed("trailgate-policies", stage, name, "POST", DISARMS.path(None), disarm(name))
    path = f"{WORKLOADS[2].path(NAMESPACE, 'trailgate-webhook')}/scale"
    none = stage.call(stage.admin, "GET", path) | {"spec": {"replicas": 0}}
    refused_dressed("trailgate-system", stage, name, "PUT", path + DRY, none)
    stage.call(hook, "PUT", path + DRY, none)
