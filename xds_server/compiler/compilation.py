"""One compilation: the whole document to Envoy's resources, each object by itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain as chain_of

from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf.message import Message

from gateway.model import Gateway
from gateway.problems import Problem
from xds_server.compiler import (
    chain,
    clusters,
    downstream_tls,
    listeners,
    oidc,
    ratelimit_config,
    raw,
    reach,
    tls,
    unsafe_upstreams,
)
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.filters import jwt_authn
from xds_server.compiler.findings import Findings
from xds_server.compiler.memo import Base, Memo
from xds_server.compiler.settings import Secret, Settings
from xds_server.compiler.tables.building import route_tables
from xds_server.compiler.tables.placing import Part, parts_of
from xds_server.resources import Share


@dataclass(frozen=True, slots=True)
class Compiled:
    """`messages`: Envoy resources for `Snapshot.of`. `problems`: what was closed, and why; all else went out.

    `shares`: which nodes get what, where not all get all.
    """

    messages: tuple[Message, ...]
    problems: tuple[Problem, ...]
    shares: tuple[Share, ...] = ()


def compile(  # noqa: A001 - `compiler.compile` is what it is
    gateway: Gateway,
    settings: Settings,
    secrets: Mapping[str, Secret],
    *,
    strict: bool = False,
    memo: Memo | None = None,
) -> Compiled:
    """The same model gives the same bytes in any process. `strict` raises on bugs of ours.

    Services have no endpoints yet: those are put in apart (`services.py`). `memo`: of earlier compilations, for time in
    proportion to what changed since the last one; it changes no byte.
    """
    memo = memo or Memo()
    findings = Findings(strict)
    context = Context(gateway, settings, secrets)
    context = replace(context, closed_providers=closed_providers(context, findings))
    by_upstream, closed_upstreams = upstreams(context, findings)
    context = replace(context, closed_upstreams=closed_upstreams)
    by_login, closed_logins = logins(context, findings)
    context = replace(context, closed_logins=closed_logins)
    memo.begin(base_of(context))
    context = replace(context, gateway=joined(gateway, memo.base))
    gateway = context.gateway
    parts = tuple(parts_of(gateway, memo))
    context = replace(context, kinds=tuple(chain_of.from_iterable(part.kinds for part in parts)))
    messages: list[Message] = [clusters.nowhere(), *clusters.decisions(context), *by_upstream, *by_login]
    messages += clusters.quota_shares(context)
    messages += runtime(context, findings)
    messages += tls.secrets(context, findings)
    messages += downstream_tls.secrets(context)
    messages += chain.extensions(context)
    for name in gateway.listeners:
        messages += listening(context, findings, name)
    messages += route_tables(context, findings, parts, memo)
    messages += rate_limits(gateway, parts)
    shares = reach.shares(gateway, parts, memo)
    memo.end()
    return Compiled(tuple(messages), tuple(findings.problems), shares)


def base_of(context: Context) -> Base:
    """What any route may depend on beside its module: the rest of the document, and what is closed."""
    rest = {name: getattr(context.gateway, name) for name in type(context.gateway).model_fields if name != "modules"}
    closed = (context.closed_providers, context.closed_upstreams, context.closed_logins)
    return rest, (context.settings, dict(context.secrets), *closed)


def joined(gateway: Gateway, base: Base) -> Gateway:
    """The gateway on the base that its memo has, which is equal: so that equal parts of routes are the same objects."""
    rest = base[0]
    return (
        gateway
        if all(getattr(gateway, name) is part for name, part in rest.items())
        else gateway.model_copy(update=rest)
    )


def closed_providers(context: Context, findings: Findings) -> dict[str, str]:
    """The JWT providers whose keys are missing or unusable, each with the code of its problem."""
    closed = {}
    for name in context.gateway.jwt_providers:
        try:
            jwt_authn.provider(context, name)
        except Exception as error:
            closed[name] = findings.add(("jwt_providers", name), error)
    return closed


def logins(context: Context, findings: Findings) -> tuple[list[Message], dict[str, str]]:
    """What all logins need; and those that cannot work, each with the code of its problem."""
    found: list[Message] = []
    closed = {}
    for name in context.gateway.oidc:
        try:
            found += tuple(oidc.messages(context, name))
        except Exception as error:
            closed[name] = findings.add(("oidc", name), error)
    return found, closed


def listening(context: Context, findings: Findings, name: str) -> tuple[Listener, ...]:
    """The Listeners of one of the document; none if its raw overrides cannot be carried out."""
    found = tuple(listeners.listeners(context, findings, name))
    try:
        for one in found:
            raw.override_listener(one, context.gateway.listeners[name].envoy)
    except CompileError as error:
        findings.add(("listeners", name), error)
        return ()
    return found


def rate_limits(gateway: Gateway, parts: tuple[Part, ...]) -> Iterator[Message]:
    """For a rate limit service other than ours; ours reads the document itself."""
    routes = (route for part in parts for route in part.routes.values())
    config = ratelimit_config.export(gateway, routes).config
    if config is not None:
        yield config


def runtime(context: Context, findings: Findings) -> tuple[Runtime, ...]:
    """The document's layer of Envoy's runtime; none if it cannot be carried out."""
    try:
        return tuple(raw.runtime(context.gateway.envoy))
    except CompileError as error:
        findings.add(("envoy",), error)
        return ()


def upstreams(context: Context, findings: Findings) -> tuple[list[Message], dict[str, str]]:
    """The messages of all upstreams; and those that cannot be compiled, each with the code of its problem."""
    messages: list[Message] = []
    closed = {}
    for name in context.gateway.upstreams:
        try:
            unsafe_upstreams.refuse(context, name)
            found = tuple(clusters.upstream(context, name))
            raw.override_cluster(found, context.gateway.upstreams[name].envoy)
            messages += found
        except Exception as error:
            closed[name] = findings.add(("upstreams", name), error)
    return messages, closed
