"""Policies that a change weakens: more callers, more requests, more origins, or less of what protects them.

Each rule compares what is in effect, so it does not matter at which level somebody wrote it. A rule says yes where it
cannot see that nothing is weaker: a plan is read by people, and a weakening that it hid would be the one that matters.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from gateway.model import AllOf, AnyOf, Authentication, Authorization, Cors, Gateway, RateLimit
from gateway.model.policies import AuthorizationRule
from gateway.plan.weakening import Weakening
from gateway.problems import Path
from gateway.resolve import ResolvedRoute

Said = Iterator[tuple[Path, str]]
"""Where in the route, and what is weaker."""

Rule = Callable[[ResolvedRoute, ResolvedRoute], Said]

SECURITY_HEADERS: Final = (
    "strict-transport-security",
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
)


def of_route(old: ResolvedRoute, new: ResolvedRoute, before: Gateway, after: Gateway) -> Iterator[Weakening]:
    """What the route lets through now that it did not before."""
    for rule, look in RULES.items():
        yield from (Weakening(rule, (*new.path, *at), said) for at, said in look(old, new))
    yield from (Weakening("least_tier", new.path, said) for said in _tier(old, new, before, after))


def opened(new: ResolvedRoute) -> Iterator[Weakening]:
    """A route that is new and asks nobody who he is."""
    if frozenset() in accepted(new.authentication):
        yield Weakening("opened", new.path, "a new route that anybody may call")


# ---------------------------------------------------------------------------------------------------- authentication
def accepted(who: Authentication) -> frozenset[frozenset[str]]:
    """The sets of credentials that let a caller in: `none` is the empty one."""
    if isinstance(who, AllOf):
        return frozenset({frozenset(who.all_of)})
    if isinstance(who, AnyOf):
        ways = frozenset(frozenset({name}) for name in who.any_of)
        return ways | {frozenset()} if who.optional else ways
    return frozenset({frozenset()})


def _authentication(old: ResolvedRoute, new: ResolvedRoute) -> Said:
    before = accepted(old.authentication)
    more = [way for way in accepted(new.authentication) if not any(way >= known for known in before)]
    if frozenset() in more:
        yield ("authentication",), "anybody may call it, without credentials"
    elif more:
        ways = " or ".join(sorted(" and ".join(sorted(way)) for way in more))
        yield ("authentication",), f"{ways} is enough now"


# ----------------------------------------------------------------------------------------------------- authorization
def _authorization(old: ResolvedRoute, new: ResolvedRoute) -> Said:
    """Every block (the floor's, the route's) must allow a request: each of the old needs one that is as strict."""
    for before in old.authorization:
        weaker = [list(looser(before, after)) for after in new.authorization]
        if not weaker:
            yield ("authorization",), "no rules decide any more who may call it"
        elif all(weaker):
            yield from ((("authorization",), said) for said in min(weaker, key=len))


def looser(old: Authorization, new: Authorization) -> Iterator[str]:
    """What of the rules allows more, or denies less."""
    if old.default_action == "deny" and new.default_action == "allow":
        yield "what no rule decides is allowed"
    before, after = {rule.name: rule for rule in old.rules}, {rule.name: rule for rule in new.rules}
    for name, rule in before.items():
        if _denies(rule) and not _denies(after.get(name)):
            yield f"the rule {name} no longer denies"
        elif _denies(rule) and not _narrower(after[name], rule):
            yield f"the rule {name} denies other requests than before"
    for name, rule in after.items():
        known = before.get(name)
        if not rule.shadow and rule.action == "allow" and not (_allows(known) and _narrower(known, rule)):
            yield f"the rule {name} allows more than before" if _allows(known) else f"the rule {name} allows more"
    both = [name for name in before if name in after]
    if both != [name for name in after if name in before]:
        yield "the rules are in another order, and the first that fits decides"


def _denies(rule: AuthorizationRule | None) -> bool:
    return rule is not None and rule.action == "deny" and not rule.shadow


def _allows(rule: AuthorizationRule | None) -> bool:
    return rule is not None and rule.action == "allow" and not rule.shadow


def _narrower(wide: AuthorizationRule | None, narrow: AuthorizationRule) -> bool:
    """Whether everything that `narrow` fits is fitted by `wide`: it has all its conditions, or stricter ones."""
    if wide is None:
        return False
    every = set(wide.scopes) <= set(narrow.scopes) and wide.claims.items() <= narrow.claims.items()
    one_of = ((getattr(wide, field), getattr(narrow, field)) for field in ("tiers", "methods", "paths", "cidrs"))
    return every and all(not known or (bool(now) and all(one in known for one in now)) for known, now in one_of)


# ------------------------------------------------------------------------------------------------------------ limits
def _rate_limits(old: ResolvedRoute, new: ResolvedRoute) -> Said:
    yield from ((("rate_limits",), said) for said in raised(old.rate_limits, new.rate_limits))


def raised(old: tuple[RateLimit, ...], new: tuple[RateLimit, ...]) -> Iterator[str]:
    """Of the limits that were enforced, those that no limit as strict is left of."""
    for limit in old:
        if limit.shadow or any(_as_strict(one, limit) for one in new):
            continue
        now = _counterpart(limit, new)
        per = " and ".join(limit.keys)
        if now is None:
            yield f"the limit of {limit.limit} per {per} is gone"
        elif now.shadow:
            yield f"the limit of {limit.limit} per {per} only watches"
        elif now.keys != limit.keys:
            yield f"the limit of {limit.limit} is counted per {' and '.join(now.keys)}, not per {per}"
        elif now.mode != limit.mode:
            yield f"the limit of {limit.limit} per {per} is no longer counted for all Envoys together"
        else:
            yield f"the limit per {per} is {_worded(now)} instead of {_worded(limit)}"


def _as_strict(new: RateLimit, old: RateLimit) -> bool:
    """Never more requests in any span of time; a limit over a longer time with no more requests is as strict."""
    bursts = old.burst is None or (new.burst is not None and new.burst <= old.burst)
    counted = not new.shadow and new.keys == old.keys and new.mode in (old.mode, "exact")
    fewer = new.limit.requests / new.cost <= old.limit.requests / old.cost
    return counted and bursts and fewer and new.limit.seconds >= old.limit.seconds


def _counterpart(limit: RateLimit, new: tuple[RateLimit, ...]) -> RateLimit | None:
    """What the limit has become: the one of its name, else one that counts the same."""
    named = [one for one in new if limit.name is not None and one.name == limit.name]
    alike = [one for one in new if one.keys == limit.keys]
    return next(iter((*named, *alike)), None)


def _worded(limit: RateLimit) -> str:
    burst = f" with a burst of {limit.burst}" if limit.burst else ""
    return f"{limit.limit}{f' at a cost of {limit.cost}' if limit.cost > 1 else ''}{burst}"


def _tier(old: ResolvedRoute, new: ResolvedRoute, before: Gateway, after: Gateway) -> Iterator[str]:
    """A tier that was below what the route asks, and no longer is."""
    was, now = set(before.tiers_from(old.tier)), set(after.tiers_from(new.tier))
    more = [tier for tier in after.tiers if tier in now - was and tier in before.tiers]
    if more:
        yield f"callers of the tier {' and '.join(more)} may call it"


# -------------------------------------------------------------------------------------------------- browsers, bodies
def _cors(old: ResolvedRoute, new: ResolvedRoute) -> Said:
    yield from ((("cors",), said) for said in wider(old.cors, new.cors))


def wider(old: Cors | None, new: Cors | None) -> Iterator[str]:
    """What pages of other origins may do that they could not."""
    if new is None:
        return
    if more := _more(old.allow_origins if old else (), new.allow_origins):
        yield f"pages of {more} may call it"
    if old is not None and (more := _more(old.allow_methods, new.allow_methods)):
        yield f"pages may use {more}"
    if old is not None and (more := _more(old.allow_headers, new.allow_headers)):
        yield f"pages may send the headers {more}"
    if new.allow_credentials and not (old is not None and old.allow_credentials):
        yield "pages may send the caller's credentials"


def _more(old: Iterable[str], new: Iterable[str]) -> str:
    known = set(old)
    return ", ".join(one for one in new if one not in known)


def _csrf(old: ResolvedRoute, new: ResolvedRoute) -> Said:
    before, after = old.traffic.csrf, new.traffic.csrf
    if before is not None and after is None:
        yield ("csrf",), "requests from pages of other sites are no longer refused"
    elif before and after and (more := _more(before.additional_origins, after.additional_origins)):
        yield ("csrf",), f"requests from pages of {more} are taken"


def _request_size(old: ResolvedRoute, new: ResolvedRoute) -> Said:
    before, after = old.traffic.request_buffer, new.traffic.request_buffer
    if before is not None and after is None:
        yield ("request_buffer",), "the size of a request is no longer bounded here"
    elif before is not None and after is not None and after.limit > before.limit:
        yield ("request_buffer",), f"a request may have {after.limit} bytes instead of {before.limit}"


def _security_headers(old: ResolvedRoute, new: ResolvedRoute) -> Said:
    before, after = _answers(old), _answers(new)
    for name in SECURITY_HEADERS:
        if name in before and name not in after:
            yield ("response_headers",), f"answers no longer have the header {name}"


def _answers(route: ResolvedRoute) -> set[str]:
    """The headers that answers get here."""
    return {*route.response_headers.set, *route.response_headers.add}


RULES: Final[Mapping[str, Rule]] = {
    "authentication": _authentication,
    "authorization": _authorization,
    "rate_limits": _rate_limits,
    "cors": _cors,
    "csrf": _csrf,
    "request_size": _request_size,
    "security_headers": _security_headers,
}
"""What is compared of a route that was there before; beside them `least_tier` and, of new routes, `opened`."""
