"""The local cluster as its users see it, from outside of the node's namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import image
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.local import cgroups, guard, mounts, needs, slots
from e2e.cluster.local.state import CONTROL, State
from e2e.cluster.registry import Login
from e2e.controlplane.process import tail

_ROOT = Path(__file__).parents[3]
_UP_SECONDS = 240.0
_DOWN_SECONDS = 90.0
_ORDER_SECONDS = 300.0
_LONGEST_SOCKET = 107


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A cluster that is up in ``directory``."""

    directory: Path
    state: State
    provider = "local"

    @classmethod
    def attach(cls, directory: Path) -> LocalCluster:
        """Return the one that is up there; raises ``ClusterError`` where none is."""
        state = State.read(directory)
        if state is None or guard.holder(directory) is None:
            raise ClusterError(f"no cluster is up in {directory}")
        return cls(directory, state)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return Path(self.state.kubeconfig)

    @property
    def registry_address(self) -> str:
        """HOST:PORT on the node's address: the same from here and from pods."""
        return self.state.registry

    @property
    def registry_credentials(self) -> Login:
        """What the registry asks for."""
        return Login(self.state.user, self.state.password)

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        kubectl = Kubectl(
            Path(self.state.kubectl), self.kubeconfig, self.directory / "kubectl-cache"
        )
        return kubectl(*arguments, input=input, check=check, seconds=seconds)

    def load(self, archive: Path) -> None:
        """Put an archive's images into the node."""
        image.check_named(archive)
        # The node has a /run and a /var of its own: it sees its own directory for sure.
        with tempfile.NamedTemporaryFile(dir=self.directory, suffix=".tar") as copy:
            shutil.copyfile(archive, copy.name)
            self._order("load", archive=copy.name)

    def restart_api_server(self) -> None:
        """End it, start it again."""
        self._order("restart-api-server")

    def stop_node(self, *, cut_power: bool = False) -> None:
        """Stop kubelet and containerd; or kill both, and every container."""
        self._order("cut-power" if cut_power else "stop-node")

    def start_node(self) -> None:
        """Start them again."""
        self._order("start-node")

    def stop_registry(self) -> None:
        """Take it off the network."""
        self._order("stop-registry")

    def start_registry(self) -> None:
        """Put it back."""
        self._order("start-registry")

    def _order(self, what: str, **details: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ORDER_SECONDS)
            try:
                connection.connect(str(self.directory / CONTROL))
                with connection.makefile("rw") as lines:
                    lines.write(json.dumps({"do": what, **details}) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline() or "{}")
            except OSError as error:
                raise ClusterError(f"{what}: the cluster does not answer: {error}") from error
        if "said" not in answer:
            raise ClusterError(f"{what}: {answer.get('error', 'the cluster has ended')}")


def up(directory: Path, *, watched: int = 0, temporary: bool = False) -> LocalCluster:
    """Bring one up; it lives until ``down``, or as long as process ``watched``.

    Raises ``ControlPlaneError``, also where one is already up in ``directory``.
    """
    mounts.check(directory)
    if len(str(directory / CONTROL).encode()) > _LONGEST_SOCKET:
        raise ClusterError(
            f"got the work directory {directory}, expected a path short enough for a socket "
            f"({_LONGEST_SOCKET - len(CONTROL) - 1} bytes)"
        )
    needs.meet()
    with guard.claim(directory):  # says so when one is up
        guard.clear(directory)
        shutil.rmtree(directory / "logs", ignore_errors=True)
    (directory / "logs").mkdir()
    process = _guard(directory, [str(watched), *(["--temporary"] if temporary else [])])
    try:
        state = _wait(directory, process)
    except BaseException:
        if process.poll() is None:
            process.terminate()
            process.wait(_DOWN_SECONDS)
        raise
    process.returncode = 0  # it is on its own now; Python would warn that it still runs
    return LocalCluster(directory, state)


def _guard(directory: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    with (directory / "logs" / "guard.log").open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "e2e.cluster.local.guard", str(directory), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "PATH": needs.search_path()},
            start_new_session=True,  # Ctrl-C is for the starter, which then tells the guard
        )


def _wait(directory: Path, process: subprocess.Popen[bytes]) -> State:
    deadline = time.monotonic() + _UP_SECONDS
    while (state := State.read(directory)) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            logs = (tail(directory / "logs" / f"{name}.log", 30) for name in ("guard", "inside"))
            raise ClusterError("the cluster did not come up\n" + "\n".join(logs))
        time.sleep(0.05)
    return state


def down(directory: Path) -> bool:
    """Take down what is up in ``directory``; whether there was something.

    What a killed guard left behind (a directory, cgroups) goes too.
    Raises ``ClusterError`` where it does not end.
    """
    told = ending = None
    deadline = time.monotonic() + _DOWN_SECONDS
    while (holder := guard.holder(directory)) is not None:
        if holder != 0 and told is None:
            told = holder
            with contextlib.suppress(ProcessLookupError):
                ending = os.pidfd_open(holder)
                signal.pidfd_send_signal(ending, signal.SIGTERM)
        if time.monotonic() > deadline:
            raise ClusterError(f"the cluster in {directory} did not end: process {holder}")
        time.sleep(0.05)
    if told is not None and ending is not None:  # it let go of the directory, then ends
        select.select([ending], [], [], _DOWN_SECONDS)
        os.close(ending)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(told, os.WNOHANG)  # where it is our own child
    if told is None and directory.exists():
        with guard.claim(directory):
            guard.clear(directory)
        for slot, lock in slots.idle():
            with lock:
                cgroups.remove(slot.cgroup)
    return told is not None


@contextlib.contextmanager
def temporary() -> Iterator[LocalCluster]:
    """Yield a new one in a directory of its own, gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="trailgate-e2e-"))
    local = up(directory, watched=os.getpid(), temporary=True)
    try:
        yield local
    finally:
        down(directory)
