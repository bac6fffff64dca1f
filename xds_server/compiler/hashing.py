"""`hash_on` of an upstream as what its routes hash: Envoy has the policy in the cluster and its input in the route."""

from collections.abc import Iterable

from envoy.config.route.v3.route_components_pb2 import RouteAction

from gateway.model import Backend, Cookie, HashOn
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.wire import duration

HashPolicy = RouteAction.HashPolicy


def hash_policies(context: Context, backends: Iterable[Backend]) -> list[HashPolicy]:
    """At most one: hashes would be mixed, and a caller be kept nowhere when only one of them stays the same."""
    upstreams = context.gateway.upstreams
    found = [upstreams[backend.upstream].load_balancing.hash_on for backend in backends]
    policies = [policy_of(context, one) for one in found if one is not None]
    if any(one != policies[0] for one in policies):
        raise CompileError("the backends are chosen by different hashes", "backends")
    return policies[:1]


def policy_of(context: Context, spec: HashOn) -> HashPolicy:
    return context.once(("hash_on", id(spec)), lambda: policy(spec))


def policy(spec: HashOn) -> HashPolicy:
    if spec.header is not None:
        return HashPolicy(header=HashPolicy.Header(header_name=spec.header))
    if spec.cookie is not None:
        return HashPolicy(cookie=cookie(spec.cookie))
    if spec.query is not None:
        return HashPolicy(query_parameter=HashPolicy.QueryParameter(name=spec.query))
    return HashPolicy(connection_properties=HashPolicy.ConnectionProperties(source_ip=True))


def cookie(spec: Cookie) -> HashPolicy.Cookie:
    """Envoy makes the cookie only where it has a time to live; zero is one for the session."""
    if spec.ttl is None:
        return HashPolicy.Cookie(name=spec.name)
    return HashPolicy.Cookie(name=spec.name, ttl=duration(spec.ttl), path=spec.path)
