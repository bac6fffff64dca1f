"""Who authenticates a route, and where in Envoy's dynamic metadata the caller's identity then lies.

Three ways. `open`: nobody is asked. `native`: Envoy verifies the token itself and no request leaves it for a decision;
that is so where a single JWT provider is all that a route accepts and all that the gateway has, since then a token's
`sub` names the client. `decided`: Envoy verifies tokens, the decision service tells who that is (or looks up the key).
"""

from dataclasses import dataclass
from typing import Final, Literal

from gateway.model import AnyOf, Gateway
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError

JWT_NAMESPACE: Final = "envoy.filters.http.jwt_authn"
DECIDED_NAMESPACE: Final = "envoy.filters.http.ext_authz"


@dataclass(frozen=True, slots=True)
class Identity:
    """`providers` and `api_keys`: the names that the route accepts. `lowest`: the tier of a caller who names none."""

    kind: Literal["open", "native", "decided"]
    lowest: str = ""
    providers: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """The name of this route's requirement in jwt_authn's map; empty where no token is looked at.

        Where a key will do instead of a token, a missing token is left to the decision service. A bad one is refused.
        """
        return "|".join(self.providers) + ("|missing" if self.providers and self.api_keys else "")


OPEN: Final = Identity("open")


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route as the filters see it. Routes that Tollhouse adds have no `resolved` route and an open identity."""

    identity: Identity
    resolved: ResolvedRoute | None = None

    @property
    def reaches_upstream(self) -> bool:
        return self.resolved is not None and self.resolved.route.backends is not None


def identify(context: Context, route: ResolvedRoute) -> Identity:
    """Raises CompileError when nothing that the route accepts exists, or when the floor does not let it be open."""
    who = route.authentication
    anybody = who == "none" or (isinstance(who, AnyOf) and who.optional)
    if anybody and context.gateway.floor.wants_credentials(route.module):
        raise CompileError("the floor requires authentication", "authentication")
    key = ("identity", id(route.authentication))
    return context.once(key, lambda: identity_of(context.gateway, route))


def identity_of(gateway: Gateway, route: ResolvedRoute) -> Identity:
    if route.authentication == "none":
        return OPEN
    providers = route.authenticated_by(gateway.jwt_providers)
    api_keys = route.authenticated_by(gateway.api_keys)
    if not providers and not api_keys:
        raise CompileError("nothing says who may call this route", "authentication")
    native = len(providers) == 1 and not api_keys and not gateway.qualify_clients
    return Identity("native" if native else "decided", next(iter(gateway.tiers), ""), providers, api_keys)
