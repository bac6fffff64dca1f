"""Addresses that no upstream may have, or a gateway would be a way in: to a cloud's credentials, to its own parts.

Literal addresses and well-known names only. What a name resolves to, Envoy alone finds out; networks must keep nodes
from metadata services too.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from gateway.model import DnsUpstream, StaticUpstream, Upstream
from gateway.problems import Path
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.settings import Settings

UNSAFE: Final = "GW606"
METADATA_NAMES: Final = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
METADATA_ADDRESSES: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Alibaba Cloud, Azure, Oracle Cloud, AWS and Google Cloud; the others are link-local."""

LOCAL_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_NUMERIC: Final = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9a-fA-F]*)\.?")
"""Forms such as 2852039166 or 0xa9.254.43518, that resolvers take for IPv4 addresses and nobody else does."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def refuse(context: Context, name: str) -> None:
    """Raises CompileError, at the address, if the upstream is where none may be."""
    for host, port, place in _places(context.gateway.upstreams[name]):
        message = fault(context.settings, host, port)
        if message is not None:
            raise CompileError(message, *place, code=UNSAFE)


def fault(settings: Settings, host: str, port: int) -> str | None:
    """What is wrong with an upstream there; None if one may be there."""
    if settings.unsafe_upstreams:
        return None
    why = unsafe(host)
    if why is None and any(_same(host, port, *one) for one in settings.forbidden):
        why = f"is, at port {port}, a part of the control plane itself"
    return why and f"'{host}' {why}; only a control plane with --allow-unsafe-upstreams takes it"


def _places(upstream: Upstream) -> Iterator[tuple[str, int, Path]]:
    if isinstance(upstream, DnsUpstream):
        yield upstream.host, upstream.port, ("host",)
    elif isinstance(upstream, StaticUpstream):
        for index, endpoint in enumerate(upstream.endpoints):
            yield endpoint.address, endpoint.port, ("endpoints", index, "address")


def unsafe(host: str) -> str | None:
    """Why no upstream may be at this address or name, whatever its port; None if one may."""
    name = host.lower().removesuffix(".")
    if name in METADATA_NAMES:
        return "is the name of a metadata service, which hands out the machine's credentials"
    address = address_of(name)
    if address is None:
        return "is a number that some resolvers take for an address" if _NUMERIC.fullmatch(name) else None
    if address in METADATA_ADDRESSES:
        return "is the address of a metadata service, which hands out the machine's credentials"
    if address.is_link_local:
        return "is link-local, where metadata services hand out the machine's credentials"
    return None


def address_of(text: str) -> Address | None:
    """The address that is meant: an IPv4 address in IPv6's clothes is that IPv4 address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or _embedded(address) or address
    return address


def _embedded(address: ipaddress.IPv6Address) -> Address | None:
    """By 6to4 or NAT64 (64:ff9b::/96), or in the low bits of a compatible address."""
    if address.sixtofour is not None:
        return address.sixtofour
    if address in ipaddress.ip_network("64:ff9b::/96") or (int(address) >> 32 == 0 and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _same(host: str, port: int, other: str, other_port: int) -> bool:
    """Whether both could be one socket: all names of this machine are one, and so is an address that takes any."""
    return port == other_port and (host.lower().removesuffix(".") == other.lower() or (_local(host) and _local(other)))


def _local(host: str) -> bool:
    address = address_of(host)
    if address is None:
        return host.lower().removesuffix(".") in LOCAL_NAMES
    return address.is_loopback or address.is_unspecified
