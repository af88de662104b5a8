"""Ten minutes: installed, no policy written, and what runs is told image by image."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.provider import Cluster
from e2e.demo import manifests
from e2e.demo.pipeline import trailgate
from e2e.stories.deployer import Deployer
from e2e.stories.installation import NAMESPACE, Installation, wait_for
from e2e.stories.say import say
from e2e.stories.shop import PULL_SECRET, Shop, deployment

pytestmark = pytest.mark.timeout(600)

_FIVE_MINUTES = 300.0
_ELSEWHERE = "elsewhere"
_FACTS = ("signed", "provenance", "review", "tests")
_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "kubectl.md"


@dataclass(frozen=True)
class Look:
    """What runs, by workload, and what was pushed for it."""

    images: dict[str, str]
    """Reference by digest of each workload's image."""
    policy: Path
    """The shop's, not in the cluster."""


@pytest.fixture(scope="module")
def look(
    release: Installation,
    cluster: Cluster,
    shop: Shop,
    deployer: Deployer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Look]:
    """Workloads of several kinds, and no policy but the sentinel's own."""
    assert release.is_armed()
    held = cluster.kubectl("get", "dpol", manifests.POLICY, "-o", "json", check=False).stdout
    if held:
        cluster.kubectl("delete", "dpol", manifests.POLICY)
    images = _images(shop)
    unsigned = deployment(images["StatefulSet/unsigned"], name="try", replicas=0)
    wait_for("nothing to be refused", lambda: not deployer.try_out(unsigned), 30)
    made = [*_elsewhere(cluster), *_workloads(images, shop.registry)]
    cluster.kubectl("apply", "-f", "-", input=_list(made))
    policy = tmp_path_factory.mktemp("look") / "policy.yaml"
    policy.write_text(json.dumps(shop.policy()))
    yield Look(images, policy)
    cluster.kubectl("delete", "-f", "-", "--wait=false", input=_list(made))
    cluster.kubectl("delete", "dpol", manifests.POLICY, "--ignore-not-found")
    if held:
        before = json.loads(held)
        spec = {name: before[name] for name in ("apiVersion", "kind", "spec")}
        again = {**spec, "metadata": {"name": manifests.POLICY}}
        cluster.kubectl("apply", "-f", "-", input=json.dumps(again))
        cluster.kubectl(
            "wait", "--for=condition=Ready", f"dpol/{manifests.POLICY}", "--timeout=30s"
        )


def test_what_runs_is_listed_with_no_policy(look: Look, cluster: Cluster) -> None:
    began = time.monotonic()
    rows = wait_for("every image to run", lambda: _running(look, cluster), 90)
    said = time.monotonic() - began
    say(f"first look: {len(rows)} images told {said:.0f} s after they were applied")
    assert said < _FIVE_MINUTES
    for workload, reference in look.images.items():
        row = rows[workload]
        assert row["digest"] == reference.partition("@")[2], "what the kubelet says it runs"
        assert row["verdict"] == "not-covered"
        assert row["caller"] == "unknown"
        assert row["codes"] == []
        assert row["error"] is None
    there = dict.fromkeys(_FACTS, "unlisted")
    assert _states(rows["Deployment/signed"]) == there
    assert _states(rows["Deployment/vendor"]) == {**dict.fromkeys(_FACTS, "none"),
                                                  "signed": "unlisted"}  # fmt: skip
    for workload in ("StatefulSet/unsigned", "DaemonSet/third-party", "Pod/by-tag"):
        assert set(_states(rows[workload]).values()) == {"none"}, workload


def test_and_the_code_if_enforced(look: Look, cluster: Cluster) -> None:
    wait_for("every image to run", lambda: _running(look, cluster), 90)
    done = _impact(cluster, "-f", look.policy)
    rows = {row["workload"]: row for row in json.loads(done.stdout)["images"]}
    assert done.returncode == 1, "some would be denied"
    first = {name: next(iter(rows[name]["codes"]), rows[name]["verdict"]) for name in look.images}
    assert first == {
        "Deployment/signed": "admitted",
        "Deployment/vendor": "SignerMismatch",
        "StatefulSet/unsigned": "SignatureMissing",
        "DaemonSet/third-party": "NoPolicyForImage",
        "Job/batch": "SignatureMissing",
        "Pod/by-tag": "DigestRequired",
        "Deployment/elsewhere": "not-covered",
    }
    met = {name: (one["state"], one["check"], one["signers"])
           for name, one in rows["Deployment/signed"].items() if name in _FACTS}  # fmt: skip
    assert met == {
        "signed": ("listed", "met", ["release"]),
        "provenance": ("listed", "met", ["build"]),
        "review": ("listed", "met", ["review"]),
        "tests": ("listed", "met", ["build"]),
    }
    table = _impact(cluster, "-f", look.policy, output="table").stdout
    for workload, code in first.items():
        (line,) = [one for one in table.splitlines() if workload in one]
        assert code in line


def test_it_says_what_the_gate_would(look: Look, cluster: Cluster, deployer: Deployer) -> None:
    """The code that was foretold is the one that an enforced change is refused with."""
    cluster.kubectl("apply", "-f", look.policy)
    cluster.kubectl("wait", "--for=condition=Ready", f"dpol/{manifests.POLICY}", "--timeout=30s")
    for workload, code in (
        ("StatefulSet/unsigned", "SignatureMissing"),
        ("Deployment/vendor", "SignerMismatch"),
        ("DaemonSet/third-party", "NoPolicyForImage"),
    ):
        made = deployment(look.images[workload], name="foretold", replicas=0)
        refused = wait_for("a refusal", partial(deployer.try_out, made), 30)
        assert f": {code}" in refused
    assert not deployer.try_out(
        deployment(look.images["Deployment/signed"], name="foretold", replicas=0)
    )


def test_helm_test_shows_one_refusal_and_one_admission(release: Installation) -> None:
    said = release.helm("test", "trailgate", "--logs", "--timeout", "3m")
    assert "Phase:          Succeeded" in said
    log = release.cluster.kubectl("logs", "-n", NAMESPACE, "trailgate-test").stdout
    assert re.search(r"^refusal of \S+: as it must be$", log, re.MULTILINE)
    assert re.search(r"^admission of \S+: as it must be$", log, re.MULTILINE)
    assert " denied by DeployPolicy " in log


def test_the_page_shows_what_is_printed(
    look: Look, release: Installation, cluster: Cluster, deployer: Deployer
) -> None:
    """docs/reference/kubectl.md against the real thing: its columns and labels."""
    printed = {
        **_kinds(look, release, cluster, deployer),
        "kubectl apply -f web.yaml": deployer.try_out(
            # Of a name that isn't there yet: kubectl says more of a patch that is refused.
            deployment(look.images["StatefulSet/unsigned"], name="refused", replicas=0)
        ),
        "kubectl -n trailgate-system logs trailgate-test": cluster.kubectl(
            "logs", "-n", NAMESPACE, "trailgate-test"
        ).stdout,
        "trailgate policy impact -f policy.yaml": _impact(
            cluster, "-f", look.policy, output="table"
        ).stdout,
    }
    cluster.kubectl("delete", "dpol", manifests.POLICY)
    printed["trailgate policy impact"] = _impact(cluster, output="table").stdout
    _keep(printed)
    page = _PAGE.read_text()
    for command, real in printed.items():
        (shown,) = re.findall(
            rf"^\$ {re.escape(command)}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
        )
        assert _shape(shown) == _shape(real), command


def _kinds(
    look: Look, release: Installation, cluster: Cluster, deployer: Deployer
) -> dict[str, str]:
    """Have one of each kind there, and ask kubectl for it."""
    get = cluster.kubectl
    get("scale", "deployment/trailgate-operator", "-n", NAMESPACE, "--replicas=0")
    get("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=operator",
        "-n", NAMESPACE, "--timeout=60s")  # fmt: skip
    made = deployment(look.images["Deployment/signed"], name="shown", replicas=0)
    deployer.apply(made)
    admissions = wait_for(
        "an Admission", lambda: get("get", "admissions", "-n", NAMESPACE).stdout, 10
    )
    get("scale", "deployment/trailgate-operator", "-n", NAMESPACE, "--replicas=1")
    deployer.kubectl("delete", "deployment/shown", "-n", manifests.SHOP)
    release.wait_until_recorded(90)
    trailgate("disarm", "--for", "1h", "--reason", "registry is down", "--ticket", "INC-7",
              "--kubeconfig", cluster.kubeconfig)  # fmt: skip
    wait_for("the Disarm to be seen", lambda: "InEffect" in get("get", "disarms").stdout, 30)
    disarms = get("get", "disarms").stdout
    for one in json.loads(get("get", "disarms", "-o", "json").stdout)["items"]:
        if one["spec"]["reason"] == "registry is down":
            get("delete", "disarm", one["metadata"]["name"])
    release.wait_until_armed(60)
    return {
        "kubectl get dpol": get("get", "dpol").stdout,
        "kubectl describe dpol production": get("describe", "dpol", manifests.POLICY).stdout,
        "kubectl get disarms": disarms,
        "kubectl get admissions -n trailgate-system": admissions,
    }


def _keep(printed: dict[str, str]) -> None:
    """Leave it where ``TRAILGATE_E2E_PRINTED`` says: to write the page by."""
    kept = os.environ.get("TRAILGATE_E2E_PRINTED")
    if kept:
        Path(kept).write_text("\n".join(f"$ {name}\n{text}" for name, text in printed.items()))


def _shape(text: str) -> list[str]:
    """Take a table's header, or the labels and words that begin each line."""
    lines = [line for line in text.splitlines() if line.strip()]
    header = re.fullmatch(r"[A-Z]+( +[A-Z]+( [A-Z]+)?)+ *", lines[0])
    if header:
        return lines[0].split()
    labels = {"got", "expected", "try:", "see:"}
    return [
        words[0]
        for line in lines
        if (words := line.split())
        and (words[0] in labels or line.startswith(("Name:", "Spec:", "Status:", "trailgate:")))
    ]


def _images(shop: Shop) -> dict[str, str]:
    """Build what runs: the shop's, unsigned, somebody else's."""
    unsigned = shop.build("6.0.0-unsigned")
    vendor = shop.build("6.0.0-vendor")
    key = shop.work / "vendor-key"
    if not key.with_suffix(".key").exists():
        trailgate("key", "generate", "--out", key, passphrase=shop.passphrase)
    replace(shop, keys={"release": key.with_suffix(".key")}).sign(vendor)
    return {
        "Deployment/signed": shop.release("6.0.0", run=6),
        "Deployment/vendor": vendor,
        "StatefulSet/unsigned": unsigned,
        "DaemonSet/third-party": shop.build("3.2.1", name="cache"),
        "Job/batch": shop.build("6.0.1-unsigned"),
        "Pod/by-tag": shop.build("6.0.2-tag"),
        "Deployment/elsewhere": shop.build("6.0.3-unsigned"),
    }


def _elsewhere(cluster: Cluster) -> list[dict[str, Any]]:
    """Make a namespace that the shop's policy is not for, whose pods may pull too."""
    held = cluster.kubectl("get", "secret", PULL_SECRET, "-n", manifests.SHOP, "-o", "json").stdout
    secret = {k: v for k, v in json.loads(held).items() if k != "metadata"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _ELSEWHERE}},
        {**secret, "metadata": {"name": PULL_SECRET, "namespace": _ELSEWHERE}},
    ]


def _workloads(images: dict[str, str], registry: str) -> list[dict[str, Any]]:
    made = []
    for workload, reference in images.items():
        kind, _, name = workload.partition("/")
        image = f"{registry}/shop/web:6.0.2-tag" if name == "by-tag" else reference
        one = _of_kind(kind, deployment(image, name=name))
        if name == "elsewhere":
            one["metadata"]["namespace"] = _ELSEWHERE
        made.append(one)
    return made


def _of_kind(kind: str, made: dict[str, Any]) -> dict[str, Any]:
    """Make the same pod by another kind of workload."""
    spec, template = made["spec"], made["spec"]["template"]
    changed = {**made, "kind": kind}
    if kind == "Pod":
        # The tag may be another image's by now, where the cluster is from an earlier run.
        template["spec"]["containers"][0]["imagePullPolicy"] = "Always"
        return {**changed, "apiVersion": "v1", "spec": template["spec"]}
    if kind == "Job":
        pod = {**template["spec"], "restartPolicy": "Never"}
        job = {"template": {**template, "spec": pod}}
        return {**changed, "apiVersion": "batch/v1", "spec": job}
    if kind == "StatefulSet":
        return {**changed, "spec": {**spec, "serviceName": "none"}}
    if kind == "DaemonSet":
        return {**changed, "spec": {k: v for k, v in spec.items() if k != "replicas"}}
    return changed


def _list(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _running(look: Look, cluster: Cluster) -> dict[str, Any]:
    """Return the rows by workload, once each of them has a digest."""
    images = json.loads(_impact(cluster).stdout)["images"]
    rows = {row["workload"]: row for row in images}
    ready = all(rows.get(workload, {}).get("digest") for workload in look.images)
    return rows if ready else {}


def _impact(cluster: Cluster, *more: str | Path, output: str = "json") -> Any:
    return trailgate(
        "policy", "impact", "-o", output, "--kubeconfig", cluster.kubeconfig,
        "--allow-insecure-registry", cluster.registry_address, *more, check=False,
    )  # fmt: skip


def _states(row: dict[str, Any]) -> dict[str, str]:
    return {name: row[name]["state"] for name in _FACTS}
