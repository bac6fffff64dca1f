"""RBAC: who may, by the module's tier and the authorization rules. In the chain it lets nobody pass; routes say who.

The language's rules are ordered and may deny, RBAC's policies are neither: an allow rule becomes a policy that wants
its conditions met and those of no deny rule before it; allowing by default is one more policy, that no deny rule
matches. All of it in principals: they can see headers, addresses and metadata alike. Of what a client writes, only the
method and the normalised path decide. That the caller is known at all is asserted once more here: an empty decision
lets nobody in. Rules in shadow are only in the shadow rules, which Envoy counts (`rbac.shadow_denied`) and never obeys.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal, SourcedMetadata
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.number_pb2 import DoubleMatcher
from envoy.type.matcher.v3.path_pb2 import PathMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher
from google.protobuf.any_pb2 import Any

from gateway.claims import claim_path
from gateway.model import Authorization, AuthorizationRule, ClaimMatch, Gateway, Listener, PathMatch
from gateway.path_patterns import template_pattern
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter
from xds_server.compiler.identity import DECIDED_NAMESPACE, JWT_NAMESPACE, Identity, RouteSpec
from xds_server.compiler.wire import cidr, exact, regex

NAME: Final = "envoy.filters.http.rbac"
ANYBODY: Final = Principal(any=True)
NOBODY: Final = Principal(not_id=ANYBODY)
ANYTHING: Final = Permission(any=True)
PRESENT: Final = ValueMatcher(present_match=True)
DEFAULT: Final = "(default)"  # no rule of an operator can be called so


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return http_filter(NAME, rbac_pb2.RBAC(rules=RBAC(action=RBAC.ALLOW)))


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    route = spec.resolved
    if route is None:
        return context.packed((NAME, None), lambda: per_route({"open": ANYBODY}))
    key = (NAME, spec.identity, route.tier, *map(id, route.authorization))
    return context.packed(key, lambda: authorized(context.gateway, spec.identity, route))


def nobody(context: Context) -> Any:
    """For routes that an earlier filter answers, or nobody."""
    return context.packed((NAME, "nobody"), lambda: per_route({}))


def per_route(allowed: Mapping[str, Principal], shadow: Mapping[str, Principal] | None = None) -> rbac_pb2.RBACPerRoute:
    config = rbac_pb2.RBAC(rules=rules(allowed))
    if shadow is not None:
        config.shadow_rules.CopyFrom(rules(shadow))
    return rbac_pb2.RBACPerRoute(rbac=config)


def rules(allowed: Mapping[str, Principal]) -> RBAC:
    return RBAC(
        action=RBAC.ALLOW,
        policies={name: Policy(permissions=[ANYTHING], principals=[who]) for name, who in allowed.items()},
    )


def authorized(gateway: Gateway, identity: Identity, route: ResolvedRoute) -> rbac_pb2.RBACPerRoute:
    """Who may call the route; and, where a rule is in shadow, who might if all rules were in force."""
    enforced = policies(gateway, identity, route)
    if not any(rule.shadow for block in route.authorization for rule in block.rules):
        return per_route(enforced)
    return per_route(enforced, policies(gateway, identity, route, with_shadow=True))


def policies(
    gateway: Gateway, identity: Identity, route: ResolvedRoute, *, with_shadow: bool = False
) -> dict[str, Principal]:
    """Who may call the route, by the name of the rule that lets them."""
    caller = Caller(gateway, identity, with_shadow)
    gate = all_of(
        caller.authenticated(), caller.tier_in(gateway.tiers_from(route.tier) if identity.kind != "open" else ())
    )
    match [caller.permitted(block) for block in route.authorization]:
        case []:
            return {"tier": gate}
        case [permitted]:
            return {name: all_of(gate, who) for name, who in permitted.items()}
        case blocks:
            return {"authorization": all_of(gate, *(any_of(*block.values()) for block in blocks))}


class Caller:
    """The caller of a route as principals over the metadata in which its identity lies.

    `with_shadow`: rules in shadow count as if they were in force.
    """

    def __init__(self, gateway: Gateway, identity: Identity, with_shadow: bool = False) -> None:
        self.gateway, self.identity, self.with_shadow = gateway, identity, with_shadow

    def authenticated(self) -> Principal:
        if self.identity.kind == "open":
            return ANYBODY
        if self.identity.kind == "native":
            subject = (self.identity.providers[0], "sub")  # Envoy accepts tokens without one, or with an empty one
            empty = metadata(JWT_NAMESPACE, subject, ValueMatcher(string_match=exact("")))
            return all_of(metadata(JWT_NAMESPACE, subject, PRESENT), Principal(not_id=empty))
        return metadata(DECIDED_NAMESPACE, ("client",), PRESENT)

    def tier_in(self, tiers: Iterable[str]) -> Principal:
        """One of `tiers`. Who names no tier, or one that this gateway does not have, is of the lowest."""
        wanted = dict.fromkeys(tiers)
        if self.identity.kind == "open":
            return ANYBODY if not wanted else NOBODY
        if self.identity.lowest not in wanted:
            return self._names_tier(wanted)
        others = [tier for tier in self.gateway.tiers if tier not in wanted]
        return Principal(not_id=self._names_tier(others)) if others else ANYBODY

    def _names_tier(self, tiers: Iterable[str]) -> Principal:
        namespace, path = self._tier_place()
        return metadata(namespace, path, one_of_strings(tiers)) if path else NOBODY

    def _tier_place(self) -> tuple[str, tuple[str, ...]]:
        if self.identity.kind == "decided":
            return DECIDED_NAMESPACE, ("tier",)
        provider = self.identity.providers[0]
        claim = self.gateway.jwt_providers[provider].tier_claim
        return JWT_NAMESPACE, (provider, *claim_path(claim)) if claim else ()

    def has_scope(self, scope: str) -> Principal:
        wanted = ValueMatcher(list_match=ListMatcher(one_of=ValueMatcher(string_match=exact(scope))))
        if self.identity.kind == "open":
            return NOBODY
        if self.identity.kind == "decided":
            return metadata(DECIDED_NAMESPACE, ("scopes",), wanted)
        provider = self.identity.providers[0]
        claim = self.gateway.jwt_providers[provider].scope_claim
        return metadata(JWT_NAMESPACE, (provider, *claim_path(claim)), wanted)

    def has_claim(self, name: str, match: ClaimMatch) -> Principal:
        path, value = claim_path(name), claim_value(match)
        return any_of(*(metadata(JWT_NAMESPACE, (provider, *path), value) for provider in self.identity.providers))

    def matches(self, rule: AuthorizationRule) -> Principal:
        """Every condition that is written; a rule without any matches everybody."""
        conditions = [self.has_scope(scope) for scope in rule.scopes]
        conditions += [self.has_claim(name, match) for name, match in rule.claims.items()]
        if rule.tiers:
            conditions.append(self.tier_in(rule.tiers))
        if rule.methods:
            conditions.append(
                Principal(header=HeaderMatcher(name=":method", string_match=regex("|".join(rule.methods))))
            )
        if rule.paths:
            conditions.append(any_of(*(path(match) for match in rule.paths)))
        if rule.cidrs:
            conditions.append(any_of(*(Principal(remote_ip=cidr(text)) for text in rule.cidrs)))
        return all_of(*conditions)

    def permitted(self, block: Authorization) -> dict[str, Principal]:
        """First match wins: each allow rule, unless a deny rule before it matches; then the default."""
        allowed: dict[str, Principal] = {}
        denied: list[Principal] = []
        for index, rule in enumerate(block.rules):
            if rule.shadow and not self.with_shadow:
                continue
            if rule.action == "deny":
                denied.append(self.matches(rule))
            else:
                name = rule.name if rule.name not in allowed else f"{rule.name}#{index}"
                allowed[name] = all_of(self.matches(rule), *none_of(denied))
        if block.default_action == "allow":
            allowed[DEFAULT] = all_of(*none_of(denied))
        return allowed


def metadata(namespace: str, path: Iterable[str], value: ValueMatcher) -> Principal:
    segments = [MetadataMatcher.PathSegment(key=key) for key in path]
    return Principal(
        sourced_metadata=SourcedMetadata(metadata_matcher=MetadataMatcher(filter=namespace, path=segments, value=value))
    )


def path(match: PathMatch) -> Principal:
    """The path without its query, compared as routes are: a prefix takes whole segments."""
    if match.exact is not None:
        return url_path(exact(match.exact))
    if match.template is not None:
        return url_path(regex(template_pattern(match.template)))
    if match.regex is not None:
        return url_path(regex(match.regex))
    prefix = (match.prefix or "/").rstrip("/")
    below = url_path(StringMatcher(prefix=f"{prefix}/"))
    return any_of(url_path(exact(prefix)), below) if prefix else below


def url_path(value: StringMatcher) -> Principal:
    return Principal(url_path=PathMatcher(path=value))


def claim_value(match: ClaimMatch) -> ValueMatcher:
    """A number or a boolean equals; a string equals or, for a list claim, is in it."""
    if match.in_ is not None:
        return string_or_member(match.in_)
    if isinstance(match.exact, bool):
        return ValueMatcher(bool_match=match.exact)
    if isinstance(match.exact, int):
        return ValueMatcher(double_match=DoubleMatcher(exact=match.exact))
    return string_or_member((match.exact or "",))


def string_or_member(values: Iterable[str]) -> ValueMatcher:
    plain = one_of_strings(values)
    return ValueMatcher(or_match=OrMatcher(value_matchers=[plain, ValueMatcher(list_match=ListMatcher(one_of=plain))]))


def one_of_strings(values: Iterable[str]) -> ValueMatcher:
    matchers = [ValueMatcher(string_match=exact(value)) for value in values]
    return matchers[0] if len(matchers) == 1 else ValueMatcher(or_match=OrMatcher(value_matchers=matchers))


def all_of(*principals: Principal) -> Principal:
    conditions = [p for p in principals if p != ANYBODY]
    if not conditions:
        return ANYBODY
    return conditions[0] if len(conditions) == 1 else Principal(and_ids=Principal.Set(ids=conditions))


def any_of(*principals: Principal) -> Principal:
    if not principals:
        return NOBODY
    return principals[0] if len(principals) == 1 else Principal(or_ids=Principal.Set(ids=principals))


none_of = partial(map, lambda principal: Principal(not_id=principal))


STAGE: Final = Stage(NAME, "nobody passes whom the route's tier and rules do not name", configure, on_route)
