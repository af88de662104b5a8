"""The local cluster as its users see it, from outside of the node's namespaces."""

from __future__ import annotations

import contextlib
import json
import os
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

from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.local import mounts, needs
from e2e.cluster.local.state import CONTROL, GUARD, State
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
        if state is None or not _up(directory):
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
        kubectl = Kubectl(Path(self.state.kubectl), self.kubeconfig)
        return kubectl(*arguments, input=input, check=check, seconds=seconds)

    def load(self, archive: Path) -> None:
        """Put an archive's images into the node."""
        # The node has a /run and a /var of its own: it sees its own directory for sure.
        with tempfile.NamedTemporaryFile(dir=self.directory, suffix=".tar") as copy:
            shutil.copyfile(archive, copy.name)
            self._order("load", archive=copy.name)

    def restart_api_server(self) -> None:
        """End it, start it again."""
        self._order("restart-api-server")

    def stop_node(self) -> None:
        """Stop kubelet and containerd."""
        self._order("stop-node")

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
    if _up(directory):
        raise ClusterError(f"a cluster is already up in {directory}: take it down first")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = directory / "logs" / "guard.log"
    log.parent.mkdir(exist_ok=True)
    arguments = [str(directory), str(watched), *(["--temporary"] if temporary else [])]
    with log.open("ab") as sink:
        guard = subprocess.Popen(
            [sys.executable, "-m", "e2e.cluster.local.guard", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "PATH": needs.search_path()},
            start_new_session=True,  # Ctrl-C is for the starter, which then says what to do
        )
    deadline = time.monotonic() + _UP_SECONDS
    try:
        while (state := State.read(directory)) is None:
            if guard.poll() is not None or time.monotonic() > deadline:
                inside = tail(directory / "logs" / "inside.log", 30)
                raise ClusterError(f"the cluster did not come up\n{tail(log)}\n{inside}")
            time.sleep(0.05)
    except BaseException:
        if guard.poll() is None:
            guard.terminate()
            guard.wait(_DOWN_SECONDS)
        raise
    guard.returncode = 0  # it is on its own now; Python would warn that it still runs
    return LocalCluster(directory, state)


def down(directory: Path) -> bool:
    """Take down what is up in ``directory``; whether there was something.

    Raises ``ClusterError`` where it does not end.
    """
    guard = _up(directory)
    if guard is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(guard)
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_SECONDS
    while _up(directory) is not None:
        if time.monotonic() > deadline:
            raise ClusterError(f"the cluster in {directory} did not end: process {guard}")
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def temporary() -> Iterator[LocalCluster]:
    """Yield a new one in a directory of its own, gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="trailgate-e2e-"))
    local = up(directory, watched=os.getpid(), temporary=True)
    try:
        yield local
    finally:
        down(directory)


def _up(directory: Path) -> int | None:
    """Return the pid of the guard that holds ``directory``, or None."""
    from e2e.cluster.local import guard

    if not directory.exists():
        return None
    try:
        guard.claim(directory).close()
    except ClusterError:
        return int((directory / GUARD).read_text())
    return None
