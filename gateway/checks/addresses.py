"""Addresses, CIDRs, hosts and origins: what a pattern over characters cannot decide."""

import ipaddress
import re
from typing import Final

_ORIGIN: Final = re.compile(r"https?://(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")
_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?"
)


def is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return getattr(address, "scope_id", None) is None  # Envoy's addresses have no zone


def is_dns_name(text: str) -> bool:
    """A name that a resolver can be asked for (RFC 1123, and underscores, which service discovery uses)."""
    return _DNS_NAME.fullmatch(text) is not None


def cidr_fault(text: str) -> str | None:
    """What is wrong with a network such as 203.0.113.0/24; None if nothing is."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return _host_bits(text)
    return None


def _host_bits(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"'{text}' is not a network such as 203.0.113.0/24 or 2001:db8::/32"
    return f"'{text}' has bits set behind its prefix: the network is {network}"


def is_origin(text: str) -> bool:
    """`*`, `https://app.example.com` or `https://*.example.com`: scheme, host, port as in the Fetch standard."""
    return text == "*" or _ORIGIN.fullmatch(text) is not None
