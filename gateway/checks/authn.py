"""Who may call: every route says it, and what authorization asks for is something that its callers can have."""

from collections.abc import Iterator

from gateway.checks import ways
from gateway.checks.scope import Scope
from gateway.model import AllOf, AnyOf, Authentication, Authorization, AuthorizationRule, Module
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute


def problems(scope: Scope) -> Iterator[Problem]:
    for name, module in scope.gateway.modules.items():
        yield from _unsaid(module, ("modules", name))
        yield from _open_with_rules(module.authentication, module.authorization, ("modules", name))
        yield from rules_problems(scope, module.authorization, module.tier, ("modules", name, "authorization"))
        for route_name, route in module.routes.items():
            path = ("modules", name, "routes", route_name)
            effective = route.authentication or module.authentication
            yield from _open_with_rules(effective, route.authorization, path)
            yield from rules_problems(scope, route.authorization, module.tier, (*path, "authorization"))
            if effective != "none":
                yield from _weakened(module.authorization, route.authorization, (*path, "authorization"))
            yield from _twice(route.authentication, path)
        yield from _twice(module.authentication, ("modules", name))
    for resolved in scope.routes:
        yield from _claims_without_token(scope, resolved)
    yield from _open_above_lowest(scope)
    yield from ways.problems(scope)


def _unsaid(module: Module, path: Path) -> Iterator[Problem]:
    """Nothing is open by default and nothing is closed by guess: who may call has to be written."""
    if module.authentication is not None:
        return
    silent = [name for name, route in module.routes.items() if route.authentication is None]
    help_ = "write `authentication: {any_of: [...]}`, or `authentication: none` to let anyone call"
    if silent and len(silent) == len(module.routes):
        yield Problem("GW301", path, "nothing says who may call this module", help_)
        return
    for name in silent:
        yield Problem("GW301", (*path, "routes", name), "nothing says who may call this route", help_)


def _open_with_rules(
    authentication: Authentication | None, authorization: Authorization | None, path: Path
) -> Iterator[Problem]:
    if authentication == "none" and authorization is not None:
        message = "there is nobody to authorize: anyone may call without credentials"
        yield Problem("GW304", (*path, "authorization"), message, "remove it, or name in `authentication` who may call")


def rules_problems(scope: Scope, authorization: Authorization | None, tier: str, path: Path) -> Iterator[Problem]:
    if authorization is None:
        return
    first: set[str] = set()
    for index, rule in enumerate(authorization.rules):
        place = (*path, "rules", index)
        if rule.name in first:
            yield Problem("GW303", (*place, "name"), f"another rule here is called '{rule.name}' already")
        first.add(rule.name)
        yield from _tiers_below(scope, rule.tiers, tier, (*place, "tiers"))
    allows = authorization.default_action == "allow" or any(rule.action == "allow" for rule in authorization.rules)
    if not allows:
        yield Problem(
            "GW307", path, "nobody may call: no rule allows anything", "add a rule with `action: allow`", "warning"
        )


def _tiers_below(scope: Scope, tiers: tuple[str, ...], least: str, path: Path) -> Iterator[Problem]:
    order = list(scope.gateway.tiers)
    for index, tier in enumerate(tiers):
        if tier in order and least in order and order.index(tier) < order.index(least):
            message = f"nobody of the tier '{tier}' gets here: the module's least tier is '{least}'"
            yield Problem("GW306", (*path, index), message, severity="warning")


def _twice(authentication: Authentication | None, path: Path) -> Iterator[Problem]:
    if isinstance(authentication, (AnyOf, AllOf)):
        word = "any_of" if isinstance(authentication, AnyOf) else "all_of"
        for index, name in enumerate(authentication.names):
            if name in authentication.names[:index]:
                yield Problem("GW308", (*path, "authentication", word, index), f"'{name}' is here twice")


def _weakened(module: Authorization | None, route: Authorization | None, path: Path) -> Iterator[Problem]:
    """A route's authorization takes the place of its module's whole: what it leaves out is gone."""
    if module is None or route is None:
        return
    if route.default_action == "allow" and module.default_action == "deny":
        message = "the module denies whom no rule allows, and this route lets them in"
        yield Problem("GW333", (*path, "default_action"), message, "write `default_action: deny`", "warning")
    kept = {_condition(rule) for rule in route.rules if rule.action == "deny" and not rule.shadow}
    for rule in module.rules:
        if rule.action == "deny" and not rule.shadow and _condition(rule) not in kept:
            message = f"the module's rule '{rule.name}' denies, and does not hold on this route"
            yield Problem("GW333", path, message, "repeat the rule here if it is to hold", "warning")


def _condition(rule: AuthorizationRule) -> str:
    return rule.model_dump_json(exclude={"name"})


def _claims_without_token(scope: Scope, route: ResolvedRoute) -> Iterator[Problem]:
    """Claims are in tokens only: on a route of API keys a rule about them never matches."""
    if route.authentication == "none" or route.authenticated_by(scope.tokens):
        return
    if not route.authenticated_by(scope.names["api_keys"]):
        return
    own = route.route.authorization is not None
    path = (*route.path,) if own else ("modules", route.module)
    authorization = route.route.authorization or scope.gateway.modules[route.module].authorization
    if authorization is not None:
        for index, rule in enumerate(authorization.rules):
            if rule.claims:
                place = (*path, "authorization", "rules", index, "claims")
                message = (
                    f"the rule never matches on {route.full_name}: it accepts API keys only, and they have no claims"
                )
                yield Problem("GW302", place, message, "accept a JWT provider too, or use scopes or tiers", "warning")


def _open_above_lowest(scope: Scope) -> Iterator[Problem]:
    tiers = list(scope.gateway.tiers)
    for route in scope.routes:
        if route.authentication == "none" and route.tier in tiers[1:]:
            message = f"anyone may call this route, although the module asks for the tier '{route.tier}'"
            yield Problem(
                "GW305",
                _written_at(route),
                message,
                "nothing checks the tier of a caller without credentials",
                "warning",
            )


def _written_at(route: ResolvedRoute) -> Path:
    return (*route.path, "authentication") if route.route.authentication is not None else route.path
