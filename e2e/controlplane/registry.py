"""Real OCI registries on loopback: one with the OCI 1.1 referrers API, one without."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.controlplane import ports
from e2e.controlplane.binaries import ensure
from e2e.controlplane.errors import PortTakenError
from e2e.controlplane.process import Process

_READY_SECONDS = 20.0
_PORT_TRIES = 5


@dataclass
class RegistryProcess:
    """An in-memory registry that speaks plain HTTP; empty again after ``restart``."""

    address: str
    """``127.0.0.1:PORT``: the host part of an image reference."""
    referrers: bool
    process: Process

    @classmethod
    def start(cls, directory: Path, *, referrers: bool = True) -> RegistryProcess:
        """Start one; raises ``ControlPlaneError``."""
        for attempt in range(1, _PORT_TRIES + 1):
            (port,) = ports.free(1)
            try:
                return cls(f"127.0.0.1:{port}", referrers, _launch(directory, port, referrers))
            except PortTakenError:
                if attempt == _PORT_TRIES:
                    raise
        raise AssertionError("unreachable")

    def restart(self) -> None:
        """Kill it and start it again on the same port, empty."""
        self.process.kill()
        port = int(self.address.rpartition(":")[2])
        self.process = _launch(self.process.log.parent, port, self.referrers)

    def stop(self) -> None:
        """Stop it."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _launch(directory: Path, port: int, referrers: bool) -> Process:  # noqa: FBT001
    program = ensure(["registry"])["registry"]
    log = directory / f"registry-{'with' if referrers else 'without'}-referrers-{port}.log"
    process = Process.start(
        "registry",
        [program, f"-listen=127.0.0.1:{port}", f"-referrers={str(referrers).lower()}"],
        log,
    )
    process.wait_ready(lambda: _listens(port), _READY_SECONDS)
    return process


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
