"""The real cosign, with the flags that keep it off the network."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.binaries import ensure
from e2e.controlplane.errors import ControlPlaneError

_SECONDS = 50
_OFFLINE_WRITE = ("--use-signing-config=false", "--tlog-upload=false", "--yes")
_OFFLINE_READ = ("--insecure-ignore-tlog=true",)
_PLAIN_HTTP = ("--allow-insecure-registry", "--allow-http-registry")


@dataclass(frozen=True, slots=True)
class Cosign:
    """cosign 3 with a home of its own."""

    program: Path
    home: Path

    @classmethod
    def get(cls, home: Path) -> Cosign:
        """Find or build it; raises ``ControlPlaneError``."""
        home.mkdir(parents=True, exist_ok=True)
        return cls(ensure(["cosign"])["cosign"], home)

    def run(
        self, *arguments: str | Path, password: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it with exactly these arguments; with ``check`` a failure raises."""
        done = subprocess.run(
            [str(self.program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home), "COSIGN_PASSWORD": password},
            check=False,
        )
        if check and done.returncode != 0:
            raise ControlPlaneError(
                f"cosign {' '.join(map(str, arguments))}: status {done.returncode}\n"
                f"{done.stderr.strip()}"
            )
        return done

    def generate_key_pair(self, prefix: Path, password: str = "") -> tuple[Path, Path]:
        """Make ``PREFIX.key`` and ``PREFIX.pub``; returns both."""
        self.run("generate-key-pair", "--output-key-prefix", prefix, password=password)
        return prefix.with_name(prefix.name + ".key"), prefix.with_name(prefix.name + ".pub")

    def sign(self, image: str, key: Path, *, legacy: bool = False, password: str = "") -> None:
        """Sign an image: a bundle by referrer, or with ``legacy`` a ``.sig`` tag."""
        old = ["--new-bundle-format=false"] if legacy else []
        arguments = [*_OFFLINE_WRITE, *_PLAIN_HTTP, *old, image]
        self.run("sign", "--key", key, *arguments, password=password)

    def attest(
        self,
        image: str,
        key: Path,
        predicate: Path,
        predicate_type: str,
        *,
        legacy: bool = False,
        password: str = "",
    ) -> None:
        """Attest a predicate: a bundle by referrer, or with ``legacy`` an ``.att`` tag."""
        old = ["--new-bundle-format=false"] if legacy else []
        what: list[str | Path] = ["--key", key, "--predicate", predicate, "--type", predicate_type]
        self.run("attest", *what, *_OFFLINE_WRITE, *_PLAIN_HTTP, *old, image, password=password)

    def verify(
        self, image: str, key: Path, *, legacy: bool = False, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Verify an image's signatures."""
        old = ["--new-bundle-format=false"] if legacy else []
        arguments = [*_OFFLINE_READ, *_PLAIN_HTTP, *old, image]
        return self.run("verify", "--key", key, *arguments, check=check)

    def verify_attestation(
        self,
        image: str,
        key: Path,
        predicate_type: str,
        *,
        legacy: bool = False,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Verify an image's attestations of one type."""
        old = ["--new-bundle-format=false"] if legacy else []
        arguments = ["--type", predicate_type, *_OFFLINE_READ, *_PLAIN_HTTP, *old, image]
        return self.run("verify-attestation", "--key", key, *arguments, check=check)
