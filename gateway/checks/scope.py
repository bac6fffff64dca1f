"""What every check looks at: the gateway, its routes with everything inherited, and the names that are defined."""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.model import Gateway, Policies
from gateway.naming import Names
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute, resolve
from gateway.words import did_you_mean


@dataclass(frozen=True)
class Scope:
    gateway: Gateway
    names: Names
    routes: tuple[ResolvedRoute, ...]

    @classmethod
    def of(cls, gateway: Gateway, names: Names) -> "Scope":
        return cls(gateway, names, resolve(gateway))

    @property
    def tokens(self) -> tuple[str, ...]:
        """The ways to authenticate by which a token comes, with its claims."""
        return (*self.names["jwt_providers"], *self.names["oidc"])

    def levels(self) -> Iterator[tuple[Path, Policies]]:
        """Every place that may hold policies, as written: `defaults`, each module, each route."""
        yield ("defaults",), self.gateway.defaults
        for module_name, module in self.gateway.modules.items():
            yield ("modules", module_name), module
            for route_name, route in module.routes.items():
                yield ("modules", module_name, "routes", route_name), route

    def dangling(self, kind: str, name: str, path: Path, code: str = "GW201") -> Iterator[Problem]:
        """A problem unless `kind` has that name."""
        known = self.names[kind]
        if name in known or not self.names.complete:
            return
        noun = NOUNS[kind]
        help_ = did_you_mean(name, known) or (f"known: {', '.join(known)}" if 0 < len(known) <= 8 else "")
        yield Problem(code, path, f"there is no {noun} '{name}'", help_ or f"define it under `{kind}`")


NOUNS = {
    "listeners": "listener",
    "upstreams": "upstream",
    "jwt_providers": "JWT provider",
    "api_keys": "API key source",
    "basic_auth": "source of basic authentication",
    "client_certificates": "kind of client certificates",
    "oidc": "login",
    "tiers": "tier",
    "modules": "module",
}
