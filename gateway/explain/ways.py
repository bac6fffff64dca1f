"""What a route accepts, by kind."""

from gateway.model import AllOf, AnyOf, Gateway
from gateway.resolve import ResolvedRoute


class Ways:
    """Names in the document's order. `providers`: whose tokens count, of logins too; `bearers`: without a login."""

    def __init__(self, gateway: Gateway, route: ResolvedRoute) -> None:
        who = route.authentication
        self.gateway = gateway
        self.logins = route.authenticated_by(gateway.oidc)
        self.bearers = route.authenticated_by(gateway.jwt_providers)
        self.providers = tuple(
            dict.fromkeys([*self.bearers, *(gateway.oidc[name].jwt_provider for name in self.logins)])
        )
        self.keys = route.authenticated_by(gateway.api_keys)
        self.basic = route.authenticated_by(gateway.basic_auth)
        self.certificates = route.authenticated_by(gateway.client_certificates)
        self.all_of = who.all_of if isinstance(who, AllOf) else ()
        self.optional = isinstance(who, AnyOf) and who.optional

    @property
    def tokens_only(self) -> bool:
        return not (self.keys or self.basic or self.certificates)

    @property
    def without_token(self) -> bool:
        """A caller may show something else. A token that is there must be good all the same."""
        return self.optional or (not self.all_of and not self.tokens_only)

    @property
    def asks_nobody(self) -> bool:
        """Envoy decides by itself: a single provider is all that the route accepts and all that the gateway has."""
        one = len(self.providers) == 1 and not self.gateway.qualify_clients
        return one and self.tokens_only and not self.all_of and not self.optional
