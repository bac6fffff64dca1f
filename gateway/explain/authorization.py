"""Who may: the module's tier and the rules, each in its order, with what it wants and what the caller has.

The floor's rules and the route's own must both let the caller in. Rules in shadow decide nothing; what they would have
changed is said.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.conditions import path_test
from gateway.explain.addresses import within
from gateway.explain.authentication import DENIED
from gateway.explain.caller import Caller, value_at
from gateway.explain.explanation import Answer, Step, Verdict
from gateway.explain.walk import Walk
from gateway.model import Authorization, AuthorizationRule, ClaimMatch
from gateway.problems import Path
from gateway.resolve import ResolvedRoute

Block = tuple[Path, Authorization]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a rule. `lacks`: what it wants and the request does not have, empty where it matches."""

    path: Path
    rule: AuthorizationRule
    lacks: tuple[str, ...]

    @property
    def matches(self) -> bool:
        return not self.lacks


def authorization(walk: Walk) -> Iterator[Step]:
    route = walk.route
    if route is None:
        return
    blocks = list(blocks_of(walk, route))
    yield from tier(walk, route)
    allowed = would = walk.caller is not None and has_tier(walk, route)
    for path, block in blocks:
        judged = [Judged((*path, "rules", i), rule, tuple(lacking(walk, rule))) for i, rule in enumerate(block.rules)]
        in_force, decides = outcome(block, judged, with_shadow=False)
        planned, _ = outcome(block, judged, with_shadow=True)
        allowed, would = allowed and in_force, would and planned
        yield from steps_of(path, block, judged, decides, allowed=in_force)
    if would != allowed and walk.caller is not None:
        word = "let in" if would else "refused"
        yield Step("authz", f"shadow: with every rule in force the request would be {word}")


def blocks_of(walk: Walk, route: ResolvedRoute) -> Iterator[Block]:
    """The floor's, and the nearest of route and module."""
    floor = walk.gateway.floor.authorization
    if floor is not None:
        yield ("floor", "authorization"), floor
    own = route.route.authorization or walk.gateway.modules[route.module].authorization
    if own is not None:
        yield walk.written(route, "authorization"), own


def tier(walk: Walk, route: ResolvedRoute) -> Iterator[Step]:
    """A route that is open asks for no tier."""
    if route.authentication == "none":
        return
    place = ("modules", route.module, "tier")
    brief = f"tier {route.tier}"
    if walk.caller is None:
        yield Step("tier", brief, place, brief=brief)
    elif has_tier(walk, route):
        yield Step("tier", f"{walk.caller.tier} >= {route.tier}  ok", place, "ok", brief=brief)
    else:
        text = f"{walk.caller.tier} is below {route.tier}"
        yield Step("tier", text, place, "no", Answer(403, DENIED), brief=brief)


def has_tier(walk: Walk, route: ResolvedRoute) -> bool:
    caller = walk.caller
    if caller is None or caller.credential == "open":
        return caller is not None
    return caller.tier in walk.gateway.tiers_from(route.tier)


def outcome(block: Authorization, judged: list[Judged], *, with_shadow: bool) -> tuple[bool, Judged | None]:
    """Whether the block lets the request pass, and by which rule; None for its default."""
    found = next((one for one in judged if one.matches and (with_shadow or not one.rule.shadow)), None)
    action = block.default_action if found is None else found.rule.action
    return action == "allow", found


def steps_of(
    path: Path, block: Authorization, judged: list[Judged], decides: Judged | None, *, allowed: bool
) -> Iterator[Step]:
    """The rules up to the one that decides. Those after it change nothing, in shadow or not."""
    floor = "floor " if path[0] == "floor" else ""
    for one in judged:
        if one is decides:
            break
        yield Step("authz", f"{floor}rule {one.rule.name}{told(one)}", one.path, facts=facts_of(one))
    answer = None if allowed else Answer(403, DENIED)
    word = "ALLOW" if allowed else "DENY"
    verdict: Verdict = "ok" if allowed else "no"
    if decides is not None:
        rule = decides.rule
        text, brief = f"{word}  {floor}rule {rule.name} matches", f"{floor}rule {rule.name}"
        yield Step(
            "authz", text, decides.path, verdict, answer, brief=brief, facts=facts_of(decides) | {"decides": True}
        )
    else:
        text = f"{word}  {floor}no rule matches: {block.default_action} by default"
        yield Step("authz", text, path, verdict, answer, brief=f"{floor}authorization")


def told(one: Judged) -> str:
    shadow = " (shadow)" if one.rule.shadow else ""
    return f"{shadow}: " + ("would match" if one.matches else "; ".join(one.lacks))


def facts_of(one: Judged) -> dict[str, object]:
    return {
        "rule": one.rule.name,
        "action": one.rule.action,
        "matched": one.matches,
        "shadow": one.rule.shadow,
        "lacks": list(one.lacks),
    }


def lacking(walk: Walk, rule: AuthorizationRule) -> Iterator[str]:
    """Every condition of the rule that does not hold, as `needs X, has Y`."""
    caller, request, address = walk.caller or Caller("open"), walk.asked.request, walk.asked.address
    has_scopes = " ".join(caller.scopes) or "none"
    yield from (f"needs scope {scope}, has {has_scopes}" for scope in rule.scopes if scope not in caller.scopes)
    for name, match in rule.claims.items():
        if not caller.has_claim(name, match):
            yield wants_claim(caller, name, match)
    if rule.tiers and caller.tier not in rule.tiers:
        yield f"needs tier {' or '.join(rule.tiers)}, has {caller.tier or 'none'}"
    if rule.methods and request.method not in rule.methods:
        yield f"needs method {' or '.join(rule.methods)}, is {request.method}"
    if rule.paths and not any(path_test(match)(walk.decision.path) for match in rule.paths):
        yield f"needs another path than {walk.decision.path}"
    if rule.cidrs and not within(address, rule.cidrs):
        yield f"needs an address in {', '.join(rule.cidrs)}, has {address}"


def wants_claim(caller: Caller, name: str, match: ClaimMatch) -> str:
    wanted = match.exact if match.in_ is None else f"one of {', '.join(match.in_)}"
    found = next((value for claims in caller.claims if (value := value_at(claims, name)) is not None), None)
    return f"needs claim {name} {written(wanted)}, has {'none' if found is None else written(found)}"


def written(value: object) -> str:
    """As in JSON, but for the quotes of a text."""
    return value if isinstance(value, str) else json.dumps(value)
