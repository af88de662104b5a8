"""The real server in a process of its own, with an assessor that does what the test says.

    python tests/webhook/serving.py '{"certs": "DIR", "port_file": "FILE", "spool_dir": "DIR", ...}'

The object's label ``test`` chooses what the assessor does (see ``Scripted``).
"""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
for part in ("core", "kube", "webhook"):
    sys.path.insert(0, str(ROOT / part))

from trailgate.model.admission import AdmissionRequest  # noqa: E402
from trailgate.model.assessment import Assessment, ChangeClass  # noqa: E402
from trailgate.model.decision import Decision, Finding, Mode, PolicyReference  # noqa: E402
from trailgate.model.digest import Digest  # noqa: E402
from trailgate.model.reason import Reason  # noqa: E402
from trailgate_kube import logs  # noqa: E402
from trailgate_webhook.app import App  # noqa: E402
from trailgate_webhook.endpoint import Gate  # noqa: E402
from trailgate_webhook.health import Health  # noqa: E402
from trailgate_webhook.metrics import Metrics  # noqa: E402
from trailgate_webhook.process import Listeners, Process  # noqa: E402
from trailgate_webhook.server import listen  # noqa: E402
from trailgate_webhook.tls import ServingCertificate  # noqa: E402


def policy(mode):
    return PolicyReference("production", 1, Digest.of(b"policy"), mode)


def assessment(request, *findings, mode=Mode.ENFORCE, change_class=ChangeClass.ROOT, message=""):
    allowed = not any(finding.mode is Mode.ENFORCE for finding in findings)
    decision = Decision(allowed, tuple(findings), (), {}, (policy(mode),))
    return Assessment(
        request, change_class, decision, datetime.now(UTC), message, spec_digest=Digest.of(b"spec")
    )


def labels(request: AdmissionRequest):
    found = request.object or request.old_object or {}
    return found.get("metadata", {}).get("labels", {})


class Scripted:
    """Does what the object's label ``test`` says; without one, allows a root change."""

    async def assess(self, request, budget):
        what = labels(request).get("test", "")
        mode = Mode.AUDIT if request.namespace == "audited" else Mode.ENFORCE
        if what == "hang":
            await asyncio.Event().wait()
        if what == "slow":
            await asyncio.sleep(1)
        if what == "broken":
            raise RuntimeError(f"a bug that quotes {request.caller.username}")
        if what == "timeout-bug":
            raise TimeoutError("not ours")
        if what == "denied":
            finding = Finding(Reason.SIGNER_MISMATCH, "key a", "key b")
            return assessment(request, finding, message="trailgate: Deployment shop/web denied")
        if what == "unavailable":
            return assessment(request, Finding(Reason.EVIDENCE_UNAVAILABLE, "time-out", "answer"))
        change_class = ChangeClass.CHILD if what == "child" else ChangeClass.ROOT
        return assessment(request, mode=mode, change_class=change_class)


class NoSpool:
    """Keeps nothing: for tests that are not about evidence."""

    def __init__(self):
        self.metrics = None

    async def admitted(self, assessment, seconds):
        pass

    async def changed(self, change, seconds):
        pass

    def refused(self, assessment):
        pass

    def refused_undecided(self, request, reason, policies=()):
        pass

    def lost(self):
        self.metrics.lost.inc()

    def undecided(self):
        self.metrics.undecided.inc()


def enforcing(namespace):
    if namespace == "unknowable":
        raise RuntimeError("policies are gone")
    return namespace != "audited"


async def main(options):
    logs.configure(options.get("log_level", "info"))
    metrics = Metrics()
    certs = Path(options["certs"])
    spool = NoSpool()
    spool.metrics = metrics
    ready_at = time.monotonic() + options.get("policies_after", 0)
    gate = Gate(
        Scripted(),
        spool,
        enforcing,
        metrics,
        checkpoint=lambda: options.get("checkpoint"),
        unready=lambda: None if time.monotonic() >= ready_at else "not read from the cluster yet",
    )
    health = Health({"policies": lambda: options.get("policies_problem")}, {})
    client_ca = options.get("client_ca")
    process = Process(
        app=App(gate, health, metrics),
        health=health,
        metrics=metrics,
        certificate=ServingCertificate(
            certs / "tls.crt", certs / "tls.key", Path(client_ca) if client_ca else None
        ),
        listeners=Listeners(
            listen("127.0.0.1:0"), listen(options["health"]) if "health" in options else None
        ),
        drain_delay=options.get("drain_delay", 0),
        port_file=Path(options["port_file"]),
    )
    await process.run()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
