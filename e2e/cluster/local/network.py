"""The one link between this machine and the node's network namespace."""

from __future__ import annotations

import subprocess
import time

from e2e.cluster.errors import ClusterError
from e2e.cluster.local.slots import Slot

_NODE_LINK = "host0"
_WAIT_SECONDS = 30.0


def connect(slot: Slot, pid: int) -> None:
    """Make the link, with its other end where process ``pid`` is; run on the host.

    Routes to pods and Services go through the node, so the host reaches both.
    """
    remove(slot)
    _ip("link", "add", slot.link, "type", "veth", "peer", "name", _NODE_LINK, "netns", str(pid))
    _ip("address", "add", f"{slot.host_ip}/30", "dev", slot.link)
    _ip("link", "set", slot.link, "up")
    for reached in (slot.pods, slot.services):
        _ip("route", "add", reached, "via", slot.node_ip, "dev", slot.link)


def remove(slot: Slot) -> None:
    """Remove the link and its routes, where they are still there."""
    if not _there(slot):
        return
    try:
        _ip("link", "delete", slot.link)
    except ClusterError:  # the kernel removes it too, some time after its namespace
        if _there(slot):
            raise


def _there(slot: Slot) -> bool:
    return slot.link in _ip("-brief", "link", "show", "type", "veth")


def accept(slot: Slot) -> None:
    """Wait for our end of the link and set it up; run in the node's namespaces."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while _NODE_LINK not in _ip("-brief", "link", "show"):
        if time.monotonic() > deadline:
            raise ClusterError(f"the host did not make the link {_NODE_LINK}")
        time.sleep(0.02)
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{slot.node_ip}/30", "dev", _NODE_LINK)
    _ip("link", "set", _NODE_LINK, "up")
    _ip("route", "add", "default", "via", slot.host_ip)


def _ip(*arguments: str) -> str:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode != 0:
        raise ClusterError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
