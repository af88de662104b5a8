"""Everything the demo runs on: a real control plane, a registry, the gate, the recorder."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane import ports
from e2e.controlplane.kubeconfig import User
from e2e.controlplane.process import Process
from e2e.controlplane.registry import RegistryProcess
from e2e.controlplane.start import ControlPlane, Options
from e2e.demo import manifests, shop
from e2e.demo.narrate import Narrator
from e2e.demo.pipeline import Pipeline, trailgate
from e2e.demo.shop import Repository
from trailgate.ledger.sqlite_reader import SqliteReader

_CRDS = Path(__file__).parents[2] / "charts" / "trailgate" / "files" / "crds"
_SOURCE = "https://git.shop.example/shop/web"
_PASSPHRASE = "demo only"
_READY = 60.0


@dataclass
class World:
    """What the stories act on."""

    directory: Path
    narrator: Narrator
    cluster: ControlPlane
    registry: RegistryProcess
    repository: Repository
    pipeline: Pipeline
    users: Mapping[str, User]
    gate_port: int = 0
    operator_port: int = 0
    gate: Process | None = None
    recorder: Process | None = None
    _webhook_pair: Any = None
    keys: Mapping[str, Path] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        """The recorder's SQLite file."""
        return self.directory / "ledger" / "ledger.db"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint, as kept outside of the ledger."""
        return self.directory / "elsewhere" / "checkpoint"

    @property
    def vkey(self) -> Path:
        """The log's public half, as pinned by an auditor."""
        return self.directory / "keys" / "log.vkey"

    def start_gate(self) -> None:
        """Start ``trailgate-webhook`` and wait until it is ready."""
        pair = self._webhook_pair
        self.gate = Process.start(
            "trailgate-webhook",
            [
                Path(sys.executable).with_name("trailgate-webhook"),
                "--kubeconfig", self.users["gate"].kubeconfig,
                "--namespace", manifests.SYSTEM,
                "--listen", f"127.0.0.1:{self.gate_port}",
                "--tls-cert", pair.certificate, "--tls-key", pair.key,
                "--gate-key", self.directory / "keys" / "gate.key",
                "--recorder-public-key", self.directory / "keys" / "recorder.pub",
                "--allow-insecure-registry", self.registry.address,
                "--known-checkpoint", self.checkpoint,
                "--environment", "production", "--cluster-name", "demo",
                "--drain-delay", "0",
            ],
            self.directory / "logs" / "gate.log",
        )  # fmt: skip
        self.gate.wait_ready(self._gate_ready, _READY)

    def _gate_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.cluster.authority.file))
        return _ready(
            http.client.HTTPSConnection("127.0.0.1", self.gate_port, timeout=2, context=context)
        )

    def wait_until_armed(self) -> None:
        """Wait until the operator says that it armed the gate, and that nothing else is wrong."""
        assert self.recorder is not None
        self.recorder.wait_ready(
            lambda: _ready(http.client.HTTPConnection("127.0.0.1", self.operator_port, timeout=2)),
            _READY,
        )

    def start_recorder(self) -> None:
        """Start ``trailgate-operator``: it records, and arms the gate as in a cluster."""
        self.recorder = Process.start(
            "trailgate-operator",
            [
                Path(sys.executable).with_name("trailgate-operator"),
                "--kubeconfig", self.users["recorder"].kubeconfig,
                "--namespace", manifests.SYSTEM,
                "--ledger", f"sqlite:{self.ledger}",
                "--log-key", self.directory / "keys" / "log.key",
                "--recorder-key", self.directory / "keys" / "recorder.key",
                "--gate-public-key", self.directory / "keys" / "gate.pub",
                "--known-checkpoint", self.checkpoint,
                "--environment", "production", "--cluster-name", "demo",
                "--health-listen", f"127.0.0.1:{self.operator_port}",
                "--arm", "--certificates", "files",
                "--webhook-url", f"https://127.0.0.1:{self.gate_port}/validate",
                "--webhook-ca", self.cluster.authority.file,
            ],
            self.directory / "logs" / "recorder.log",
        )  # fmt: skip

    def policy(self) -> dict[str, Any]:
        """Make the shop's policy, with the public keys that its pipeline signs with."""
        public = {
            name: key.with_suffix(".pub").read_text() for name, key in self.pipeline.keys.items()
        }
        return manifests.deploy_policy(self.registry.address, _SOURCE, public)

    def get(self, group: str, plural: str, selector: str) -> list[dict[str, Any]]:
        """List a namespaced kind in the shop's namespace."""
        base = f"/apis/{group}/v1" if group else "/api/v1"
        answer = self.cluster.api(
            "GET", f"{base}/namespaces/{manifests.SHOP}/{plural}?labelSelector={selector}"
        )
        return list(answer["items"])

    def wait_for_pods(self, selector: str, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """Wait until the controllers have made so many pods; returns what is there."""
        self.wait(lambda: len(self.get("", "pods", selector)) >= count, seconds)
        return self.get("", "pods", selector)

    def wait(self, probe: Callable[[], bool], seconds: float = 30) -> bool:
        """Poll until ``probe`` is true; returns whether it ever was."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if probe():
                return True
            time.sleep(0.1)
        return probe()

    def spooled(self) -> int:
        """How many Admissions lie in the spool."""
        answer = self.cluster.api(
            "GET", f"/apis/trailgate.dev/v1alpha1/namespaces/{manifests.SYSTEM}/admissions"
        )
        return len(answer["items"])

    def wait_until_recorded(self, seconds: float = 40) -> bool:
        """Wait until the recorder has emptied the spool."""
        return self.wait(lambda: self.spooled() == 0, seconds)

    def rows(self, *filters: str, ledger: Path | None = None) -> list[dict[str, Any]]:
        """Run ``trailgate ledger list -o json``."""
        done = trailgate(
            "ledger", "list", "--ledger", f"sqlite:{ledger or self.ledger}", "-o", "json", *filters
        )
        return list(json.loads(done.stdout)["rows"])

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Read every record of a kind from the leaves, in order, each with its ``index``."""
        with SqliteReader(self.ledger) as reader:
            found = [
                json.loads(record) | {"index": at} for at, record in enumerate(reader.records())
            ]
        return [record for record in found if record["kind"] == kind]

    def claims(self, workload: str) -> list[dict[str, Any]]:
        """Read every admitted record of a workload from the leaves, as often as it is there."""
        kind, _, name = workload.partition("/")
        return [
            record
            for record in self.records("admitted")
            if (record["object"]["kind"], record["object"]["name"]) == (kind, name)
        ]

    def show(self, index: int, form: str = "table") -> str:
        """Run ``trailgate ledger show``."""
        ledger = f"sqlite:{self.ledger}"
        return trailgate("ledger", "show", str(index), "--ledger", ledger, "-o", form).stdout

    @contextmanager
    def broken_tests(self) -> Iterator[None]:
        """Make the checkout's tests fail for a while, without a commit."""
        file = self.repository.path / "test_price.py"
        before = file.read_text()
        file.write_text(before + "\n\ndef test_broken():\n    assert total([1]) == 2\n")
        try:
            yield
        finally:
            file.write_text(before)


def _ready(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def build(directory: Path, narrator: Narrator) -> Iterator[World]:
    """Bring everything up; what was started ends with the block."""
    with ExitStack() as stack:
        narrator.say("Starting etcd, kube-apiserver, kube-controller-manager and a registry.")
        cluster = ControlPlane.start(
            directory / "cluster", Options(controllers=True, unsafe_no_fsync=False)
        )
        stack.callback(cluster.stop)
        registry = stack.enter_context(RegistryProcess.start(directory / "registry"))
        keys = _make_keys(directory)
        repository = shop.create(directory / "shop", _SOURCE)
        pipeline = Pipeline(repository, registry.address, directory, keys, _PASSPHRASE)
        world = World(directory, narrator, cluster, registry, repository, pipeline, _users(cluster))
        stack.callback(_stop, world)
        _install(world)
        yield world


def _stop(world: World) -> None:
    for process in (world.gate, world.recorder):
        if process is not None and process.returncode is None:
            process.stop()


def _make_keys(directory: Path) -> dict[str, Path]:
    keys = directory / "keys"
    keys.mkdir(parents=True)
    for name in ("release", "build", "review", "stranger"):
        trailgate("key", "generate", "--out", keys / name, passphrase=_PASSPHRASE)
    for name in ("gate", "recorder"):
        trailgate("key", "generate", "--for", name, "--out", keys / name)
    return {name: keys / f"{name}.key" for name in ("release", "build", "review", "stranger")}


def _users(cluster: ControlPlane) -> dict[str, User]:
    """Make the people and the accounts, each with the rights that the story needs."""
    cluster.namespace(manifests.SHOP)
    cluster.namespace(manifests.SYSTEM)
    users = {
        "dana": cluster.person("dana@shop.example", ["developers"]),
        "carol": cluster.person("carol@shop.example", ["platform-admins"]),
        "deployer": cluster.service_account(manifests.CI, manifests.DEPLOYER),
        "gate": cluster.service_account(manifests.SYSTEM, "trailgate-webhook"),
        "recorder": cluster.service_account(manifests.SYSTEM, "trailgate-operator"),
    }
    cluster.bind(users["dana"], "edit", manifests.SHOP)
    cluster.bind(users["deployer"], "edit", manifests.SHOP)
    cluster.bind(users["carol"], "cluster-admin")
    cluster.apply(*manifests.impersonator("dana@shop.example"))
    return users


def _install(world: World) -> None:
    """Install what the chart installs: kinds, rights, guards, ledger, processes. These arm."""
    cluster, directory = world.cluster, world.directory
    crds = [yaml.safe_load(file.read_text()) for file in sorted(_CRDS.glob("*.yaml"))]
    cluster.apply(*crds)
    for crd in crds:
        cluster.kubectl(
            cluster.admin, "wait", "--for=condition=Established", "--timeout=30s",
            f"crd/{crd['metadata']['name']}",
        )  # fmt: skip
    cluster.apply(*manifests.rights(), *manifests.guards())
    (directory / "ledger").mkdir()
    (directory / "elsewhere").mkdir()
    trailgate(
        "ledger", "init", "--ledger", f"sqlite:{world.ledger}",
        "--origin", "demo.shop.example/trail",
        "--key", directory / "keys" / "log.key", "--vkey", world.vkey,
    )  # fmt: skip
    world.gate_port, world.operator_port = ports.free(2)
    world._webhook_pair = cluster.authority.server("trailgate-webhook", ["127.0.0.1"])  # noqa: SLF001
    world.start_recorder()
    world.start_gate()
    world.wait_until_armed()
