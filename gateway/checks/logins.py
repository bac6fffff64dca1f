"""Logins: their provider is there, their own paths get to them, and they go together with the other ways of a route."""

from collections.abc import Iterator, Mapping

from gateway.checks.scope import Scope
from gateway.model import AnyOf, Authentication, Oidc, PathMatch
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute, by_host


def problems(scope: Scope) -> Iterator[Problem]:
    for name, login in scope.gateway.oidc.items():
        path = ("oidc", name)
        yield from scope.dangling("jwt_providers", login.jwt_provider, (*path, "jwt_provider"))
        yield from _for_somebody_else(scope, login, path)
        if login.redirect_path == login.logout_path:
            yield Problem("GW354", (*path, "logout_path"), f"'{login.logout_path}' is the `redirect_path` too")
    for route in scope.routes:
        yield from _together(scope, route)
    yield from _unreachable(scope)


def _for_somebody_else(scope: Scope, login: Oidc, path: Path) -> Iterator[Problem]:
    """ID tokens are for the client, and perhaps for others too (OpenID Connect Core 1.0, 2)."""
    provider = scope.gateway.jwt_providers.get(login.jwt_provider)
    if provider is not None and login.client_id not in provider.audiences:
        message = f"ID tokens are for '{login.client_id}', which '{login.jwt_provider}' does not have in its audiences"
        help_ = "add it to the `audiences`, unless the issuer names one of them in ID tokens too"
        yield Problem("GW356", (*path, "client_id"), message, help_, "warning")


def _together(scope: Scope, route: ResolvedRoute) -> Iterator[Problem]:
    logins = route.authenticated_by(scope.names["oidc"])
    why = unfit(scope, route.authentication, logins) if logins else ""
    if why:
        own = route.route.authentication is not None
        path = (*route.path, "authentication") if own else ("modules", route.module, "authentication")
        message = f"{route.full_name} accepts the login '{logins[0]}' and {why}"
        yield Problem("GW355", path, message, "a login sends every browser without a session to its issuer")


def unfit(scope: Scope, who: Authentication, logins: tuple[str, ...]) -> str:
    """What does not go together with a login; empty where all does."""
    if not isinstance(who, AnyOf):
        return "other ways in `all_of`"
    if who.optional:
        return "callers without any credential"
    if len(logins) > 1:
        return f"another one, '{logins[1]}'"
    if any(name in scope.names["client_certificates"] for name in who.names):
        return "client certificates"
    return ""


def _unreachable(scope: Scope) -> Iterator[Problem]:
    """On each host where a login is used, its two paths must get to a route that uses it."""
    if not (scope.gateway.oidc and scope.names.complete and scope.names.decoded):
        return
    for listener in scope.gateway.listeners:
        for host, routes in by_host(route for route in scope.routes if route.listener == listener).items():
            used = {name for route in routes for name in route.authenticated_by(scope.gateway.oidc)}
            for name in sorted(used):
                yield from _untaken(scope.gateway.oidc, name, host, routes)


def _untaken(logins: Mapping[str, Oidc], name: str, host: str, routes: tuple[ResolvedRoute, ...]) -> Iterator[Problem]:
    login = logins[name]
    for word, own in (("redirect_path", login.redirect_path), ("logout_path", login.logout_path)):
        taker = next((route for route in routes if _takes(route, own)), None)
        if taker is None or name not in taker.authenticated_by(logins):
            where = f" of '{host}'" if host != "*" else ""
            message = f"'{own}' gets to no route{where} that accepts the login, which could not come to its end"
            help_ = "put it below the path of such a route, or add a route for it"
            yield Problem("GW354", ("oidc", name, word), message, help_)


def _takes(route: ResolvedRoute, own: str) -> bool:
    """Whether every GET of the path is for this route, if no earlier one takes it. Patterns are not tried."""
    match = route.match
    if match.headers or match.cookies or match.query or match.grpc or (match.methods and "GET" not in match.methods):
        return False
    return _matches(match.where, own)


def _matches(where: PathMatch, own: str) -> bool:
    if where.prefix is not None:
        prefix = where.prefix.rstrip("/")
        return own == prefix or own.startswith(prefix + "/")
    return where.exact == own
