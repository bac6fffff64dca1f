"""Where remote key sets may come from, and the name under which the compiler finds them among the secrets."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

RESERVED: Final = "jwks "


def keyset_name(uri: str) -> str:
    """The reserved secret name of the key set at a URI. No operator's name holds a space."""
    return RESERVED + uri


def uri_fault(uri: str) -> str | None:
    """What is wrong with the URI of a key set; None if nothing is."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not a URI"
    if not uri.isascii() or not uri.isprintable() or " " in uri or not host:
        return "it is not a URI"
    if parts.username is not None or parts.fragment:
        return "it holds a user name or a fragment"
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        return "it is not https"
    return None


def is_loopback(host: str) -> bool:
    """Whether a host, as it is written, is this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
