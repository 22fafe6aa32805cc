"""Which addresses of the Internet a task may not ask: this machine, its networks, and what else is not for everybody. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

#: An IPv4 address is in the last 32 bits: who can be reached through it is who counts.
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: What IPv6 has given to anybody so far; the rest is reserved, or translated by some gateway into who knows what.
_GIVEN: Final = IPv6Network("2000::/3")
#: Not said by `is_global` of every Python: relays that are no more, and what is for documentation.
_MORE: Final = tuple(ip_network(text) for text in ("192.88.99.0/24", "3fff::/20"))


def refusal(text: str) -> str | None:
    """Why an address is not to be asked, None if it may be.

    Args:
        text: as getaddrinfo gives it, also with a zone (`fe80::1%eth0`).
    """
    try:
        address = ip_address(text)
    except ValueError:
        return "is no address"
    stands_for = _inside(address)
    for inner in (address, *stands_for):
        if inner.is_loopback:
            return "is this machine"
        if inner.is_link_local:
            return "is link-local"
        if inner.is_multicast:
            return "is multicast"
        if not inner.is_global or any(inner in network for network in _MORE if network.version == inner.version):
            return "is private or reserved"
    if isinstance(address, IPv6Address) and address not in _GIVEN and not stands_for:
        return "is private or reserved"
    return None


def _inside(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return []
    found = [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    if address.teredo is not None:
        found += address.teredo
    if address in _NAT64 or int(address) >> 32 == 0:  # the latter: IPv4-compatible, long abolished
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found
