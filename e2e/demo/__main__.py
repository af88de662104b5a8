"""Play Trailgate's job on a real API server: ``make demo``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from e2e.controlplane.errors import ControlPlaneError
from e2e.demo import stories, world
from e2e.demo.narrate import Narrator


def main() -> int:
    """Run every step; 0 only where every expectation is met."""
    keep = bool(os.environ.get("KEEP"))
    directory = Path(tempfile.mkdtemp(prefix="trailgate-demo-"))
    narrator = Narrator()
    narrator.say("Trailgate's demo. Everything runs on this machine's loopback, and is real.")
    try:
        with world.build(directory, narrator) as stage:
            _play(stage)
    except ControlPlaneError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    return 0 if narrator.all_met else 1


def _play(stage: world.World) -> None:
    stories.laptop_unsigned(stage)
    shipped = stories.pipeline_release(stage)
    stories.laptop_signed(stage, shipped)
    stories.bad_evidence(stage)
    stories.around(stage, shipped)
    stories.configuration_only(stage, shipped)
    stage.narrator.table()


if __name__ == "__main__":
    sys.exit(main())
