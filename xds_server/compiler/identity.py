"""Who authenticates a route, and where in Envoy's dynamic metadata the caller's identity then lies.

Three ways. `open`: nobody is asked. `native`: Envoy verifies the token itself and no request leaves it for a decision;
that is so where a single JWT provider is all that a route accepts and all that the gateway has, since then a token's
`sub` names the client. `decided`: Envoy verifies tokens, the decision service tells who that is (or looks up the key).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from gateway.model import AllOf, AnyOf, Authentication, Gateway
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError

JWT_NAMESPACE: Final = "envoy.filters.http.jwt_authn"
DECIDED_NAMESPACE: Final = "envoy.filters.http.ext_authz"


@dataclass(frozen=True, slots=True)
class Identity:
    """`providers`, `api_keys`, `basic`, `certificates`: the names that the route accepts.

    `lowest`: the tier of a caller who names none. `all_of`: the names in their order, where each of them must hold.
    `optional`: who shows no credential is let in as nobody. `login`: the login of browsers, whose provider is among the
    `providers`; `bearers` are those of them whose tokens are accepted without a login too.
    """

    kind: Literal["open", "native", "decided"]
    lowest: str = ""
    providers: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    basic: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    all_of: tuple[str, ...] = ()
    optional: bool = False
    login: str | None = None
    bearers: tuple[str, ...] = ()

    @property
    def without_token(self) -> bool:
        """Whether a caller may do without a token: then the decision service sees to a missing one. A bad one never."""
        return self.optional or bool(not self.all_of and (self.api_keys or self.basic or self.certificates))

    @property
    def requirement(self) -> str:
        """The name of this route's requirement in jwt_authn's map; empty where no token is looked at."""
        if self.all_of:
            return "&".join(self.tokens)
        return "|".join(self.tokens) + ("|missing" if self.tokens and self.without_token else "")

    @property
    def tokens(self) -> tuple[str, ...]:
        """The names in jwt_authn of what is accepted: a login has its own, which reads the session's cookie alone."""
        return self.bearers + ((self.login,) if self.login is not None else ())


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
    kinds: tuple[Iterable[str], ...] = (
        gateway.jwt_providers,
        gateway.api_keys,
        gateway.basic_auth,
        gateway.client_certificates,
        gateway.oidc,
    )
    bearers, api_keys, basic, certificates, logins = map(route.authenticated_by, kinds)
    found = {*bearers, *api_keys, *basic, *certificates, *logins}
    if not found:
        raise CompileError("nothing says who may call this route", "authentication")
    who = route.authentication
    all_of = who.all_of if isinstance(who, AllOf) else ()
    if not found.issuperset(all_of):
        raise CompileError("a way to authenticate that must hold is not there", "authentication")
    optional = isinstance(who, AnyOf) and who.optional
    if logins and not fits(who, logins, certificates):
        raise CompileError("a login does not go together with the other ways to authenticate here", "authentication")
    providers = tuple(dict.fromkeys([*bearers, *(gateway.oidc[name].jwt_provider for name in logins)]))
    tokens_only = not (api_keys or basic or certificates)
    native = len(providers) == 1 and tokens_only and not all_of and not optional and not gateway.qualify_clients
    lowest = next(iter(gateway.tiers), "")
    kind: Literal["native", "decided"] = "native" if native else "decided"
    return Identity(
        kind, lowest, providers, api_keys, basic, certificates, all_of, optional, next(iter(logins), None), bearers
    )


def fits(who: Authentication, logins: tuple[str, ...], certificates: tuple[str, ...]) -> bool:
    """A login sends whoever has no session away: nobody may then come as nobody, or by a certificate."""
    return isinstance(who, AnyOf) and not who.optional and len(logins) == 1 and not certificates
