"""The cluster's registry: in memory, with the referrers API, and nobody gets in without a login."""

from __future__ import annotations

import base64
import http.client
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.controlplane.binaries import ensure
from e2e.controlplane.process import Process

_READY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Login:
    """What the registry asks for, by HTTP basic authentication."""

    user: str
    password: str

    @classmethod
    def make(cls) -> Login:
        """Return a new one."""
        return cls("trailgate-e2e", secrets.token_urlsafe(18))

    @property
    def header(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass
class Registry:
    """The registry's process, on ``address`` (HOST:PORT, plain HTTP)."""

    address: str
    login: Login
    _process: Process

    @classmethod
    def start(cls, directory: Path, address: str, login: Login) -> Registry:
        """Start it, empty; raises ``ControlPlaneError``."""
        program = ensure(["registry"])["registry"]
        secret = directory / "registry-login"
        secret.touch(mode=0o600)
        secret.write_text(f"{login.user}:{login.password}\n")
        process = Process.start(
            "registry",
            [program, f"-listen={address}", f"-login={secret}"],
            directory / "logs" / "registry.log",
        )
        process.wait_ready(lambda: _answers(address, login), _READY_SECONDS)
        return cls(address, login, process)

    def leave(self) -> None:
        """Take it off the network: connections are refused, what it holds stays."""
        self._order(signal.SIGUSR1, up=False)

    def come_back(self) -> None:
        """Put it back on the network."""
        self._order(signal.SIGUSR2, up=True)

    def stop(self) -> None:
        """End it; its content is gone."""
        self._process.stop()

    def _order(self, number: signal.Signals, *, up: bool) -> None:
        os.kill(self._process.pid, number)
        deadline = time.monotonic() + _READY_SECONDS
        while _answers(self.address, self.login) is not up:
            if time.monotonic() > deadline:
                raise ClusterError(f"the registry did not {'come back' if up else 'leave'}")
            time.sleep(0.02)


def _answers(address: str, login: Login) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/v2/", headers={"Authorization": login.header})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
