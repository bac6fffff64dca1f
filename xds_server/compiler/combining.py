"""Which routes need one call in place of two: the decision service tells who calls and asks about the limits itself.

Only where the two orders cannot be told apart. On other routes a request can be refused between the two calls, by rbac
or by a limit of Envoy's own, and must not be charged then; a refused gRPC call has a status (RESOURCE_EXHAUSTED) that
only Envoy's rate limit filter can give it.
"""

from xds_server.compiler.context import Context
from xds_server.compiler.identity import RouteSpec


def combined(context: Context, spec: RouteSpec) -> bool:
    gateway, route = context.gateway, spec.resolved
    if gateway.rate_limit_defaults.decision != "combined" or route is None:
        return False
    limits = [*route.rate_limits, *(limit for tier in gateway.tiers.values() for limit in tier.rate_limits)]
    return (
        spec.reaches_upstream
        and spec.identity.kind == "decided"
        and route.match.grpc is None
        and not route.authorization
        and gateway.tiers_from(route.tier) == tuple(gateway.tiers)
        and all(limit.mode == "exact" and limit.cost_from is None for limit in limits)
    )
