# ruff: noqa: T201, PLR0917
"""The gate under load: the real process, a real registry, signed images, real reviews.

    python tests/bench/webhook.py [--rounds 3] [--seconds 4] [--images 300]

One image per request, signed by a key (Sigstore bundle, found by the referrers API);
the policy asks for that signature and for a listed caller. Beside it, in the same run
and alternating with it, an allow-all handler on the same server that does nothing but
decode and answer. Medians and ranges; the load generator shares the machine's cores.

- warm child: a ReplicaSet's pod, again and again: what a cluster sends most
- warm dry run: a Deployment that is decided as a root change, and not recorded
- cold: images never seen before, each once (dry run)
- root: a Deployment that is recorded: one durable file of the spool per batch, before the answer
"""

import argparse
import asyncio
import contextlib
import copy
import json
import statistics
import sys
import tempfile
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
for place in (HERE, ROOT, ROOT / "core", ROOT / "kube", ROOT / "webhook"):
    sys.path.insert(0, str(place))

import webhook_process as bench  # noqa: E402

from e2e.controlplane.registry import RegistryProcess  # noqa: E402
from tests.webhook.conftest import review  # noqa: E402
from tests.webhook.world import World, policy  # noqa: E402
from trailgate.evidence import keys, sign  # noqa: E402
from trailgate.model.evidence import EvidenceFormat  # noqa: E402
from trailgate.model.image import ImageReference  # noqa: E402
from trailgate.oci.client import RegistryClient  # noqa: E402
from trailgate.oci.guard import Guard  # noqa: E402

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


async def push_signed(client, repository, number, key):
    """Push an image without layers and sign it; returns its reference by digest."""
    image = ImageReference.parse(f"{repository}:n{number}")
    config = json.dumps({"architecture": "amd64", "os": "linux", "number": number}).encode()
    digest = await client.push_blob(image, config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": str(digest), "size": len(config)},
        "layers": [],
    }
    pushed = await client.push_manifest(image, json.dumps(manifest).encode(), MANIFEST)
    image = image.with_digest(pushed.digest)
    signed = sign.signature(image, key, EvidenceFormat.BUNDLE)
    await client.attach(image, signed.content, signed.predicate_type)
    return str(image)


async def publish(address, count, key):
    guard = Guard(named=lambda: (address,), insecure=frozenset({address}))
    slots = asyncio.Semaphore(8)
    async with RegistryClient(guard) as client:

        async def one(number):
            async with slots:
                return await push_signed(client, f"{address}/acme/web", number, key)

        return await asyncio.gather(*(one(number) for number in range(count)))


def with_image(document, image, **metadata):
    document = copy.deepcopy(document)
    request = document["request"]
    request["uid"] = str(uuid.uuid4())
    request["object"]["metadata"] |= metadata
    spec = request["object"]["spec"]
    spec = spec.get("template", {}).get("spec", spec)
    for container in spec["containers"] + spec.get("initContainers", []):
        container["image"] = image
    return document


def lines(path, documents):
    encoded = (json.dumps(document, separators=(",", ":")).encode() for document in documents)
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


class Bodies:
    """The requests of each kind of load, in files."""

    def __init__(self, root, images):
        deployment = review("create-deployment")
        dry = review("create-deployment-dry-run")
        self.warm, self.cold = images[0], images[1:]
        self.root = root
        self.deployment = deployment
        self.owners = lines(
            root / "owners",
            [
                with_image(deployment, self.warm),
                with_image(review("create-replicaset-child"), self.warm),
            ],
        )
        self.child = lines(root / "child", [with_image(review("create-pod-child"), self.warm)])
        self.dry_run = lines(root / "dry-run", [with_image(dry, self.warm)])
        self.dry = dry

    def cold_slice(self, start, count):
        images = self.cold[start : start + count]
        return lines(self.root / f"cold-{start}", [with_image(self.dry, one) for one in images])

    def roots(self, count):
        """Deployments that are each an object of their own."""
        return lines(
            self.root / "roots",
            [with_image(self.deployment, self.warm, uid=str(uuid.uuid4())) for _ in range(count)],
        )


@contextlib.contextmanager
def gate(world, registry):
    port_file = world.root / "port"
    port_file.unlink(missing_ok=True)
    port = bench.free_port()
    arguments = world.options(
        listen=f"127.0.0.1:{port}", allow_insecure_registry=registry, log_level="warning"
    )
    with bench.process(arguments, port) as running:
        yield running.pid, port


@contextlib.contextmanager
def allow_all(certs):
    port = bench.free_port()
    arguments = [
        sys.executable, str(HERE / "server.py"), "--serve", "uvicorn",
        "--port", str(port), "--certs", str(certs),
    ]  # fmt: skip
    with bench.process(arguments, port) as running:
        yield running.pid, port


def demand_allowed(name, sample):
    if sample.allowed != sample.requests:
        raise SystemExit(
            f"{name}: {sample.requests - sample.allowed} of {sample.requests} not allowed"
        )
    return sample


def measure(server, world, bodies, connections, seconds, **more):
    pid, port = server
    return bench.measure(pid, port, world.certs / "ca.crt", bodies, connections, seconds, **more)


def gate_round(world, registry, bodies, seconds, cold, samples):
    """One life of the gate: cold first, then warm, then what is recorded."""
    with gate(world, registry) as server:
        half = len(cold) // 2
        for name, part, connections in (
            ("cold, 1 caller", cold[:half], 1),
            ("cold, 16 callers", cold[half:], 16),
        ):
            path = bodies.cold_slice(part.start, len(part))
            take(samples, name, measure(server, world, path, connections, 60, once=True))
        demand_allowed("owners", measure(server, world, bodies.owners, 1, 5, once=True))
        measure(server, world, bodies.child, 16, 1)
        for name, path in (("warm child", bodies.child), ("warm dry run", bodies.dry_run)):
            for connections in (1, 16, 64):
                plural = "caller" if connections == 1 else "callers"
                sample = measure(server, world, path, connections, seconds)
                take(samples, f"{name}, {connections} {plural}", sample)
        for connections in (1, 16):
            for path in world.spool.glob("*.json"):
                path.unlink()
            count = 300 * connections
            sample = measure(server, world, bodies.roots(count), connections, 60, once=True)
            plural = "caller" if connections == 1 else "callers"
            take(samples, f"root, recorded, {connections} {plural}", sample)
        samples["memory"].append(bench.resident_mib(server[0]))


def allow_all_round(world, bodies, seconds, samples):
    with allow_all(world.certs) as server:
        measure(server, world, bodies.child, 16, 1)
        for connections in (1, 16, 64):
            sample = measure(server, world, bodies.child, connections, seconds)
            plural = "caller" if connections == 1 else "callers"
            take(samples, f"allow-all handler, {connections} {plural}", sample)


def take(samples, name, sample):
    samples.setdefault(name, []).append(demand_allowed(name, sample))


def spread(values, digits):
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def report(samples):
    memory = samples.pop("memory")
    rows = [
        (
            name,
            spread([run.per_second for run in runs], 0),
            spread([run.p50 for run in runs], 2),
            spread([run.p99 for run in runs], 2),
            spread([run.cpu for run in runs], 3),
        )
        for name, runs in samples.items()
    ]
    bench.table(("load", "requests/s", "p50 ms", "p99 ms", "gate's CPU s per 1,000"), rows)
    print(f"\nresident memory of the gate after a round: {spread(memory, 0)} MiB")
    warm = statistics.median(run.cpu for run in samples["warm child, 16 callers"])
    print(f"bar: warm CPU at most 0.25 s per 1,000; got {warm:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--images", type=int, default=300, help="cold images in each round")
    options = parser.parse_args()
    samples = {"memory": []}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "world").mkdir()
        (root / "registry").mkdir()
        (root / "bodies").mkdir()
        world = World(root / "world")
        key = keys.generate()
        with RegistryProcess.start(root / "registry", referrers=True) as registry:
            images = asyncio.run(
                publish(registry.address, options.images * options.rounds + 1, key)
            )
            world.set_policy(
                policy(
                    namespace="shop", image=f"{registry.address}/acme/*",
                    pem=keys.public_pem(key.public).decode(),
                )
            )  # fmt: skip
            bodies = Bodies(root / "bodies", images)
            for number in range(options.rounds):
                cold = range(number * options.images, (number + 1) * options.images)
                if number % 2:
                    gate_round(world, registry.address, bodies, options.seconds, cold, samples)
                    allow_all_round(world, bodies, options.seconds, samples)
                else:
                    allow_all_round(world, bodies, options.seconds, samples)
                    gate_round(world, registry.address, bodies, options.seconds, cold, samples)
        report(samples)


if __name__ == "__main__":
    main()
