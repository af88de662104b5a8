"""Step g: nothing is lost, nothing comes twice, and nobody changes it unseen."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.controlplane.cluster import ApiError
from e2e.demo import manifests, tampering
from e2e.demo.pipeline import trailgate
from e2e.demo.stories import Release, apply
from e2e.demo.world import World

_MERGE = "application/merge-patch+json"
_DEPLOYMENTS = f"/apis/apps/v1/namespaces/{manifests.SHOP}/deployments"


def tampered(world: World, yesterday: Path) -> None:
    """g. Four ways to change the past, each found by one command."""
    narrator = world.narrator
    narrator.step("g", "Changing the past, crashing the present")
    world.wait_until_recorded()
    ledger, kept = tampering.snapshot(world.ledger, world.checkpoint, world.directory / "auditor")
    target = world.directory / "tampered.db"

    def verify(what: str, expected: str, ledger: Path, *, fails: bool = True) -> None:
        done = trailgate(
            "ledger", "verify", "--ledger", f"sqlite:{ledger}", "--vkey", world.vkey,
            "--checkpoint", kept, check=False,
        )  # fmt: skip
        narrator.tried("auditor", f"trailgate ledger verify --vkey … --checkpoint …   # {what}")
        narrator.answer(done.stdout + done.stderr)
        met = done.returncode == (1 if fails else 0) and expected in done.stdout
        narrator.expect(
            f"{what}: verify {'fails and says where' if fails else 'says ok'}",
            f"exit {int(fails)}, '{expected}'", f"exit {done.returncode}", met=met,
        )  # fmt: skip

    verify("the ledger as it is", "ok", ledger, fails=False)
    first = world.rows("--kind", "admitted")[0]["index"]
    tampering.flip_byte(tampering.copy(ledger, target), first)
    verify("one flipped bit", f"{first}", target)
    verify("yesterday's database put back", "missing", tampering.put_back(yesterday, target))
    last = tampering.drop_last(tampering.copy(ledger, target))
    verify("the last entry dropped", f"{last}", target)
    log_key = world.directory / "keys" / "log.key"
    tampering.sign_again(ledger, target, log_key, first)
    verify("the history signed again with the stolen log key", "FAILED", target)


def stopped_recorder(world: World, shipped: Release) -> None:
    """Twenty changes while the recorder is down are twenty entries once it is up."""
    narrator, before = world.narrator, _admitted(world)
    assert world.recorder is not None
    world.recorder.stop()
    narrator.say("The recorder is stopped. The pipeline makes 20 changes.")
    went = 0
    for number in range(20):
        document = manifests.deployment(shipped.image, env={"CURRENCY": f"T{number:02}"})
        went += apply(world, "deployer", [document])[0]
    narrator.expect(
        "20 changes are admitted with the recorder stopped", "20", str(went), met=went == 20
    )
    waiting = world.spooled()
    narrator.expect(
        "they wait in the cluster, not in the ledger", "Admissions waiting", f"{waiting} waiting",
        met=waiting > 0 and _admitted(world) == before,
    )  # fmt: skip
    world.start_recorder()
    world.wait_until_recorded()
    entries = _admitted(world) - before
    narrator.expect("when it starts, they are 20 entries", "20", str(entries), met=entries == 20)


@dataclass
class Stream:
    """A steady stream of changes by the pipeline, and what the API server said to each."""

    world: World
    accepted: list[tuple[str, int]] = field(default_factory=list)
    """(uid, generation) of every change that was answered with a 2xx."""
    failed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Change one environment variable after the other until stopped."""
        number = 0
        while not self._stop.is_set():
            number += 1
            env = [{"name": "CURRENCY", "value": f"S{number:05}"}]
            container: dict[str, Any] = {"name": "web", "env": env}
            body = {"spec": {"template": {"spec": {"containers": [container]}}}}
            try:
                answer = self.world.cluster.api(
                    "PATCH", f"{_DEPLOYMENTS}/web", body, user=self.world.users["deployer"],
                    content_type="application/strategic-merge-patch+json",
                )  # fmt: skip
                metadata = answer["metadata"]
                self.accepted.append((metadata["uid"], metadata["generation"]))
            except (ApiError, OSError):
                self.failed += 1

    def stop(self) -> None:
        """End it."""
        self._stop.set()


def killed(world: World) -> None:
    """Five kill -9 at random moments under a stream of changes."""
    narrator, dice = world.narrator, random.Random()
    stream = Stream(world)
    thread = threading.Thread(target=stream.run)
    thread.start()
    try:
        for _ in range(5):
            time.sleep(dice.uniform(0.5, 1.5))  # a random moment is the point
            victim = dice.choice(["gate", "recorder"])
            narrator.tried("demo", f"kill -9 {victim}")
            if victim == "gate":
                assert world.gate is not None
                world.gate.kill()
                world.start_gate()
            else:
                assert world.recorder is not None
                world.recorder.kill()
                world.start_recorder()
        time.sleep(1)
    finally:
        stream.stop()
        thread.join()
    world.wait_until_recorded()
    rows = world.rows("--kind", "admitted", "--workload", "Deployment/web")
    claims = world.claims("Deployment/web")
    changes = {claim["changeId"] for claim in claims}
    narrator.say(
        f"{len(stream.accepted)} changes were accepted, {stream.failed} attempts were not (while "
        f"the gate was down, nothing gets in). The ledger has {len(claims)} claims of "
        f"{len(changes)} changes: the API server asks again when a write conflicts, and a gate "
        "may be killed after it wrote and before it answered."
    )
    recorded = {(c["object"]["uid"], c["object"]["generation"]) for c in claims}
    missing = set(stream.accepted) - recorded
    narrator.expect(
        "every accepted change is recorded", f"{len(stream.accepted)} recorded",
        f"{len(missing)} missing", met=not missing and bool(stream.accepted),
    )  # fmt: skip
    narrator.expect(
        "and listed once, however often it was claimed", f"{len(changes)} rows",
        f"{len(rows)} rows", met=len(rows) == len(changes),
    )  # fmt: skip
    verified = trailgate(
        "ledger", "verify", "--ledger", f"sqlite:{world.ledger}", "--vkey", world.vkey,
        "--checkpoint", world.checkpoint, check=False,
    )  # fmt: skip
    narrator.answer(verified.stdout + verified.stderr)
    narrator.expect(
        "the ledger still verifies", "ok", f"exit {verified.returncode}",
        met=verified.returncode == 0,
    )  # fmt: skip
    _gaps(world)


def _gaps(world: World) -> None:
    narrator = world.narrator
    causes = [gap["cause"] for gap in world.records("gap")]
    away = causes.count("observer-down")
    narrator.expect(
        "nothing that was admitted is missing from it", "no gap but observer-down",
        ", ".join(sorted(set(causes))) or "no gap", met=away == len(causes),
    )  # fmt: skip
    narrator.expect(
        "and it says when nobody watched the cluster",
        "observer-down",
        f"{away} times",
        met=away > 0,
    )


def _admitted(world: World) -> int:
    return len(world.rows("--kind", "admitted"))
