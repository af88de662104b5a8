"""One gate-and-recorder installation of its own on the real control plane."""

from __future__ import annotations

import asyncio
import base64
import collections
import json
import secrets
import ssl
import subprocess
import sys
import time
from contextlib import AsyncExitStack

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from e2e.controlplane import kubeconfig, ports
from tests.chaos.nursery import Installed, Nursery
from tests.chaos.proxy import ApiProxy, Balancer
from trailgate.ledger import spoolkeys, sqlite
from trailgate.ledger.keys import write_signing_key, write_verifier_key
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.tlog.note import SigningKey

RBAC = "rbac.authorization.k8s.io"
MERGE = "application/merge-patch+json"


async def until(probe, seconds=30.0, every=0.05):
    """Poll an async probe; False where it never was true."""
    deadline = time.monotonic() + seconds
    while True:
        if await probe():
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)


def free_port():
    (port,) = ports.free(1)
    return port


def _write(path, content):
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


class Stage:
    """Namespaces, people, keys, ledger and processes; ``async with`` it."""

    def __init__(self, plane, image, release_pem, directory):
        self.plane, self.image, self.release_pem = plane, image, release_pem
        self.directory = directory
        self.mark = secrets.token_hex(4)
        self.shop, self.trial = f"shop-{self.mark}", f"trial-{self.mark}"
        self.system, self.ci = f"trailgate-{self.mark}", f"ci-{self.mark}"
        self.ledger = directory / "ledger" / "ledger.db"
        self.known = directory / "elsewhere" / "checkpoint"
        self.vkey = directory / "log.vkey"
        self.recorder = None
        self.gates = {}
        self.proxies = {}
        self.lives = collections.Counter()
        self.installed = False
        """Start the installed commands, not the forks of an interpreter that is warm."""

    async def __aenter__(self):
        self._stack = AsyncExitStack()
        self._contexts = {}
        self.nursery = await self._stack.enter_async_context(Nursery())
        self.balancer = await self._stack.enter_async_context(Balancer())
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=40),
            )
        )
        await asyncio.to_thread(self._install)
        await self._arm()
        return self

    async def __aexit__(self, *_):
        name = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{self.mark}"
        try:
            await self.api("DELETE", name)
            for child in [self.recorder, *self.gates.values()]:
                if child is not None:
                    await child.kill()
        finally:
            await self._stack.aclose()

    # What the chart will install.

    def _install(self):
        plane, directory = self.plane, self.directory
        for name in (self.shop, self.trial, self.system, self.ci):
            plane.namespace(name)
        self.users = {
            "deployer": plane.service_account(self.ci, "deployer"),
            "laptop": plane.person(f"dana-{self.mark}@shop.example"),
            "gate": plane.service_account(self.system, "trailgate-webhook"),
            "recorder": plane.service_account(self.system, "trailgate-operator"),
        }
        for name in ("deployer", "laptop"):
            for where in (self.shop, self.trial):
                plane.bind(
                    self.users[name], "admin" if plane.audit_log is None else "chaos-edit", where
                )
        plane.apply(*self._rights(), *self._policies())
        for part in ("ledger", "elsewhere", "logs", "keys"):
            (directory / part).mkdir(parents=True)
        gate, recorder = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
        keys = directory / "keys"
        _write(keys / "gate.key", spoolkeys.private_pem(gate))
        _write(keys / "gate.pub", spoolkeys.public_pem(gate.public_key()))
        _write(keys / "recorder.key", spoolkeys.private_pem(recorder))
        _write(keys / "recorder.pub", spoolkeys.public_pem(recorder.public_key()))
        self.log = SigningKey.generate("chaos.example/trail")
        write_signing_key(keys / "log.key", self.log)
        write_verifier_key(self.vkey, self.log.verifier)
        sqlite.create(self.ledger, self.log)
        self._pair = plane.authority.server(f"gate-{self.mark}", ["127.0.0.1"])

    def move_ledger(self, path):
        """Begin with an empty ledger elsewhere."""
        self.ledger = path
        sqlite.create(path, self.log)

    def _rights(self):
        yield {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "chaos-edit"},
            "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]}],
        }

        def rule(group, resources, verbs, **more):
            return {"apiGroups": [group], "resources": resources, "verbs": verbs, **more}

        uid = rule("", ["namespaces"], ["get"], resourceNames=["kube-system"])
        reads = [
            uid,
            rule("trailgate.dev", ["deploypolicies"], ["get", "list", "watch"]),
            rule("", ["pods", "replicationcontrollers"], ["get"]),
            rule("apps", ["deployments", "statefulsets", "daemonsets", "replicasets"], ["get"]),
            rule("batch", ["jobs", "cronjobs"], ["get"]),
        ]
        spool = "trailgate.dev", ["admissions"]
        for account, cluster, own in (
            ("trailgate-webhook", reads, [rule(*spool, ["create"])]),
            ("trailgate-operator", [uid], [rule(*spool, ["get", "list", "watch", "delete"])]),
        ):
            for kind, rules, namespace in (
                ("ClusterRole", cluster, None),
                ("Role", own, self.system),
            ):
                metadata = {"name": f"{account}-{self.mark}"}
                if namespace:
                    metadata["namespace"] = namespace
                head = {"apiVersion": f"{RBAC}/v1", "metadata": metadata}
                yield {**head, "kind": kind, "rules": rules}
                yield {
                    **head,
                    "kind": f"{kind}Binding",
                    "subjects": [
                        {"kind": "ServiceAccount", "name": account, "namespace": self.system}
                    ],
                    "roleRef": {"apiGroup": RBAC, "kind": kind, "name": metadata["name"]},
                }

    def _policies(self):
        for name, namespace, mode in (
            (f"production-{self.mark}", self.shop, "Enforce"),
            (f"trial-{self.mark}", self.trial, "Audit"),
        ):
            yield {
                "apiVersion": "trailgate.dev/v1alpha1",
                "kind": "DeployPolicy",
                "metadata": {"name": name},
                "spec": {
                    "mode": mode,
                    "namespaces": [namespace],
                    "callers": {"serviceAccounts": [f"{self.ci}/deployer"]},
                    "rules": [
                        {
                            "images": [self.image.partition("@")[0]],
                            "signature": {
                                "signers": [{"name": "release", "key": self.release_pem}]
                            },
                        }
                    ],
                },
            }

    async def _arm(self):
        def entry(name, namespace, policy):
            return {
                "name": name,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "NoneOnDryRun",
                "timeoutSeconds": 10,
                "failurePolicy": policy,
                "clientConfig": {
                    "url": f"https://127.0.0.1:{self.balancer.port}/validate",
                    "caBundle": base64.b64encode(self.plane.authority.pem).decode(),
                },
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "resources": ["deployments"],
                        "operations": ["CREATE", "UPDATE"],
                    }
                ],
            }

        await self.api(
            "POST",
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": self.mark},
                "webhooks": [
                    entry("enforce.trailgate.dev", self.shop, "Fail"),
                    entry("audit.trailgate.dev", self.trial, "Ignore"),
                ],
            },
        )

    # The API server, as its users see it; never blocks the loop, which the proxies need.

    async def api(self, method, path, body=None, *, who=None, content_type="application/json"):
        """(status, decoded answer); raises ``aiohttp.ClientError`` where none came."""
        user = self.plane.admin if who is None else self.users[who]
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if user.token:
            headers["Authorization"] = f"Bearer {user.token}"
        async with self._session.request(
            method,
            self.plane.url + path,
            data=None if body is None else json.dumps(body),
            headers=headers,
            ssl=self._context(user),
        ) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text

    def _context(self, user):
        if user.name not in self._contexts:
            context = ssl.create_default_context(cafile=str(self.plane.authority.file))
            if user.certificate is not None:
                context.load_cert_chain(user.certificate, user.key)
            self._contexts[user.name] = context
        return self._contexts[user.name]

    @property
    def spool_path(self):
        return f"/apis/trailgate.dev/v1alpha1/namespaces/{self.system}/admissions"

    async def spooled(self):
        status, answer = await self.api("GET", self.spool_path)
        assert status == 200, answer
        return answer["items"]

    async def drained(self, seconds=40.0):
        async def empty():
            return not await self.spooled()

        assert await until(empty, seconds), self.recorder and self.recorder.text()[-3000:]

    # Processes.

    async def proxy(self, name):
        """A way to the API server of its own, for one process."""
        if name not in self.proxies:
            self.proxies[name] = await self._stack.enter_async_context(
                ApiProxy(self.plane.url, self.plane.authority, f"{name}-{self.mark}")
            )
        return self.proxies[name]

    async def _kubeconfig(self, name, user, through):
        if not through:
            return user.kubeconfig
        proxy = await self.proxy(name)
        path = self.directory / "keys" / f"{name}.kubeconfig"
        if not path.exists():
            kubeconfig.write(path, proxy.url, self.plane.authority.file, {"token": user.token})
        return path

    async def recorder_arguments(self, *, through=False, known=True, metrics=0, config=None):
        keys = self.directory / "keys"
        if config is None:
            config = await self._kubeconfig("recorder", self.users["recorder"], through)
        extra = ["--known-checkpoint", self.known] if known else []
        if metrics:
            extra += ["--health-listen", f"127.0.0.1:{metrics}"]
        return [
            "--kubeconfig", config, "--namespace", self.system,
            "--ledger", f"sqlite:{self.ledger}",
            "--log-key", keys / "log.key", "--recorder-key", keys / "recorder.key",
            "--gate-public-key", keys / "gate.pub", *extra,
        ]  # fmt: skip

    async def _start(self, program, arguments, name):
        self.lives[name] += 1
        log = self.directory / "logs" / f"{name}-{self.lives[name]}.log"
        if self.installed:
            return await Installed.start(program, arguments, log, name)
        return await self.nursery.start(program, arguments, log, name)

    async def start_recorder(self, **how):
        """Start the operator; it isn't waited for."""
        arguments = await self.recorder_arguments(**how)
        self.recorder = await self._start("operator", arguments, "operator")
        if "recorder" in self.proxies:
            self.proxies["recorder"].kill = lambda child=self.recorder: child.signal(9)
        return self.recorder

    async def start_gate(self, name="gate-a", *, through=False, wait=True):
        """Start a webhook behind the balancer."""
        port_file = self.directory / f"{name}.port"
        if not port_file.exists():
            port = free_port()
            port_file.write_text(str(port))
            self.balancer.targets.append(port)
        port = int(port_file.read_text())
        config = await self._kubeconfig(name, self.users["gate"], through)
        keys = self.directory / "keys"
        arguments = [
            "--kubeconfig", config, "--namespace", self.system, "--listen", f"127.0.0.1:{port}",
            "--tls-cert", self._pair.certificate, "--tls-key", self._pair.key,
            "--gate-key", keys / "gate.key", "--recorder-public-key", keys / "recorder.pub",
            "--allow-insecure-registry", self.image.partition("/")[0], "--drain-delay", "0",
        ]  # fmt: skip
        child = self.gates[name] = await self._start("webhook", arguments, name)
        if name in self.proxies:
            self.proxies[name].kill = lambda: child.signal(9)
        if wait:
            assert await until(lambda: self.gate_ready(name), 30), child.text()[-3000:]
        return child

    async def gate_ready(self, name):
        port = (self.directory / f"{name}.port").read_text()
        try:
            async with self._session.get(
                f"https://127.0.0.1:{port}/readyz", ssl=self._context(self.plane.admin)
            ) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def told(self, child, words, seconds=20.0):
        """Wait until a process has said something."""

        async def said():
            return words in child.text()

        assert await until(said, seconds), f"not said: {words}\n{child.text()[-3000:]}"

    async def metric(self, port, name):
        """One of the recorder's metrics, 0 where it isn't there yet."""
        async with self._session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                if line.startswith((f"{name} ", f"{name}{{")):
                    return float(line.rpartition(" ")[2])
        return 0.0

    # The ledger, as an auditor sees it.

    def records(self):
        with SqliteReader(self.ledger) as reader:
            return [json.loads(record) for record in reader.records()]

    def positions(self):
        with SqliteReader(self.ledger) as reader:
            return {
                name.removeprefix("spool/"): json.loads(content)["seq"]
                for name, content in reader.positions().items()
            }

    async def verify(self):
        """``trailgate ledger verify`` with what an auditor has: vkey, checkpoint kept outside."""
        done = await asyncio.to_thread(
            subprocess.run,
            [
                sys.executable, "-m", "trailgate.cli.main", "ledger", "verify",
                "--ledger", f"sqlite:{self.ledger}", "--vkey", self.vkey,
                "--checkpoint", self.known,
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def operator_requests(self):
        """What the operator asked of the API server, from its audit log: (verb, what)."""
        name = f"system:serviceaccount:{self.system}:trailgate-operator"
        asked = collections.Counter()
        for line in self.plane.audit_log.read_text().splitlines():
            if name not in line:
                continue
            event = json.loads(line)
            if event["user"]["username"] == name:
                reference = event.get("objectRef") or {}
                asked[event["verb"], reference.get("resource", "-")] += 1
        return asked
