"""What of all that is compiled goes with which listener: known from the document, never read back out of bytes.

Only asked for when a listener is for some nodes only; otherwise everybody gets everything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from gateway.model import Gateway, Listener
from gateway.resolve import ResolvedRoute, resolve
from gateway.secrets import SYSTEM_CA, authority
from xds_server.compiler import names
from xds_server.compiler.memo import Memo
from xds_server.compiler.tables.placing import Part
from xds_server.resources import CLUSTER, SECRET, Share

Ref = tuple[str, str]
"""A resource by type and name."""

ALWAYS: Final[frozenset[Ref]] = frozenset(
    {(CLUSTER, name) for name in (names.DECISIONS, names.STREAMS, names.QUOTAS, names.NOWHERE)}
)
"""What the filters of every listener may call."""


def shares(gateway: Gateway, parts: Sequence[Part], memo: Memo) -> tuple[Share, ...]:
    """While compiling: the routes of a module that is as it was are not looked at again."""
    if not shared_out(gateway):
        return ()
    used: dict[str, set[Ref]] = {}
    for name, part in zip(gateway.modules, parts, strict=True):
        found = memo.keep(("used", name), part, partial(_used_by_part, part, gateway.oidc))
        used.setdefault(part.module.listener, set()).update(found)
    return tuple(_shares(gateway, used))


def shares_of(gateway: Gateway) -> tuple[Share, ...]:
    """The same for a gateway whose resources were compiled elsewhere."""
    if not shared_out(gateway):
        return ()
    used: dict[str, set[Ref]] = {}
    for route in resolve(gateway):
        used.setdefault(route.listener, set()).update(_used_by_route(route, gateway.oidc))
    return tuple(_shares(gateway, used))


def shared_out(gateway: Gateway) -> bool:
    return any(listener.nodes is not None for listener in gateway.listeners.values())


def _shares(gateway: Gateway, used: Mapping[str, set[Ref]]) -> Iterator[Share]:
    for name, listener in gateway.listeners.items():
        direct = {*ALWAYS, *used.get(name, ()), *_used_by_listener(listener)}
        behind = {ref for url, cluster in direct if url == CLUSTER for ref in _used_by_cluster(gateway, cluster)}
        yield Share(name, listener.nodes, frozenset(direct | behind))


def _used_by_part(part: Part, logins: Iterable[str], last: frozenset[Ref] | None) -> frozenset[Ref]:
    return frozenset(ref for route in part.routes.values() for ref in _used_by_route(route, logins))


def _used_by_route(route: ResolvedRoute, logins: Iterable[str]) -> Iterator[Ref]:
    spec = route.route
    for backend in spec.backends or ():
        yield CLUSTER, backend.upstream
    if spec.mirror is not None:
        yield CLUSTER, spec.mirror.upstream
    for name in route.authenticated_by(logins):
        yield CLUSTER, names.token_endpoint(name)
        yield SECRET, names.client_secret(name)
        yield SECRET, names.session_key(name)
        yield SECRET, SYSTEM_CA
    if spec.envoy is not None:
        yield from _written(spec.envoy.route)


def _used_by_listener(listener: Listener) -> Iterator[Ref]:
    if listener.tls is not None:
        for certificate in listener.tls.certificates:
            files = certificate.cert_file or "", certificate.key_file or ""
            yield SECRET, certificate.secret or names.node_certificate(*files)
        clients = listener.tls.client_validation
        if clients is not None and clients.ca_secret is not None:
            crl = clients.crl_secret
            yield SECRET, names.authority_with_crl(clients.ca_secret, crl) if crl else clients.ca_secret
    if listener.envoy is not None:
        yield from _written(listener.envoy.listener)
        yield from _written(listener.envoy.http_connection_manager)


def _used_by_cluster(gateway: Gateway, cluster: str) -> Iterator[Ref]:
    spec = gateway.upstreams.get(cluster)
    if spec is None:  # Tollhouse's own
        return
    if spec.tls is not None:
        yield SECRET, authority(spec.tls)
        if spec.tls.client_secret is not None:
            yield SECRET, spec.tls.client_secret
    if spec.envoy is not None:
        yield from _written(spec.envoy.cluster)


def _written(raw: Any) -> Iterator[Ref]:
    """Whatever a raw override may name: each of its texts."""
    if isinstance(raw, str):
        yield CLUSTER, raw
        yield SECRET, raw
    elif isinstance(raw, Mapping):
        for inner in raw.values():
            yield from _written(inner)
    elif isinstance(raw, Iterable):
        for inner in raw:
            yield from _written(inner)
