"""A cluster to arm: a real API server with controllers, a real gate, and the operator's loops."""

import asyncio
import contextlib
import json
import os
import subprocess
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from e2e.controlplane import ports
from e2e.controlplane.start import ControlPlane, Options
from tests.operator import rights
from tests.webhook.world import World, policy
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.people import Vault
from trailgate.ledger.record import Cluster, Context, Gate
from trailgate.model.digest import Digest
from trailgate.tlog.note import SigningKey
from trailgate_kube.client import KubeClient
from trailgate_kube.crd import definitions
from trailgate_kube.policies import Policies
from trailgate_kube.resources import DISARMS
from trailgate_kube.spool import AdmissionReader
from trailgate_kube.webhooks import Address
from trailgate_operator.arming import Arming, Parts
from trailgate_operator.arming_overlap import FileAuthorities, Overlap
from trailgate_operator.arming_plan import Settings
from trailgate_operator.disarming_past import KnownDisarms
from trailgate_operator.intake import Desk, Keys
from trailgate_operator.loops import run_all
from trailgate_operator.metrics import Metrics
from trailgate_operator.policies import PolicyStatus
from trailgate_operator.recorder import Recorder
from trailgate_operator.returns import ImageHistory
from trailgate_operator.selfreview import SelfReview

SYSTEM = "trailgate-system"
ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/trailgate"


def start_plane(directory):
    """A control plane of its own: what is armed here must not meet anybody else's tests."""
    plane = ControlPlane.start(directory, Options(controllers=True, unsafe_no_fsync=True))
    plane.install_crds(*definitions())
    plane.namespace(SYSTEM)
    return plane


async def until(probe, seconds=20.0):
    """Poll (a function, or a coroutine function) until it is true; returns what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        held = probe()
        held = await held if asyncio.iscoroutine(held) else held
        if held:
            return held
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.05)


class GateProcess:
    """The real gate as a process, always on the same port."""

    def __init__(self, plane, directory):
        self.world = World(directory)
        (self.port,) = ports.free(1)
        self._log = directory / "gate.log"
        self._arguments = self.world.options(
            listen=f"127.0.0.1:{self.port}", policy_dir=None, spool_dir=None, cluster_uid=None,
            kubeconfig=plane.admin.kubeconfig, namespace=SYSTEM,
            health_listen=None,
        )  # fmt: skip
        self._process = None

    @property
    def url(self):
        return f"https://localhost:{self.port}/validate"

    def start(self):
        path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube", "webhook", "."))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments, stderr=output, env=os.environ | {"PYTHONPATH": path}, cwd=ROOT
            )

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def text(self):
        return self._log.read_text()


class Site:
    """One test's installation on the shared plane: rights, gate, operator, ledger."""

    def __init__(self, plane, directory):
        self.plane, self.directory = plane, directory
        self.mark = uuid.uuid4().hex[:6]
        self.shop = f"shop-{self.mark}"
        plane.namespace(self.shop)
        self.gate = GateProcess(plane, directory)
        self.authority = self.gate.world.certs / "ca.crt"
        self.operator = plane.service_account(SYSTEM, "trailgate-operator")
        plane.apply(*rights.manifests("trailgate-operator", SYSTEM))
        self.store = MemoryStore(SigningKey.generate("log.example/arming"))
        self.ahead = timedelta(0)
        """How much later than it is the operator's clock says it is."""
        self._stop = self._running = None

    def clear(self):
        self.gate.kill()
        for kind in ("disarms", "deploypolicies", "validatingwebhookconfigurations"):
            self.plane.kubectl(self.plane.admin, "delete", kind, "--all", "--ignore-not-found")

    def now(self):
        return datetime.now(UTC) + self.ahead

    # The operator.

    async def start(self, **settings):
        """Run the loops in this process, with the rights of the real one."""
        self._kube = await KubeClient.open(self.operator.kubeconfig)
        context = Context(
            Cluster("cluster-uid"), Gate("1", Digest.of(b"configuration"), None, "operator")
        )
        vault = Vault(self.store.disclosures("subject:"))
        self.metrics = Metrics()
        recorder = Recorder(
            AdmissionReader(self._kube, self._kube, SYSTEM), self.store,
            Desk(Keys((), {}), context, vault), ImageHistory.read(self.store.records()),
            self.metrics,
        )  # fmt: skip
        self.recorder = recorder
        known = KnownDisarms(self.store.disclosures_of)
        for _ in known.noting(self.store.records()):
            pass
        address = settings.pop("address", Address(SYSTEM, url=self.gate.url))
        policies = Policies(self._kube, on_change=lambda: (self.status.wake(), self.arming.wake()))
        self.policies = policies
        self.status = PolicyStatus(self._kube, policies, self.metrics, clock=self.now)
        gate = SelfReview(self._kube, address, SYSTEM)

        def published():
            return self.arming.published()

        file = Overlap(FileAuthorities(self.authority), published, gate)
        self.arming = Arming(
            Parts(
                self._kube, policies, file, gate, recorder.tell, context, self.metrics,
                disarmed=known.in_effect(), prove=file.prove,
            ),
            Settings(address, SYSTEM, **settings), clock=self.now,
        )  # fmt: skip
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(run_all([self.status, self.arming], self._stop))

    async def stop(self):
        if self._running is not None:
            self._stop.set()
            await asyncio.wait_for(self._running, 15)
            await self._kube.close()
            self._running = None

    async def kill(self):
        """End it in the middle of whatever it does."""
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        await self._kube.close()
        self._running = None

    # What is there.

    async def api(self, method, path, body=None, **how):
        return await asyncio.to_thread(self.plane.api, method, path, body, **how)

    async def configuration(self):
        with contextlib.suppress(Exception):
            return await self.api("GET", CONFIGURATION)

    async def armed(self, *, seconds=20.0):
        return await until(self.configuration, seconds)

    async def unarmed(self, *, seconds=20.0):
        async def gone():
            return await self.configuration() is None

        await until(gone, seconds)

    async def entry(self, name):
        found = await self.configuration()
        return found and next(
            one for one in found["webhooks"] if one["name"] == f"{name}.trailgate.dev"
        )

    async def expression(self, name="enforce"):
        one = await self.entry(name)
        return one and one["matchConditions"][0]["expression"]

    async def enforces(self, text):
        async def there():
            return text in (await self.expression() or "")

        await until(there)

    def told(self, kind="control-state"):
        """(state, …) of the trail's entries of a kind, in order."""
        records = [json.loads(record) for record in self.store.records()]
        return [one for one in records if one["kind"] == kind]

    def states(self, kind="control-state"):
        return [one["state"] for one in self.told(kind)]

    # What people do.

    def policy(self, name="production", mode="Enforce", *namespaces):
        document = policy(name=f"{name}-{self.mark}", mode=mode)
        document["spec"]["namespaces"] = list(namespaces or [self.shop])
        document["spec"].pop("callers")
        return document

    def apply(self, *documents):
        return self.plane.apply(*documents)

    def disarm(self, name="emergency", *, hours=1.0, minutes=0.0, reason="gate broken", **more):
        until_ = datetime.now(UTC) + timedelta(hours=hours, minutes=minutes)
        return {
            "apiVersion": DISARMS.api_version,
            "kind": DISARMS.kind,
            "metadata": {"name": f"{name}-{self.mark}"},
            "spec": {"reason": reason, "until": until_.strftime("%Y-%m-%dT%H:%M:%SZ"), **more},
        }

    def deployment(self, name="web", image="ghcr.io/other/web:1"):
        labels = {"app": name}
        container = {"name": name, "image": image}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels}, "spec": {"containers": [container]},
                },
            },
        }  # fmt: skip

    def deploy(self, namespace, name="web"):
        """``kubectl create``, as the cluster's administrator: whatever comes back."""
        return self.plane.kubectl(
            self.plane.admin, "create", "-n", namespace, "-f", "-",
            stdin=json.dumps(self.deployment(name)), check=False,
        )  # fmt: skip

    def state_of(self, name):
        return self.plane.kubectl(self.plane.admin, "get", "disarm", name, "--no-headers").stdout
