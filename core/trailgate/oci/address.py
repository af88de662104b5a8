"""Which IP addresses a registry may have: pure classification."""

from __future__ import annotations

import ipaddress
from enum import Enum
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_CREDENTIAL_SERVICES: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::23",  # AWS, pod identity
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)


class Reach(Enum):
    """Where an address leads."""

    PUBLIC = "public"
    PRIVATE = "private"
    """Loopback, private, carrier-grade and otherwise not global: only by opt-in."""
    NEVER = "never"
    """Link-local, cloud metadata and credential services, multicast, unspecified, reserved."""


def reach(address: Address) -> Reach:
    """Classify an address; an IPv4 address wrapped in an IPv6 one counts as itself."""
    inner = _unwrap(address)
    if (
        inner in _CREDENTIAL_SERVICES
        or inner.is_link_local
        or inner.is_multicast
        or inner.is_unspecified
    ):
        return Reach.NEVER
    if inner.is_loopback:  # before "reserved", which ::1 is too
        return Reach.PRIVATE
    if inner.is_reserved or getattr(inner, "is_site_local", False):
        return Reach.NEVER
    return Reach.PUBLIC if inner.is_global else Reach.PRIVATE


def parse(host: str) -> Address | None:
    """Read a literal address (brackets and zone allowed); None for a name."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _unwrap(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    high, low = int(address) >> 32, int(address) & 0xFFFFFFFF
    if address in _NAT64 or (high == 0 and low > 1):
        return ipaddress.IPv4Address(low)
    return address
