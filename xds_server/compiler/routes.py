"""Routes with what they say to each filter, as the entries of their table."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, Route, RouteMatch
from google.protobuf.any_pb2 import Any

from gateway.model import Cors, Listener
from gateway.problems import Problem
from gateway.resolve import NO_EDITS, ResolvedRoute
from xds_server.compiler import actions, chain, names, raw, replies
from xds_server.compiler.context import Context
from xds_server.compiler.errors import ClosedError, CompileError
from xds_server.compiler.filters import cors, local_ratelimit, rbac
from xds_server.compiler.findings import Findings
from xds_server.compiler.identity import OPEN, RouteSpec, identify
from xds_server.compiler.match import method_is, path_matches, route_matches
from xds_server.compiler.tables.entries import Entry

OPEN_SPEC = RouteSpec(OPEN)
Preflight = tuple[str | Cors | None, ...]
"""A path and a CORS policy: what preflight routes are told apart by."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRoute:
    """A route as entries of its table, with what was found wrong with it."""

    route: ResolvedRoute
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


class RouteCompiler:
    """The routes of one table. A route is compiled once, however many hosts it has, or taken from `known`."""

    def __init__(
        self, context: Context, strict: bool, listener: Listener, port: int, known: Mapping[str, CompiledRoute]
    ) -> None:
        self.context, self.strict, self.listener, self.port = context, strict, listener, port
        self.open_configs = chain.route_configs(context, OPEN_SPEC)
        self.compiled: dict[str, CompiledRoute] = {}
        self._known = known

    def entries(self, routes: tuple[ResolvedRoute, ...]) -> Iterator[Entry]:
        """In the given order; the preflights of a path come before its first route, a whole host's before all."""
        shared = shared_policy(routes)
        if shared is not None:
            match = RouteMatch(prefix="/", headers=preflight())
            yield Entry.of(self._answer(names.preflight("tollhouse"), match, shared))
        pending = {} if shared is not None else preflight_methods(routes)
        for route in routes:
            if route.cors is not None and (methods := pending.pop(preflight_key(route), None)) is not None:
                for match in path_matches(route.match.where, preflight(methods), {}):
                    yield Entry.of(self._answer(names.preflight(route.full_name), match, route.cors))
            yield from self.of(route).entries

    def of(self, route: ResolvedRoute) -> CompiledRoute:
        found = self.compiled.get(route.full_name)
        if found is None:
            known = self._known.get(route.full_name)
            same = known is not None and (known.route is route or known.route == route)
            found = known if known is not None and same else self._isolated(route)
            self.compiled[route.full_name] = found
        return found

    def own(self, name: str, match: RouteMatch) -> Route:
        """A route that Tollhouse adds: nobody is asked for credentials, nothing is sent on."""
        return Route(name=name, match=match, typed_per_filter_config=self.open_configs)

    def _isolated(self, route: ResolvedRoute) -> CompiledRoute:
        """What cannot be compiled answers 500, alone."""
        findings = Findings(self.strict)
        try:
            found = tuple(self._compile(route))
        except ClosedError as error:
            found = tuple(self._closed(route, error.code))
        except Exception as error:
            found = tuple(self._closed(route, findings.add(route.path, error)))
        return CompiledRoute(route, tuple(map(Entry.of, found)), tuple(findings.problems))

    def _compile(self, route: ResolvedRoute) -> Iterator[Route]:
        identity = identify(self.context, route)
        for provider in identity.providers:
            if provider in self.context.closed_providers:
                raise ClosedError(self.context.closed_providers[provider])
        if identity.login in self.context.closed_logins:
            raise ClosedError(self.context.closed_logins[identity.login or ""])
        spec = RouteSpec(identity, route)
        whole = self._route(route, chain.route_configs(self.context, spec))
        metadata = local_ratelimit.metadata(self.context, spec)
        if metadata is not None:
            whole.MergeFrom(Route(metadata=metadata))
        for match in route_matches(route.match):
            if route.cors is not None and route.route.backends is None:
                yield from (taking(whole, match, *told) for told in cors.answers(route.cors))
            yield taking(whole, match)

    def _route(self, route: ResolvedRoute, configs: dict[str, Any]) -> Route:
        spec, request, response = route.route, route.request_headers, route.response_headers
        if actions.edits_by_backend(spec):
            request = response = NO_EDITS
        result = Route(
            name=route.full_name,
            typed_per_filter_config=configs,
            request_headers_to_add=actions.header_options(request.set, request.add),
            request_headers_to_remove=request.remove,
            response_headers_to_add=actions.header_options(response.set, response.add),
            response_headers_to_remove=response.remove,
        )
        if spec.backends is not None:
            result.route.CopyFrom(actions.forward(self.context, route, spec.backends))
        elif spec.respond is not None:
            result.direct_response.CopyFrom(actions.respond(spec.respond.status, spec.respond.body))
        elif spec.redirect is not None:
            result.redirect.CopyFrom(actions.redirect(spec.redirect, route.match.where, self.listener, self.port))
        raw.override_route(result, spec.envoy, chain.NAMES)
        return result

    def _closed(self, route: ResolvedRoute, code: str) -> Iterator[Route]:
        """A closed route still takes its requests: nobody else's route may get them. Without a match it takes none."""
        try:
            matches = list(route_matches(route.match))
        except CompileError:
            matches = list(path_matches(route.match.where, [], {}))
        for match in matches:
            closed = self.own(route.full_name, match)
            closed.direct_response.CopyFrom(actions.respond(500, replies.closed(code)))
            yield closed

    def _answer(self, name: str, match: RouteMatch, policy: Cors) -> Route:
        """The cors filter answers for allowed origins, and only on routes to a cluster; rbac refuses the others."""
        answer = self.own(name, match)
        answer.typed_per_filter_config[cors.NAME].CopyFrom(cors.packed_policy(self.context, policy))
        answer.typed_per_filter_config[rbac.NAME].CopyFrom(rbac.nobody(self.context))
        answer.route.cluster = names.NOWHERE
        return answer


def taking(
    route: Route, match: RouteMatch, condition: HeaderMatcher | None = None, headers: Iterable[HeaderValueOption] = ()
) -> Route:
    """The route with this match; perhaps with one more condition, under which its answer has more headers."""
    result = Route()
    result.CopyFrom(route)
    result.match.CopyFrom(match)
    if condition is not None:
        result.match.headers.append(condition)
    result.response_headers_to_add.extend(headers)
    return result


def shared_policy(routes: tuple[ResolvedRoute, ...]) -> Cors | None:
    """The CORS policy that all routes of a host have: then one preflight route does for all their paths."""
    policy = routes[0].cors if routes else None
    return policy if all(route.cors is policy or route.cors == policy for route in routes) else None


def preflight(methods: Iterable[str] = ()) -> list[HeaderMatcher]:
    """What makes a request a preflight, asking for one of `methods`, or for any."""
    asked = "access-control-request-method"
    wanted = method_is(methods, asked) if methods else HeaderMatcher(name=asked, present_match=True)
    return [method_is(("OPTIONS",)), HeaderMatcher(name="origin", present_match=True), wanted]


def preflight_key(route: ResolvedRoute) -> Preflight:
    path = route.match.where
    return (path.exact, path.prefix, path.template, path.regex, route.cors)


def preflight_methods(routes: Iterable[ResolvedRoute]) -> dict[Preflight, frozenset[str]]:
    """For each path and CORS policy the methods that preflights may ask for; empty for all.

    Preflights carry neither the method nor the headers of the request they ask about, so they need routes of their own.
    """
    found: dict[Preflight, frozenset[str]] = {}
    for route in routes:
        if route.cors is not None:
            key = preflight_key(route)
            methods = frozenset(route.match.methods)
            known = found.get(key)
            found[key] = methods if known is None else (known | methods if known and methods else frozenset())
    return found
