"""Play Trailgate's job on a real API server: ``make demo``."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from e2e.controlplane.errors import ControlPlaneError
from e2e.demo import arming, keepsake, proof, stories, tampering, world
from e2e.demo.narrate import Narrator


def main() -> int:
    """Run every step; 0 only where every expectation is met."""
    keep = bool(os.environ.get("KEEP"))
    directory = Path(tempfile.mkdtemp(prefix="trailgate-demo-"))
    narrator = Narrator()
    narrator.say(
        "Trailgate's demo. Everything runs on this machine's loopback, and is real. The first run "
        "may build Kubernetes from source for ten minutes or more; it is kept for the next."
    )
    try:
        with world.build(directory, narrator) as stage:
            _play(stage)
            if keep:
                _wait(stage)
    except ControlPlaneError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # there are private keys in it
    return 0 if narrator.all_met else 1


def _play(stage: world.World) -> None:
    arming.installed(stage)
    stories.laptop_unsigned(stage)
    shipped = stories.pipeline_release(stage)
    stage.wait_until_recorded()
    yesterday = tampering.copy(stage.ledger, stage.directory / "yesterday.db")
    stories.laptop_signed(stage, shipped)
    stories.bad_evidence(stage)
    stories.around(stage, shipped)
    stories.configuration_only(stage, shipped)
    stories.ledger_answers(stage, shipped)
    proof.tampered(stage, yesterday)
    proof.stopped_recorder(stage, shipped)
    proof.killed(stage)
    arming.removed(stage, shipped.image)
    out = keepsake.write(stage)
    stage.narrator.table()
    print(f"\n   {out}/ holds the ledger, its proofs, and how to verify them (README.md).")


def _wait(stage: world.World) -> None:
    """Leave everything running, and say how to reach it, until Ctrl-C."""
    print(
        f"""
   Everything is still running (KEEP=1). Ctrl-C ends it.
     export KUBECONFIG={stage.cluster.admin.kubeconfig}
     {stage.cluster.kubectl_program} get deploypolicies,deployments,admissions,disarms -A
     users:   {stage.directory}/cluster/users/
     ledger:  .venv/bin/trailgate ledger list --ledger sqlite:{stage.ledger}
     logs:    {stage.directory}/logs/
     gate:    https://127.0.0.1:{stage.gate_port}/metrics
     registry: http://{stage.registry.address}/v2/_catalog""",
        flush=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
