"""Whether an address is in one of several ranges."""

import ipaddress
from collections.abc import Iterable


def within(address: str, ranges: Iterable[str]) -> bool:
    """`10.0.0.0/8`, or an address alone. An IPv4 address is itself where it is written as an IPv6 one, too."""
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in ipaddress.ip_network(text, strict=False) for text in ranges)
