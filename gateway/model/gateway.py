"""The whole document."""

import json
from typing import Any, Literal

from gateway.model.base import Model
from gateway.model.callers import ApiKeys, BasicAuth, ClientCertificates, JwtProvider, RateLimitDefaults, Tier
from gateway.model.delegations import Delegation
from gateway.model.domains import RateLimitDomain
from gateway.model.floor import Floor
from gateway.model.listeners import Listener
from gateway.model.oidc import Oidc
from gateway.model.policies import Defaults
from gateway.model.raw import RawGateway
from gateway.model.rollout import Rollout
from gateway.model.routes import Module
from gateway.model.upstreams import Upstream
from gateway.scalars import Name


class Gateway(Model):
    """A whole gateway. Maps are keyed by name; `tiers` is ordered, lowest rank first."""

    version: Literal[1]
    owner: Name = "default"
    labels: dict[str, str] = {}
    listeners: dict[Name, Listener] = {}
    upstreams: dict[Name, Upstream] = {}
    jwt_providers: dict[Name, JwtProvider] = {}
    api_keys: dict[Name, ApiKeys] = {}
    basic_auth: dict[Name, BasicAuth] = {}
    client_certificates: dict[Name, ClientCertificates] = {}
    oidc: dict[Name, Oidc] = {}
    tiers: dict[Name, Tier] = {}
    rate_limit_defaults: RateLimitDefaults = RateLimitDefaults()
    rate_limit_domains: dict[Name, RateLimitDomain] = {}
    defaults: Defaults = Defaults()
    floor: Floor = Floor()
    delegations: dict[Name, Delegation] = {}
    modules: dict[Name, Module] = {}
    rollout: Rollout = Rollout()
    envoy: RawGateway | None = None

    def rank(self, tier: str) -> int:
        """The tier's place, 0 the lowest. Raises ValueError for an unknown tier."""
        return list(self.tiers).index(tier)

    def tiers_from(self, tier: str) -> tuple[str, ...]:
        """The tiers that satisfy `tier`: itself and all above it."""
        return tuple(self.tiers)[self.rank(tier) :]

    @property
    def qualify_clients(self) -> bool:
        """Whether a JWT's `sub` needs its provider's name in front to name one client of this gateway."""
        return len(self.jwt_providers) > 1


def decode(document: Any) -> Gateway:
    """The merged document (JSON-like values) as a Gateway. Raises pydantic.ValidationError.

    It goes through JSON because pydantic's strict mode takes a list for a tuple only there, and because bodies are
    stored as JSON: what is decoded now and what is read back from the store is then the same by construction.
    """
    return Gateway.model_validate_json(json.dumps(document))
