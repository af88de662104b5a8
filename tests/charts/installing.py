"""The chart installed on a real API server by a real Helm, and people to try things with."""

import time
from contextlib import contextmanager

import yaml

from e2e.controlplane.helm import CHART, MAJORS, Helm
from tests.charts.rendering import GIVEN, NAMESPACE, merged

RELEASE = "trailgate"
PATIENCE = 30.0


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

    def uninstall(self, name):
        """Without hooks: no pod ever runs here."""
        return self.helm(name, "uninstall", RELEASE, "--no-hooks")

    def get(self, *arguments):
        text = self.plane.kubectl(self.plane.admin, "get", *arguments, "-o", "yaml").stdout
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def objects(self):
        """What is there of the release, by kind and name."""
        inside = "deploy,svc,pdb,netpol,sa,role,rolebinding,pvc"
        everywhere = (
            "clusterrole,clusterrolebinding,crd,flowschema,prioritylevelconfiguration,"
            "validatingadmissionpolicy,validatingadmissionpolicybinding"
        )
        label = "-lapp.kubernetes.io/name=trailgate"
        found = [*self.get(inside, label, "-n", NAMESPACE)["items"], *self.get(everywhere, label)["items"]]  # fmt: skip
        return {(one["kind"], one["metadata"]["name"]): one for one in found}

    def settled(self):
        """``objects`` once the controllers have said in the status what they had to say."""

        def policies_are_checked():
            policies = self.get("validatingadmissionpolicy")["items"]
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
        """Remove everything, and what a release leaves on purpose."""
        self.helm("helm3", "uninstall", RELEASE, "--no-hooks", check=False)
        admin = self.plane.admin
        for kind in ("crd", "validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            self.plane.kubectl(admin, "delete", kind, "-lapp.kubernetes.io/name=trailgate", "--ignore-not-found")  # fmt: skip
        self.plane.kubectl(admin, "delete", "pvc", "--all", "-n", NAMESPACE, "--wait=false")
        for claim in self.get("pvc", "-n", NAMESPACE)["items"]:
            self.plane.kubectl(
                admin, "patch", "pvc", claim["metadata"]["name"], "-n", NAMESPACE, "--type=merge",
                "-p", '{"metadata":{"finalizers":null}}', check=False,
            )  # fmt: skip


@contextmanager
def installed(installation, *values, name="helm4"):
    installation.install(name, *values)
    try:
        yield installation
    finally:
        installation.sweep()
