"""What a real API server sends for real commands, recorded.

``play`` runs the commands against a control plane with a logging webhook in front;
``python -m tests.core.assess.recording`` writes what came to ``reviews.json``, which the
offline tests read. The cluster test plays it anew and expects the same classes.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from e2e.controlplane.cluster import ApiError, Cluster
from e2e.controlplane.kubeconfig import User

REVIEWS = Path(__file__).with_name("reviews.json")
IMAGE = "ghcr.io/acme/web@sha256:" + "a" * 64
NEXT = "ghcr.io/acme/web@sha256:" + "b" * 64
RESOURCES = {
    "": ("pods", "replicationcontrollers"),
    "apps": ("deployments", "statefulsets", "daemonsets", "replicasets"),
    "batch": ("jobs", "cronjobs"),
}
APPS = "/apis/apps/v1/namespaces"


class ReviewLog:
    """A webhook that allows everything and keeps what it was asked."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: list[dict[str, Any]] = []
        self.step = "start"
        log = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                review = json.loads(body)
                log.seen.append({"step": log.step, "request": review["request"]})
                answer = {
                    "apiVersion": review["apiVersion"],
                    "kind": review["kind"],
                    "response": {"uid": review["request"]["uid"], "allowed": True},
                }
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        pair = cluster.authority.server("review-log", ["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def logging_webhook(cluster: Cluster, namespace: str) -> Iterator[ReviewLog]:
    log = ReviewLog(cluster)
    name = f"review-log-{namespace}"
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    cluster.create(
        path,
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [
                {
                    "name": "log.trailgate.dev",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "failurePolicy": "Fail",
                    "clientConfig": {
                        "url": log.url,
                        "caBundle": base64.b64encode(cluster.authority.pem).decode(),
                    },
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": namespace}
                    },
                    "rules": [
                        {
                            "operations": ["*"],
                            "apiGroups": [group],
                            "apiVersions": ["*"],
                            "resources": [r for plural in plurals for r in (plural, f"{plural}/*")],
                        }
                        for group, plurals in RESOURCES.items()
                    ],
                }
            ],
        },
    )
    try:
        wait_for(lambda: _is_active(cluster, namespace, log), "the webhook to be called")
        log.seen.clear()
        yield log
    finally:
        cluster.api("DELETE", f"{path}/{name}")
        log.stop()


def _is_active(cluster: Cluster, namespace: str, log: ReviewLog) -> bool:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec()}
    with contextlib.suppress(ApiError):
        cluster.api("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", body)
    return bool(log.seen)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")


def spec(image: str = IMAGE, **more: Any) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "containers": [{"name": "web", "image": image, "resources": {"limits": {"cpu": "1000m"}}}],
        **more,
    }


def template(labels: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {"metadata": {"labels": dict(labels)}, "spec": spec(**more)}


def workload(api: str, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": body}


def replicated(kind: str, name: str, **more: Any) -> dict[str, Any]:
    labels = {"app": name}
    body = {"selector": {"matchLabels": labels}, "template": template(labels), **more}
    return workload("apps/v1", kind, name, body)


class Play:
    """The commands, each under the name of its step."""

    def __init__(self, cluster: Cluster, namespace: str, log: ReviewLog) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.log = log
        self.user: User = cluster.service_account(namespace, "deployer")
        cluster.bind(self.user, "edit", namespace)
        self.kubectl = lambda *a, **k: cluster.kubectl(self.user, "-n", namespace, *a, **k)

    def step(self, name: str) -> None:
        self.quiet()
        self.log.step = name

    def quiet(self, seconds: float = 1.0) -> None:
        """Wait until nothing has come for a while."""
        count, since = len(self.log.seen), time.monotonic()
        while time.monotonic() - since < seconds:
            time.sleep(0.1)
            if len(self.log.seen) != count:
                count, since = len(self.log.seen), time.monotonic()

    def apply(self, item: dict[str, Any], *more: str) -> None:
        self.kubectl("apply", *more, "-f", "-", stdin=json.dumps(item))

    def items(self, path: str) -> list[dict[str, Any]]:
        group = "/api/v1" if path in ("pods", "replicationcontrollers") else "/apis/apps/v1"
        return self.cluster.api("GET", f"{group}/namespaces/{self.namespace}/{path}")["items"]

    def pods(self, prefix: str) -> list[str]:
        return [
            item["metadata"]["name"]
            for item in self.items("pods")
            if item["metadata"]["name"].startswith(prefix)
            and "deletionTimestamp" not in item["metadata"]
        ]

    def patch(self, path: str, body: Mapping[str, Any], kind: str = "merge") -> None:
        self.cluster.api(
            "PATCH",
            path.format(ns=f"namespaces/{self.namespace}"),
            body,
            content_type=f"application/{kind}-patch+json",
        )

    def deployment(self) -> None:
        self.step("create deployment")
        web = replicated("Deployment", "web", replicas=2)
        web["spec"]["template"]["spec"] |= {
            "initContainers": [
                {"name": "init", "image": NEXT},
                {"name": "sidecar", "image": NEXT, "restartPolicy": "Always"},
            ],
            "volumes": [{"name": "model", "image": {"reference": NEXT, "pullPolicy": "Always"}}],
        }
        self.apply(web)
        wait_for(lambda: len(self.pods("web-")) == 2, "two pods")
        self.step("set env")
        self.kubectl("set", "env", "deployment/web", "GREETING=hello")
        wait_for(lambda: len(self.items("replicasets")) == 2, "a second ReplicaSet")
        self.step("scale up")
        self.kubectl("scale", "deployment/web", "--replicas=3")
        self.step("scale down")
        self.kubectl("scale", "deployment/web", "--replicas=1")
        self.step("rollout undo")
        self.kubectl("rollout", "undo", "deployment/web")
        self.step("server-side apply over client-side")
        web["spec"]["template"]["spec"]["containers"][0]["image"] = NEXT
        self.apply(web, "--server-side", "--force-conflicts")
        self.step("rollback annotation")
        self.kubectl("annotate", "deployment/web", "deprecated.deployment.rollback.to=2")
        self.step("label and note")
        self.kubectl("label", "deployment/web", "team=shop")
        self.kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=because")
        self.step("set image on a child pod")
        self.kubectl("set", "image", f"pod/{self.pods('web-')[0]}", f"web={IMAGE}")
        self.step("label a child pod")
        self.kubectl("label", f"pod/{self.pods('web-')[0]}", "role=primary")

    def pod_subresources(self) -> None:
        self.step("ephemeral container")
        name = self.pods("web-")[0]
        body = {"spec": {"ephemeralContainers": [{"name": "debug", "image": NEXT}]}}
        self.patch(f"/api/v1/{{ns}}/pods/{name}/ephemeralcontainers", body, "strategic-merge")
        self.step("resize")
        resources = {
            "name": "web",
            "resources": {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}},
        }
        body = {"spec": {"containers": [resources]}}
        self.patch(f"/api/v1/{{ns}}/pods/{name}/resize", body, "strategic-merge")
        self.step("bind")
        self._post_pod(name, "binding", "v1", "Binding", target={"kind": "Node", "name": "node-1"})
        self.step("evict")
        self._post_pod(name, "eviction", "policy/v1", "Eviction")
        self.step("delete a child pod")
        wait_for(lambda: self.pods("web-"), "another pod")
        self.kubectl("delete", "pod", self.pods("web-")[0], "--wait=false")

    def _post_pod(self, name: str, what: str, api: str, kind: str, **more: Any) -> None:
        body = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **more}
        self.cluster.api("POST", f"/api/v1/namespaces/{self.namespace}/pods/{name}/{what}", body)

    def others(self) -> None:
        self.step("create statefulset")
        self.apply(replicated("StatefulSet", "db", replicas=1, serviceName="db"))
        wait_for(lambda: self.pods("db-"), "a pod of the StatefulSet")
        self.step("create daemonset")
        self.apply(replicated("DaemonSet", "agent"))
        wait_for(lambda: self.pods("agent-"), "a pod of the DaemonSet")
        self.step("update daemonset")
        self.kubectl("set", "image", "daemonset/agent", f"web={NEXT}")
        self.step("create replicaset")
        self.apply(replicated("ReplicaSet", "bare", replicas=1))
        wait_for(lambda: self.pods("bare-"), "a pod of the ReplicaSet")
        self.step("create replicationcontroller")
        old = workload("v1", "ReplicationController", "old", {"replicas": 1})
        old["spec"] |= {"selector": {"app": "old"}, "template": template({"app": "old"})}
        self.apply(old)
        wait_for(lambda: self.pods("old-"), "a pod of the ReplicationController")
        self.step("create pod")
        self.apply(workload("v1", "Pod", "lone", spec()))
        self.step("dry run")
        self.apply(workload("v1", "Pod", "dry", spec()), "--dry-run=server")

    def jobs(self) -> None:
        body = {"template": template({"app": "job"}, restartPolicy="Never")}
        self.step("create job")
        self.apply(workload("batch/v1", "Job", "job", body))
        wait_for(lambda: self.pods("job-"), "a pod of the Job")
        self.step("create cronjob")
        cron = {"schedule": "* * * * *", "jobTemplate": {"spec": body}}
        self.apply(workload("batch/v1", "CronJob", "cron", cron))
        self.step("create job from cronjob")
        self.kubectl("create", "job", "manual", "--from=cronjob/cron")
        wait_for(lambda: self.pods("manual-"), "a pod of the manual Job")
        self.step("cron")
        wait_for(lambda: self.pods("cron-"), "a pod of the CronJob", 75)
        self.step("suspend cronjob")
        self.patch("/apis/batch/v1/{ns}/cronjobs/cron", {"spec": {"suspend": True}})

    def adoption(self) -> None:
        self.step("orphan")
        self.kubectl("delete", "deployment/web", "--cascade=orphan")
        wait_for(self._is_orphaned, "ReplicaSets without an owner")
        self.step("adopt")
        self.kubectl("create", "-f", "-", stdin=json.dumps(replicated("Deployment", "web")))
        wait_for(lambda: not self._is_orphaned(), "adoption")
        self.step("delete deployment")
        self.kubectl("delete", "deployment/web", "--wait=false")
        wait_for(lambda: not self._web(), "garbage collection")
        self.step("foreground deletion")
        self.kubectl("delete", "replicaset/bare", "--cascade=foreground", "--wait=false")

    def _web(self) -> list[dict[str, Any]]:
        sets = self.items("replicasets")
        return [item for item in sets if item["metadata"]["name"].startswith("web-")]

    def _is_orphaned(self) -> bool:
        found = self._web()
        return bool(found) and all("ownerReferences" not in i["metadata"] for i in found)

    def impersonation(self) -> None:
        self.step("impersonated controller")
        body = workload("v1", "Pod", "claimed", spec())
        owner = self.items("replicasets")[0]["metadata"]
        body["metadata"]["ownerReferences"] = [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": owner["name"],
                "uid": owner["uid"],
                "controller": True,
            }
        ]
        account = "system:serviceaccount:kube-system:replicaset-controller"
        text = json.dumps(body)
        self.cluster.kubectl(
            self.cluster.admin, "-n", self.namespace, "create", f"--as={account}", "-f", "-",
            stdin=text,
        )  # fmt: skip

    def mirror(self) -> None:
        self.step("mirror pod")
        kubelet = self.cluster.person("system:node:node-1", ["system:nodes"])
        self.cluster.bind(kubelet, "cluster-admin")
        node = self.cluster.api("GET", "/api/v1/nodes/node-1")["metadata"]
        body = workload("v1", "Pod", "static-node-1", spec(nodeName="node-1"))
        body["metadata"] |= {
            "annotations": {"kubernetes.io/config.mirror": "1", "kubernetes.io/config.hash": "1"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "name": "node-1",
                    "uid": node["uid"],
                    "controller": True,
                }
            ],
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        self.cluster.api("POST", path, body, user=kubelet)
        self.step("mirror pod deleted")
        self.cluster.api("DELETE", f"{path}/static-node-1?gracePeriodSeconds=0", user=kubelet)


def play(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """Run everything and return the reviews, each with its step."""
    cluster.namespace(namespace)
    cluster.create(
        "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
    )
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    cluster.api(
        "PATCH", "/api/v1/nodes/node-1/status", ready, content_type="application/merge-patch+json"
    )
    with contextlib.suppress(ApiError):
        cluster.api(
            "PATCH", "/api/v1/nodes/node-1", {"spec": {"taints": None}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
    with logging_webhook(cluster, namespace) as log:
        scene = Play(cluster, namespace, log)
        scene.deployment()
        scene.pod_subresources()
        scene.others()
        scene.impersonation()
        scene.mirror()
        scene.jobs()
        scene.adoption()
        scene.quiet()
        return list(log.seen)


def slim(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out repetitions and field ownership, except where that is all that changes."""
    kept: dict[tuple[str, ...], dict[str, Any]] = {}
    for review in seen:
        request = review["request"]
        who = request["userInfo"]["username"]
        what = (review["step"], request["operation"], request["resource"]["resource"])
        kept.setdefault((*what, request.get("subResource", ""), who), review)
        if review["step"].startswith("server-side"):
            kept[(request["uid"],)] = review
            continue
        for form in ("object", "oldObject"):
            if request.get(form):
                request[form]["metadata"].pop("managedFields", None)
    return [review for review in seen if any(review is one for one in kept.values())]


def main() -> None:
    import tempfile

    from e2e.controlplane.start import ControlPlane, Options

    with tempfile.TemporaryDirectory(prefix="trailgate-reviews-") as directory:
        options = Options(controllers=True, unsafe_no_fsync=True)
        with ControlPlane.start(Path(directory), options) as plane:
            seen = play(plane, "shop")
    seen = slim(seen)
    lines = ",\n".join(json.dumps(review, separators=(",", ":")) for review in seen)
    REVIEWS.write_text(f"[\n{lines}\n]\n")
    sys.stdout.write(f"{len(seen)} reviews in {REVIEWS}\n")


if __name__ == "__main__":
    main()
