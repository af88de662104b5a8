"""The chart installed on a real API server by a real Helm, and people to try things with."""

import time
from contextlib import contextmanager, suppress

import yaml

from e2e.controlplane.cluster import ApiError
from e2e.controlplane.helm import CHART, MAJORS, Helm
from tests.charts.rendering import GIVEN, NAMESPACE, merged

RELEASE = "trailgate"
PATIENCE = 30.0
INSIDE = f"namespaces/{NAMESPACE}"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
PATHS = (
    f"/api/v1/{INSIDE}/persistentvolumeclaims",
    f"/api/v1/{INSIDE}/serviceaccounts",
    f"/api/v1/{INSIDE}/services",
    f"/apis/apps/v1/{INSIDE}/deployments",
    f"/apis/networking.k8s.io/v1/{INSIDE}/networkpolicies",
    f"/apis/policy/v1/{INSIDE}/poddisruptionbudgets",
    f"{RBAC}/{INSIDE}/rolebindings",
    f"{RBAC}/{INSIDE}/roles",
    f"{RBAC}/clusterrolebindings",
    f"{RBAC}/clusterroles",
    f"{ADMISSION}/validatingadmissionpolicies",
    f"{ADMISSION}/validatingadmissionpolicybindings",
    f"{FLOW}/flowschemas",
    f"{FLOW}/prioritylevelconfigurations",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)


def eventually(check, seconds=PATIENCE):
    """Try until it returns something true; what it raises or returns last is the failure."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = check()
        except AssertionError:
            if time.monotonic() > end:
                raise
        else:
            if answer or time.monotonic() > end:
                assert answer, f"not within {seconds} s"
                return answer
        time.sleep(0.2)


class Installation:
    """One release on one control plane."""

    def __init__(self, plane, homes):
        self.plane = plane
        self.helms = {name: Helm.get(name, homes / name) for name in MAJORS}

    def helm(self, name, *arguments, values=(), check=True, seconds=50):
        return self.helms[name].run(
            *arguments, "--namespace", NAMESPACE, kubeconfig=self.plane.admin.kubeconfig,
            stdin=yaml.safe_dump(merged(GIVEN, *values)), check=check, seconds=seconds,
        )  # fmt: skip

    def install(self, name, *values):
        return self.helm(name, "install", RELEASE, CHART, "--create-namespace", "--values", "-", values=values)  # fmt: skip

    def upgrade(self, name, *values, arguments=()):
        return self.helm(name, "upgrade", RELEASE, CHART, "--values", "-", *arguments, values=values)  # fmt: skip

    def uninstall(self, name, *, check=True):
        """Without hooks: no pod ever runs here. Fails where there is none, unless told."""
        done = self.helm(name, "uninstall", RELEASE, "--no-hooks", check=check)
        self._end_probe()
        return done

    def _end_probe(self):
        """End the probe's namespace, which is empty: its controller would take five seconds."""
        path = "/api/v1/namespaces/trailgate-probe"

        def gone():
            try:
                found = self.plane.api("GET", path)
            except ApiError as error:
                return error.status == 404
            with suppress(ApiError):  # its controller was faster
                if "deletionTimestamp" not in found["metadata"]:
                    self.plane.api("DELETE", path)
                self.plane.api("PUT", f"{path}/finalize", {**found, "spec": {"finalizers": []}})
            return False

        eventually(gone)

    def list(self, path):
        """What is there of ours; a list names no kind, so the path's last part tells it."""
        answer = self.plane.api("GET", f"{path}?labelSelector=app.kubernetes.io%2Fname%3Dtrailgate")
        kind = answer["kind"].removesuffix("List")
        return [{"kind": kind, **one} for one in answer["items"]]

    def objects(self):
        """What is there of the release, by kind and name."""
        return {(o["kind"], o["metadata"]["name"]): o for path in PATHS for o in self.list(path)}

    def settled(self):
        """``objects`` once the controllers have said in the status what they had to say."""

        def policies_are_checked():
            policies = self.list(f"{ADMISSION}/validatingadmissionpolicies")
            return all("observedGeneration" in (one.get("status") or {}) for one in policies)

        eventually(policies_are_checked)
        before = self.objects()

        def nothing_moves():
            nonlocal before
            now, old = self.objects(), before
            before = now
            return now == old

        eventually(nothing_moves)
        return before

    def sweep(self):
        """Remove what a release leaves on purpose, but the kinds: the next one takes them over."""
        self.uninstall("helm3", check=False)
        for claim in self.list(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"):
            self.drop_claim(claim["metadata"]["name"])

    def drop_claim(self, name):
        """Delete one; that no pod uses it any more, without a node nobody would say."""
        path = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/{name}"
        self.plane.api("DELETE", path)
        with suppress(ApiError):  # gone already
            self.plane.api(
                "PATCH", path, {"metadata": {"finalizers": None}},
                content_type="application/merge-patch+json",
            )  # fmt: skip


@contextmanager
def installed(installation, *values, name="helm4"):
    installation.install(name, *values)
    try:
        yield installation
    finally:
        installation.sweep()
