"""One compilation: the whole document to Envoy's resources, each object by itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from gateway.model import Gateway
from gateway.problems import Problem
from gateway.resolve import resolve
from xds_server.compiler import chain, clusters, downstream_tls, listeners, tls
from xds_server.compiler.context import Context
from xds_server.compiler.filters import jwt_authn
from xds_server.compiler.findings import Findings
from xds_server.compiler.routes import route_tables
from xds_server.compiler.settings import Secret, Settings


@dataclass(frozen=True, slots=True)
class Compiled:
    """`messages`: Envoy resources for `Snapshot.of`. `problems`: what was closed, and why; all else went out."""

    messages: tuple[Message, ...]
    problems: tuple[Problem, ...]


def compile(  # noqa: A001 - `compiler.compile` is what it is
    gateway: Gateway, settings: Settings, secrets: Mapping[str, Secret], *, strict: bool = False
) -> Compiled:
    """The same model gives the same bytes in any process. `strict` raises on bugs of ours."""
    findings = Findings(strict)
    context = Context(gateway, settings, secrets, resolve(gateway))
    context = replace(context, closed_providers=closed_providers(context, findings))
    by_upstream, closed_upstreams = upstreams(context, findings)
    context = replace(context, closed_upstreams=closed_upstreams)
    messages: list[Message] = [clusters.nowhere(), *clusters.decisions(context), *by_upstream]
    messages += tls.secrets(context, findings)
    messages += downstream_tls.secrets(context)
    messages += chain.extensions(context)
    messages += (found for name in gateway.listeners for found in listeners.listeners(context, findings, name))
    messages += route_tables(context, findings)
    return Compiled(tuple(messages), tuple(findings.problems))


def closed_providers(context: Context, findings: Findings) -> dict[str, str]:
    """The JWT providers whose keys are missing or unusable, each with the code of its problem."""
    closed = {}
    for name in context.gateway.jwt_providers:
        try:
            jwt_authn.provider(context, name)
        except Exception as error:
            closed[name] = findings.add(("jwt_providers", name), error)
    return closed


def upstreams(context: Context, findings: Findings) -> tuple[list[Message], dict[str, str]]:
    """The messages of all upstreams; and those that cannot be compiled, each with the code of its problem."""
    messages: list[Message] = []
    closed = {}
    for name in context.gateway.upstreams:
        try:
            messages += tuple(clusters.upstream(context, name))
        except Exception as error:
            closed[name] = findings.add(("upstreams", name), error)
    return messages, closed
