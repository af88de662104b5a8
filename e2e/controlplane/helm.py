"""The real Helm, of either major version, with a home of its own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.binaries import ensure
from e2e.controlplane.errors import ControlPlaneError

CHART = Path(__file__).parents[2] / "charts" / "trailgate"
MAJORS = ("helm3", "helm4")
_SECONDS = 50


@dataclass(frozen=True, slots=True)
class Helm:
    """One major version of Helm."""

    name: str
    program: Path
    home: Path

    @classmethod
    def get(cls, name: str, home: Path) -> Helm:
        """Find or build it (``name`` is one of ``MAJORS``); raises ``ControlPlaneError``."""
        home.mkdir(parents=True, exist_ok=True)
        return cls(name, ensure([name])[name], home)

    def run(
        self,
        *arguments: str | Path,
        kubeconfig: Path | None = None,
        stdin: str = "",
        check: bool = True,
        seconds: float = _SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run it; without ``kubeconfig`` it knows no cluster. With ``check`` a failure raises."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HELM_", "KUBE"))}
        places = {
            f"HELM_{part.upper()}_HOME": str(self.home / part)
            for part in ("cache", "config", "data")
        }
        done = subprocess.run(
            [str(self.program), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**inherited, **places, "KUBECONFIG": str(kubeconfig or self.home / "none")},
            check=False,
        )
        if check and done.returncode != 0:
            raise ControlPlaneError(
                f"{self.name} {' '.join(map(str, arguments))}: status {done.returncode}\n"
                f"{done.stderr.strip()}"
            )
        return done
