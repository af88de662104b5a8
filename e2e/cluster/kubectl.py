"""The real kubectl, as the administrator of one cluster and of no other."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError, KubectlError


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with one kubeconfig; the environment's own is never looked at."""

    program: Path
    kubeconfig: Path
    cache: Path | None = None
    """For what it remembers of the API; None: where it always does."""

    def __call__(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; with ``check`` another status than 0 raises ``KubectlError``."""
        cache = [] if self.cache is None else [f"--cache-dir={self.cache}"]
        words = " ".join(map(str, ("kubectl", *arguments)))
        try:
            done = subprocess.run(
                [self.program, "--kubeconfig", self.kubeconfig, *cache, *arguments],
                input=input or "",
                capture_output=True,
                text=True,
                timeout=seconds,
                env={k: v for k, v in os.environ.items() if k != "KUBECONFIG"},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{words}: no end after {seconds:g} s") from error
        if check and done.returncode != 0:
            raise KubectlError(words, done.returncode, done.stderr)
        return done
