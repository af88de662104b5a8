"""Addresses and names that no two clusters on a machine share."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from e2e.cluster.errors import ClusterError

_COUNT = 8
_FIRST_OCTET = 230
_LOCKS = Path("/run/lock")


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the places for a cluster: a /16 of 10.0.0.0/8 and what is named after it."""

    number: int

    @property
    def _net(self) -> str:
        return f"10.{_FIRST_OCTET + self.number}"

    @property
    def range(self) -> str:
        """All its addresses."""
        return f"{self._net}.0.0/16"

    @property
    def pods(self) -> str:
        """The pods' addresses."""
        return f"{self._net}.0.0/20"

    @property
    def services(self) -> str:
        """The Services' cluster IPs."""
        return f"{self._net}.128.0/20"

    @property
    def first_service(self) -> str:
        """The cluster IP of the Service ``kubernetes``."""
        return f"{self._net}.128.1"

    @property
    def host_ip(self) -> str:
        """Our end of the link to the node."""
        return f"{self._net}.255.1"

    @property
    def node_ip(self) -> str:
        """The node's end of it: API server and registry, the same from host and pods."""
        return f"{self._net}.255.2"

    @property
    def link(self) -> str:
        """The host's network interface."""
        return f"tg-e2e-{self.number}"

    @property
    def cgroup(self) -> str:
        """The cgroup that all pods are in."""
        return f"trailgate-e2e-{self.number}"

    @property
    def node(self) -> str:
        """The node's name."""
        return f"trailgate-e2e-{self.number}"


def take() -> tuple[Slot, IO[str]]:
    """Take a free slot; it is ours as long as the returned file is open.

    The lock is by the kernel, so a slot is free again when its holder is gone, however
    it went. Raises ``ClusterError`` when all are taken.
    """
    foreign = []
    for slot, file in idle():
        other = _overlap(slot)
        if other is None:
            return slot, file
        foreign.append(f"{slot.range} (route {other})")
        file.close()
    raise ClusterError(
        f"no address range for a cluster: got {len(foreign)} of {_COUNT} not taken by "
        f"another cluster, but in the way of {foreign or 'nothing'}, expected one to be free"
    )


def idle() -> Iterator[tuple[Slot, IO[str]]]:
    """Yield the slots that no cluster holds, each with its lock, for the caller to close."""
    for slot in map(Slot, range(_COUNT)):
        file = (_LOCKS / f"{slot.cgroup}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        yield slot, file


def _overlap(slot: Slot) -> str | None:
    """Return a route of this machine that the slot's addresses would collide with."""
    ours = ipaddress.ip_network(slot.range)
    done = subprocess.run(
        ["ip", "-json", "-4", "route", "show", "table", "all"],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    for route in json.loads(done.stdout or "[]"):
        destination = route.get("dst", "default")
        if destination == "default" or route.get("dev") == slot.link:
            continue
        if ipaddress.ip_network(destination, strict=False).overlaps(ours):
            return str(destination)
    return None
