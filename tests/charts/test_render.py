"""What Helm makes of the chart: what it refuses, and what every object must have."""

import json

import pytest
import yaml

from e2e.controlplane.helm import CHART
from tests.charts.rendering import (
    DIGEST,
    EVERYTHING,
    GIVEN,
    MONITORING,
    NAMESPACE,
    at,
    attempt,
    find,
    hook,
    merged,
    pods,
    render,
)
from trailgate_kube.crd import definitions
from trailgate_kube.webhooks import ARMING_ROLE, CONFIGURATION

EXEMPT = "webhook.exemptNamespaces"

#: What values.schema.json refuses: where it is, and what.
MISSPELT = [
    ("webhok", {}),
    ("webhook.replica", 3),
    ("webhook.replicas", 0),
    ("webhook.replicas", "2"),
    ("webhook.image.digest", "latest"),
    ("webhook.image.digest", "sha256:" + "A" * 64),
    ("webhook.drainSeconds", 121),
    ("webhook.logLevel", "loud"),
    ("webhook.resources.limit", {}),
    ("webhook.tolerations", [{"kee": "a"}]),
    (EXEMPT, ["shop-*"]),
    ("operator.replicas", -1),
    ("image.registry", "https://registry.example"),
    ("image.pullPolicy", "Sometimes"),
    ("ledger.origin", "Example.com trail"),
    ("ledger.newLedger", "all of it"),
    ("ledger.persistence.accessMode", "ReadWriteMany"),
    ("ledger.persistence.size", "a lot"),
    ("spool.cap", 0),
    ("spool.cap", 10_000_000),
    ("certificates.mode", "helm"),
    ("registry.imagePullSecrets", ["shop/pull"]),
    ("registry.imagePullSecrets", [{"namespace": "shop"}]),
    ("registry.insecureHosts", ["http://registry.example"]),
    ("guards.kubeSystem.action", "Ignore"),
    ("networkPolicy.apiServerCIDRs", ["10.0.0.1"]),
    ("networkPolicy.egress.apiServer", [{"from": []}]),
    ("flowControl.shares", 0),
    ("metrics.serviceMonitor.interval", "often"),
    ("metrics.prometheusRule.runbookBase", "docs"),
    ("uninstall.drainSeconds", -1),
]

#: What templates/validate.yaml refuses, and a word of its reason.
DANGEROUS = [
    (at("image.registry", ""), "no published images"),
    (at("webhook.image.digest", ""), "webhook.image.digest is empty"),
    (at("operator.image.digest", ""), "operator.image.digest is empty"),
    (at("ledger.origin", ""), "for ever"),
    (at("operator.replicas", 2), "one ledger has one writer"),
    (at("ledger.persistence.enabled", False), "gone with the pod"),
    (
        merged(
            at("ledger.persistence.existingClaim", "same"),
            at("ledger.checkpoint.existingClaim", "same"),
        ),
        "yesterday's checkpoint",
    ),
    (at(EXEMPT, ["default"]), "would run unseen"),
    (at(EXEMPT, ["kube-system"]), "exempt anyway"),
    (at(EXEMPT, [NAMESPACE]), "exempt anyway"),
    (at("certificates.mode", "secret"), "name the secret"),
    (at("certificates.secretName", "tls"), "issue another one"),
    (
        merged(at("registry.caSecret", "a"), at("registry.caConfigMap", "b")),
        "use one",
    ),
    (at("networkPolicy.egress.enabled", True), "cut off from the API server"),
]


@pytest.mark.parametrize(("path", "value"), MISSPELT, ids=lambda value: str(value)[:40])
def test_a_misspelt_value_is_refused(helm, path, value):
    done = attempt(helm, at(path, value))
    assert done.returncode != 0
    assert "schema" in done.stderr
    assert path.split(".")[-1] in done.stderr or path.split(".")[0] in done.stderr


@pytest.mark.parametrize(("values", "reason"), DANGEROUS, ids=[reason for _, reason in DANGEROUS])
def test_a_dangerous_value_is_refused_with_the_reason(helm, values, reason):
    done = attempt(helm, values)
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.mark.parametrize("namespace", ["default", "kube-system", "kube-public", "kube-node-lease"])
def test_a_shared_namespace_is_refused(helm, namespace):
    done = attempt(helm, namespace=namespace)
    assert done.returncode != 0
    assert "use one of its own" in done.stderr


def test_what_is_dangerous_can_be_had_by_saying_so(helm):
    render(helm, at("image.allowTags", True), at("webhook.image.digest", ""))
    objects = render(helm, at("ledger.persistence", {"enabled": False, "acceptLoss": True}))
    assert not [one for one in objects if one["kind"] == "PersistentVolumeClaim"]


def test_an_older_kubernetes_is_refused(helm):
    done = attempt(helm, arguments=["--kube-version", "1.29.9"])
    assert done.returncode != 0
    assert "1.29.9" in done.stderr
    assert attempt(helm, arguments=["--kube-version", "1.30.0-eks-1"]).returncode == 0


@pytest.mark.parametrize("values", [{}, merged(EVERYTHING, MONITORING)], ids=["plain", "all"])
def test_lint_has_nothing_against_it(helm, tmp_path, values):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(merged(GIVEN, values)))
    said = helm.run("lint", CHART, "--strict", "--namespace", NAMESPACE, "--values", file)
    assert "[WARNING]" not in said.stdout
    assert "[ERROR]" not in said.stdout


def test_it_works_as_part_of_another_chart(helm):
    render(helm, at("global.anything", 1))


def test_both_majors_render_the_same(helm, tmp_path_factory):
    """Twice gives the same, too: nothing is looked up or made up."""
    file = tmp_path_factory.getbasetemp() / "rendered.json"
    first, second = (attempt(helm, EVERYTHING, MONITORING).stdout for _ in range(2))
    assert first == second
    text = json.dumps(list(yaml.safe_load_all(first)), sort_keys=True)
    if file.exists():
        assert file.read_text() == text
    file.write_text(text)


def test_nothing_is_looked_up_or_made_by_chance():
    forbidden = ("lookup ", "genCA", "genSelf", "genSigned", "randAlpha", "uuidv4", "now |", ".Capabilities.APIVersions")  # fmt: skip
    for path in (CHART / "templates").rglob("*"):
        if path.is_file():
            assert not [word for word in forbidden if word in path.read_text()], path


def test_helm_makes_no_webhook_configuration_and_no_secret(helm):
    kinds = {one["kind"] for one in render(helm, EVERYTHING, MONITORING)}
    assert kinds.isdisjoint({"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "Secret"})  # fmt: skip


def test_the_kinds_are_those_of_the_code(helm):
    rendered = {
        one["metadata"]["name"]: one
        for one in render(helm)
        if one["kind"] == "CustomResourceDefinition"
    }
    assert rendered.keys() == {one["metadata"]["name"] for one in definitions()}
    for definition in definitions():
        one = rendered[definition["metadata"]["name"]]
        assert one["spec"] == definition["spec"]
        assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not [o for o in render(helm, at("crds.install", False)) if o["kind"] == "CustomResourceDefinition"]  # fmt: skip
    for one in render(helm, at("crds.keep", False)):
        if one["kind"] == "CustomResourceDefinition":
            assert "annotations" not in one["metadata"]


def test_every_object_carries_our_labels_and_a_namespace(helm):
    cluster_wide = {
        "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "DeployPolicy",
        "FlowSchema", "Namespace", "PriorityLevelConfiguration", "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip
    for one in render(helm, EVERYTHING, MONITORING):
        assert one["metadata"]["labels"]["app.kubernetes.io/name"] == "trailgate", one
        assert ("namespace" in one["metadata"]) == (one["kind"] not in cluster_wide), one


def test_every_pod_is_nobody_special(helm):
    seen = set()
    for name, _, spec in pods(render(helm, EVERYTHING)):
        seen.add(name)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not [key for key in spec if key.startswith("host")]
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"].keys() == {"memory"}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "@sha256:" in container["image"]
            assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
    assert seen == {"trailgate-webhook", "trailgate-operator", "trailgate-uninstall", "trailgate-test"}  # fmt: skip


def test_accounts_hand_out_no_token_unasked(helm):
    accounts = [one for one in render(helm) if one["kind"] == "ServiceAccount"]
    assert len(accounts) == 4
    assert all(one["automountServiceAccountToken"] is False for one in accounts)


def test_the_gate_has_time_to_drain(helm):
    for seconds in (0, 10, 120):
        deployment = find(render(helm, at("webhook.drainSeconds", seconds)), "Deployment", "trailgate-webhook")  # fmt: skip
        spec = deployment["spec"]["template"]["spec"]
        # --drain-delay, then 25 s for what is in flight, then the spool.
        assert spec["terminationGracePeriodSeconds"] >= seconds + 25 + 5
        assert f"--drain-delay={seconds}" in spec["containers"][0]["args"]
        assert "lifecycle" not in spec["containers"][0]


def test_an_update_never_leaves_fewer_gates_and_never_two_recorders(helm):
    objects = render(helm)
    webhook = find(objects, "Deployment", "trailgate-webhook")["spec"]
    assert webhook["replicas"] == 2
    assert webhook["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert find(objects, "Deployment", "trailgate-operator")["spec"]["strategy"] == {"type": "Recreate"}  # fmt: skip
    budget = find(objects, "PodDisruptionBudget", "trailgate-webhook")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_selectors_fit_the_pods_and_nothing_that_changes(helm):
    objects = render(helm)
    for name in ("webhook", "operator"):
        deployment = find(objects, "Deployment", f"trailgate-{name}")["spec"]
        selector = deployment["selector"]["matchLabels"]
        assert selector == {"app.kubernetes.io/name": "trailgate", "app.kubernetes.io/component": name}  # fmt: skip
        assert selector.items() <= deployment["template"]["metadata"]["labels"].items()
        policy = find(objects, "NetworkPolicy", f"trailgate-{name}")["spec"]
        assert policy["podSelector"]["matchLabels"] == selector
    for kind in ("Service", "PodDisruptionBudget"):
        chosen = find(objects, kind, "trailgate-webhook")["spec"]["selector"]
        assert chosen.get("matchLabels", chosen)["app.kubernetes.io/component"] == "webhook"


def test_the_pods_own_labels_do_not_reach_the_selectors(helm):
    values = at("webhook.podLabels", {"team": "platform"})
    deployment = find(render(helm, values), "Deployment", "trailgate-webhook")["spec"]
    assert deployment["template"]["metadata"]["labels"]["team"] == "platform"
    assert "team" not in deployment["selector"]["matchLabels"]


def test_the_image_is_the_one_that_stands_in_every_record(helm):
    for name, _, spec in pods(render(helm)):
        for container in spec["containers"]:
            said = [a for a in container.get("args", ()) if a.startswith("--image=")]
            assert said in ([], [f"--image={container['image']}"]), name
    spec = find(render(helm), "Deployment", "trailgate-webhook")["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == f"registry.example/platform/trailgate-webhook@{DIGEST}"
    tagged = render(helm, at("image.allowTags", True), at("webhook.image.digest", ""))
    spec = find(tagged, "Deployment", "trailgate-webhook")["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "registry.example/platform/trailgate-webhook:0.1.0"


def test_what_holds_the_trail_is_kept(helm):
    for name in ("trailgate-ledger", "trailgate-checkpoint"):
        claim = find(render(helm), "PersistentVolumeClaim", name)
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        claim = find(render(helm, at("ledger.persistence.keep", False)), "PersistentVolumeClaim", name)  # fmt: skip
        assert "annotations" not in claim["metadata"]


def test_existing_claims_are_used_and_none_is_made(helm):
    values = merged(at("ledger.persistence.existingClaim", "a"), at("ledger.checkpoint.existingClaim", "b"))  # fmt: skip
    objects = render(helm, values)
    assert not [one for one in objects if one["kind"] == "PersistentVolumeClaim"]
    spec = find(objects, "Deployment", "trailgate-operator")["spec"]["template"]["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}  # fmt: skip
    assert claims == {"ledger": "a", "checkpoint": "b"}


def test_the_owner_of_the_configuration_is_the_release_and_keeps_its_name(helm):
    role = find(render(helm), "ClusterRole", ARMING_ROLE)
    assert hook(role) is None
    assert "helm.sh/resource-policy" not in role["metadata"].get("annotations", {})
    named = [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule]
    assert [CONFIGURATION] in named


def test_each_hook_runs_before_it_is_needed_and_goes(helm):
    hooks = [one for one in render(helm) if hook(one)]
    assert {hook(one) for one in hooks} == {"pre-delete", "test"}
    for one in hooks:
        weight = int(one["metadata"]["annotations"]["helm.sh/hook-weight"])
        assert (weight == 0) == (one["kind"] in ("Job", "Pod")), one
        assert one["kind"] != "DeployPolicy"
        policy = one["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(",")
        assert "before-hook-creation" in policy
        assert ("hook-succeeded" in policy) == (one["kind"] != "Pod")  # its log is the result
    assert not [o for o in render(helm, at("uninstall.hook", False)) if hook(o) == "pre-delete"]


def test_a_port_that_nobody_needs_is_closed(helm):
    policy = find(render(helm), "NetworkPolicy", "trailgate-operator")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy
    (only,) = find(render(helm), "NetworkPolicy", "trailgate-webhook")["spec"]["ingress"]
    assert only == {"ports": [{"port": 8443, "protocol": "TCP"}]}
    webhook = find(render(helm, EVERYTHING), "NetworkPolicy", "trailgate-webhook")["spec"]
    assert webhook["policyTypes"] == ["Ingress", "Egress"]
    reviews, metrics = webhook["ingress"]
    assert reviews["from"][0] == {"ipBlock": {"cidr": "10.0.0.0/28"}}
    assert reviews["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"  # fmt: skip
    assert metrics["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert len(webhook["egress"]) == 3
    assert not [one for one in render(helm, at("networkPolicy.enabled", False)) if one["kind"] == "NetworkPolicy"]  # fmt: skip
