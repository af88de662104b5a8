"""One control plane for several processes: served by one, attached to by the others."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from e2e.controlplane.cluster import Cluster
from e2e.controlplane.errors import StartError
from e2e.controlplane.kubeconfig import User
from e2e.controlplane.pki import Authority, Pair
from e2e.controlplane.process import supervised, tail
from e2e.controlplane.start import ControlPlane

_STATE = "state.json"
_START_SECONDS = 120.0
_ROOT = Path(__file__).parents[2]


def publish(plane: ControlPlane) -> Path:
    """Write down where the control plane is, for ``attach``; returns the file."""
    state = {
        "url": plane.url,
        "kubectl": str(plane.kubectl_program),
        "audit_log": str(plane.audit_log) if plane.audit_log else None,
    }
    target = plane.directory / _STATE
    partial = target.with_suffix(".new")
    partial.write_text(json.dumps(state))
    partial.replace(target)
    return target


def attach(directory: Path) -> Cluster:
    """Use a control plane that another process serves from ``directory``."""
    state = json.loads((directory / _STATE).read_text())
    pki = directory / "pki"
    pair = Pair(pki / "admin.crt", pki / "admin.key")
    admin = User("admin", directory / "admin.kubeconfig", pair.certificate, pair.key)
    audit = state["audit_log"]
    return Cluster(
        directory,
        state["url"],
        Authority(pki),
        admin,
        Path(state["kubectl"]),
        Path(audit) if audit else None,
    )


def attach_or_serve(directory: Path, owner: int, *, controllers: bool) -> Cluster:
    """Attach to the one in ``directory``; the first to come starts it.

    It lives as long as process ``owner``. Raises ``StartError``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (directory / _STATE).exists():
            _serve(directory, owner, controllers=controllers)
    return attach(directory)


def _serve(directory: Path, owner: int, *, controllers: bool) -> None:
    command = [sys.executable, "-m", "e2e.controlplane", "up", "--directory", str(directory)]
    command += ["--unsafe-no-fsync", *(["--controllers"] if controllers else [])]
    log = directory / "serve.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            supervised(command, owner),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sink,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
    deadline = time.monotonic() + _START_SECONDS
    while not (directory / _STATE).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise StartError(f"the shared control plane did not come up\n{tail(log, 40)}")
        time.sleep(0.05)
    # It is the owner's from here on; without this Python would warn that it still runs.
    process.returncode = 0
