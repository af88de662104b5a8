"""Where the real programs come from.

In this order: ``$KUBEBUILDER_ASSETS``, the cache, setup-envtest's assets (where that
tool is on PATH and its download answers in time), and a build from the Go modules in
``go/``. Nothing here needs Docker or a container registry, and a module proxy is
enough to build.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane import cache, gotool
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run, to_stderr

_MODULES = Path(__file__).with_name("go")
_BUILD_SECONDS = 45 * 60.0
_ENVTEST_SECONDS = 90.0
_MINOR = "1.37"
_KUBERNETES = f"{_MINOR}.2"
# Without these the server reports v0.0.0, and version checks against it fail.
_KUBERNETES_FLAGS = (
    f"-X k8s.io/component-base/version.gitVersion=v{_KUBERNETES}"
    " -X k8s.io/component-base/version.gitMajor=1"
    f" -X k8s.io/component-base/version.gitMinor={_MINOR.partition('.')[2]}"
)
_HELM3, _HELM4 = "helm.sh/helm/v3", "helm.sh/helm/v4"
# Without these Helm 3 renders (without a cluster) for Kubernetes 1.20. Helm 4 knows by itself.
_HELM3_FLAGS = " ".join(
    f"-X {_HELM3}/pkg/{package}.k8sVersion{part}"
    for package in ("chartutil", "lint/rules")
    for part in ("Major=1", f"Minor={_MINOR.partition('.')[2]}")
)


@dataclass(frozen=True, slots=True)
class Program:
    """One program: which Go module builds it, and which of its packages."""

    name: str
    module: str
    package: str
    version_of: str
    """The module whose version in go.mod is the program's; empty: our own."""
    flags: str = ""
    envtest: bool = False
    """Whether KUBEBUILDER_ASSETS and setup-envtest may have it."""


_KUBE = "k8s.io/kubernetes"
PROGRAMS = {
    program.name: program
    for program in (
        Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3",
                envtest=True),
        Program("kube-apiserver", "kubernetes", f"{_KUBE}/cmd/kube-apiserver", _KUBE,
                _KUBERNETES_FLAGS, envtest=True),
        Program("kubectl", "kubernetes", f"{_KUBE}/cmd/kubectl", _KUBE,
                _KUBERNETES_FLAGS, envtest=True),
        Program("kube-controller-manager", "kubernetes", f"{_KUBE}/cmd/kube-controller-manager",
                _KUBE, _KUBERNETES_FLAGS, envtest=True),
        Program("kube-scheduler", "node", f"{_KUBE}/cmd/kube-scheduler", _KUBE, _KUBERNETES_FLAGS),
        Program("kubelet", "node", f"{_KUBE}/cmd/kubelet", _KUBE, _KUBERNETES_FLAGS),
        Program("kube-proxy", "node", f"{_KUBE}/cmd/kube-proxy", _KUBE, _KUBERNETES_FLAGS),
        Program("podling", "podling", ".", ""),
        Program("registry", "registry", ".", "github.com/google/go-containerregistry"),
        Program("cosign", "cosign", "github.com/sigstore/cosign/v3/cmd/cosign",
                "github.com/sigstore/cosign/v3"),
        Program("helm3", "helm3", f"{_HELM3}/cmd/helm", _HELM3, _HELM3_FLAGS),
        Program("helm4", "helm4", f"{_HELM4}/cmd/helm", _HELM4),
    )
}  # fmt: skip

CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")

_found: dict[str, Path] = {}
_failed: dict[str, ControlPlaneError] = {}
"""What can't be had is not tried again in this process: each try may take minutes."""
_found_lock = threading.Lock()


def ensure(names: Iterable[str], say: cache.Say = to_stderr) -> dict[str, Path]:
    """Return the path of each program, building what is nowhere to be found.

    Raises ``ControlPlaneError`` (with what to do) where one cannot be had.
    """
    with _found_lock:
        return {name: _ensure(PROGRAMS[name], say) for name in names}


def _ensure(program: Program, say: cache.Say) -> Path:
    remembered = _found.get(program.name)
    if remembered is not None and remembered.exists():
        return remembered
    if program.name in _failed:
        raise _failed[program.name]
    path = _assets(program) or cache.lookup(_key(program), program.name)
    if path is None:
        try:
            path = _make(program, say)
        except ControlPlaneError as error:
            _failed[program.name] = error
            raise
    _found[program.name] = path
    return path


def _make(program: Program, say: cache.Say) -> Path:
    with cache.lock(say):
        return (
            cache.lookup(_key(program), program.name)
            or _envtest(program, say)
            or _build(program, say)
        )


def version(program: Program) -> str:
    """Return the version that the module's go.mod pins."""
    if not program.version_of:
        return "0"
    text = (_MODULES / program.module / "go.mod").read_text()
    found = re.search(
        rf"^\s*(?:require )?{re.escape(program.version_of)} v(\S+)", text, re.MULTILINE
    )
    if not found:
        raise ControlPlaneError(f"go/{program.module}/go.mod does not require {program.version_of}")
    return found[1]


def _key(program: Program) -> str:
    """Everything that makes the program what it is, as a directory's name."""
    module = _MODULES / program.module
    digest = hashlib.sha256(f"{program.package}\0{program.flags}".encode())
    for name in ("go.mod", "go.sum", "main.go"):
        if (module / name).exists():
            digest.update(f"\0{name}\0".encode() + (module / name).read_bytes())
    machine = platform.machine()
    return f"{program.name}-{version(program)}-{machine}-{digest.hexdigest()[:12]}"


def _assets(program: Program) -> Path | None:
    directory = os.environ.get("KUBEBUILDER_ASSETS")
    if not directory or not program.envtest:
        return None
    path = Path(directory) / program.name
    return path.absolute() if os.access(path, os.X_OK) else None


def _envtest(program: Program, say: cache.Say) -> Path | None:
    """Ask setup-envtest, if it is there; what it downloaded is copied into the cache."""
    tool = shutil.which("setup-envtest")
    if tool is None or program.name not in CONTROL_PLANE:
        return None
    say(f"asking setup-envtest for Kubernetes {_MINOR} (at most {_ENVTEST_SECONDS:.0f} s) …")
    command = [tool, "use", f"{_MINOR}.x", "-p", "path"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_ENVTEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say("setup-envtest did not answer in time")
        return None
    directory = done.stdout.strip().splitlines()[-1:]
    path = Path(directory[0]) / program.name if directory else None
    if done.returncode != 0 or path is None or not os.access(path, os.X_OK):
        say(f"setup-envtest has no {program.name}: {done.stderr.strip()[-300:]}")
        return None
    return cache.store(_key(program), program.name, path)


def _build(program: Program, say: cache.Say) -> Path:
    go = gotool.find(say)
    with cache.scratch() as work:
        target = work / program.name
        command = [
            str(go), "build", "-p", "2", "-trimpath", "-mod=readonly",
            "-ldflags", f"-s -w {program.flags}".strip(),
            "-o", str(target), program.package,
        ]  # fmt: skip
        try:
            run(
                f"building {program.name} {version(program)}",
                command,
                say,
                _BUILD_SECONDS,
                env=gotool.environment(),
                cwd=_MODULES / program.module,
            )
        except ControlPlaneError as error:
            raise ControlPlaneError(
                f"{error}\n{program.name} is built from Go modules, which needs a module proxy "
                "(see `go env GOPROXY`)"
                + ("; or set KUBEBUILDER_ASSETS." if program.envtest else ".")
            ) from error
        return cache.store(_key(program), program.name, target)
