"""Listeners: TLS where the protocol says so, one listener on an address and port, redirects that lead elsewhere."""

from collections.abc import Iterator
from typing import Final

from gateway.checks import tls
from gateway.checks.addresses import is_ip
from gateway.checks.scope import Scope
from gateway.model import Listener, ListenerTls
from gateway.nodes import apart
from gateway.problems import Path, Problem

MAX_HEADER_BYTES: Final = 8192 * 1024
"""The largest `max_request_headers_kb` that Envoy takes."""


def problems(scope: Scope) -> Iterator[Problem]:
    for name, listener in scope.gateway.listeners.items():
        path = ("listeners", name)
        yield from _protocol(listener, path)
        if listener.address is not None and not is_ip(listener.address):
            message = f"the address '{listener.address}' is not an IP address"
            yield Problem("GW361", (*path, "address"), message, "write an address such as 127.0.0.1, 0.0.0.0 or ::")
        if listener.tls is not None:
            yield from _certificates(listener.tls, (*path, "tls", "certificates"))
            yield from tls.problems(listener, listener.tls, (*path, "tls"))
        yield from _only_https(listener, path)
        yield from _limits(listener, path)
    yield from _same_port(scope)
    yield from _redirected(scope)


def _protocol(listener: Listener, path: Path) -> Iterator[Problem]:
    if listener.protocol == "HTTPS" and listener.tls is None:
        yield Problem("GW204", path, "an HTTPS listener needs `tls`", "name a certificate under tls.certificates")
    if listener.protocol == "HTTP" and listener.tls is not None:
        yield Problem("GW204", (*path, "tls"), "an HTTP listener has no `tls`", "write `protocol: HTTPS`, or remove it")
    if listener.protocol == "HTTPS" and listener.redirect is not None:
        message = "an HTTPS listener that redirects to https never ends"
        yield Problem("GW218", (*path, "redirect"), message, "put the redirect on the HTTP listener")


def _only_https(listener: Listener, path: Path) -> Iterator[Problem]:
    if listener.protocol == "HTTPS":
        return
    if listener.hsts is not None:
        message = "browsers ignore Strict-Transport-Security that comes in the clear"
        yield Problem("GW395", (*path, "hsts"), message, "put it on the HTTPS listener")
    if listener.http3:
        yield Problem("GW395", (*path, "http3"), "HTTP/3 is always encrypted", "put it on an HTTPS listener")


def _limits(listener: Listener, path: Path) -> Iterator[Problem]:
    for name in ("headers", "request", "idle", "stream_idle"):
        if getattr(listener.timeouts, name) == 0:
            yield Problem("GW365", (*path, "timeouts", name), f"{name} may not be zero", "leave it out for the default")
    size = listener.limits.header_bytes
    if size is not None and (size % 1024 or not 1024 <= size <= MAX_HEADER_BYTES):
        message = f"{size} bytes is not a whole number of KiB from 1KiB to {MAX_HEADER_BYTES // 1024}KiB"
        yield Problem("GW394", (*path, "limits", "header_bytes"), message, "write it like 64KiB")


def _certificates(tls: ListenerTls, path: Path) -> Iterator[Problem]:
    """One certificate for a host: with two, which one a caller gets would depend on the order in Envoy's map."""
    first: dict[str, int] = {}
    for index, certificate in enumerate(tls.certificates):
        for host in certificate.hosts or ("*",):
            before = first.setdefault(host, index)
            if before != index:
                message = f"certificate {index} is for the host '{host}', as certificate {before} is"
                yield Problem("GW207", (*path, index), message, "name each host once")


def _same_port(scope: Scope) -> Iterator[Problem]:
    """One node can have a port only once; listeners that no node can have both may share it."""
    found: dict[tuple[str, int], list[str]] = {}
    for name, listener in scope.gateway.listeners.items():
        before = found.setdefault((listener.address or "", listener.port), [])
        taken = [other for other in before if not apart(scope.gateway.listeners[other].nodes, listener.nodes)]
        if taken:
            path = ("listeners", name, "port")
            yield Problem("GW205", path, f"the listener '{taken[0]}' has the port {listener.port} already")
        before.append(name)


def _redirected(scope: Scope) -> Iterator[Problem]:
    for name, module in scope.gateway.modules.items():
        listener = scope.gateway.listeners.get(module.listener)
        if listener is not None and listener.redirect is not None:
            message = (
                f"the listener '{module.listener}' answers every request with a redirect: no route here is reached"
            )
            yield Problem("GW219", ("modules", name, "listener"), message, severity="warning")
