"""What the decision services need to know of a gateway, made once for each revision and swapped as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway import quotas
from gateway.model import ApiKeys, Gateway, SubjectAltName
from gateway.quotas import Quota
from policy.ratelimit import domains, tree
from policy.ratelimit.asking import Asking
from policy.ratelimit.tree import Tree


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a token of this provider says what tier and which scopes its bearer has. Claims are named at top level."""

    name: str
    tier_claim: str | None
    scope_claim: str


@dataclass(frozen=True, slots=True)
class KeySource:
    """Headers (lower case) that may carry an API key. `strip`: upstreams do not see them."""

    name: str
    headers: tuple[str, ...]
    strip: bool
    forward_client_id: str | None
    query: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BasicSource:
    """`users`: the secret that holds names and hashes."""

    name: str
    users: str
    forward_username: str | None


@dataclass(frozen=True, slots=True)
class CertificateSource:
    """`names`: what must be in a certificate, in the document's order."""

    name: str
    names: tuple[SubjectAltName, ...]
    tier: str | None
    scopes: tuple[str, ...]
    forward_client_id: str | None


@dataclass(frozen=True, slots=True)
class PolicyView:
    """`tiers`: lowest rank first. `qualify_clients`: a token's subject names one client only with its provider."""

    revision: int
    tiers: tuple[str, ...]
    qualify_clients: bool
    providers: Mapping[str, Provider]
    key_sources: Mapping[str, KeySource]
    basic_sources: Mapping[str, BasicSource]
    certificate_sources: Mapping[str, CertificateSource]
    routes: frozenset[str]
    limits: Tree
    domains: Mapping[str, Tree]
    quotas: Mapping[tuple[str, str], Quota]
    ietf_headers: bool
    asking: Asking

    @classmethod
    def of(cls, gateway: Gateway, revision: int = 0) -> "PolicyView":
        return cls(
            revision=revision,
            tiers=tuple(gateway.tiers),
            qualify_clients=gateway.qualify_clients,
            providers={n: Provider(n, p.tier_claim, p.scope_claim) for n, p in gateway.jwt_providers.items()},
            key_sources={n: _key_source(n, keys) for n, keys in gateway.api_keys.items()},
            basic_sources={
                n: BasicSource(n, b.users_secret, b.forward_username) for n, b in gateway.basic_auth.items()
            },
            certificate_sources={
                n: CertificateSource(n, c.subject_alt_names, c.tier, c.scopes, c.forward_client_id)
                for n, c in gateway.client_certificates.items()
            },
            routes=frozenset(f"{m}/{r}" for m, module in gateway.modules.items() for r in module.routes),
            limits=tree.build(gateway),
            domains=domains.trees(gateway),
            quotas=quotas.by_head(gateway),
            ietf_headers="draft-ietf" in gateway.rate_limit_defaults.headers,
            asking=Asking.of(gateway),
        )

    def beside(self, new: "PolicyView") -> "PolicyView":
        """This one, while some Envoys have `new` already: what only that knows by name is known here too.

        What both know is as it was, and so are tiers and limits, until all Envoys have the new one.
        """
        return replace(
            self,
            providers={**new.providers, **self.providers},
            key_sources={**new.key_sources, **self.key_sources},
            basic_sources={**new.basic_sources, **self.basic_sources},
            certificate_sources={**new.certificate_sources, **self.certificate_sources},
            routes=self.routes | new.routes,
            domains={**new.domains, **self.domains},
            quotas={**new.quotas, **self.quotas},
        )

    def tier(self, claimed: object) -> str:
        """The claimed tier if this gateway has it, else the lowest. Nobody gains by naming a tier that is not there."""
        if isinstance(claimed, str) and claimed in self.tiers:
            return claimed
        return self.tiers[0] if self.tiers else ""


def _key_source(name: str, keys: ApiKeys) -> KeySource:
    places = keys.from_
    return KeySource(name, places.headers, keys.strip, keys.forward_client_id, places.query, places.cookies)


class Views:
    """The one view in force. None until the first one is loaded: nothing is decided before that."""

    def __init__(self, current: PolicyView | None = None) -> None:
        self.current = current
