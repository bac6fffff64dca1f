"""Route tables: one RouteConfiguration a listener, one VirtualHost a host, routes with what they say to each filter."""

from collections.abc import Iterable, Iterator

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, Route, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.any_pb2 import Any

from gateway.model import Cors, Listener, PathMatch
from gateway.resolve import ResolvedRoute, by_host
from xds_server.compiler import actions, chain, hardening, names, replies
from xds_server.compiler.context import Context, RouteSpec
from xds_server.compiler.errors import ClosedError, CompileError
from xds_server.compiler.findings import Findings
from xds_server.compiler.identity import OPEN, identify
from xds_server.compiler.match import method_is, path_matches, route_matches

OPEN_SPEC = RouteSpec(OPEN)
Preflight = tuple[PathMatch, Cors]


def route_tables(context: Context, findings: Findings) -> Iterator[RouteConfiguration]:
    """The route tables of all listeners, each named like its listener."""
    by_listener: dict[str, list[ResolvedRoute]] = {name: [] for name in context.gateway.listeners}
    for route in context.routes:
        if route.listener in by_listener:
            by_listener[route.listener].append(route)
        else:
            findings.add(
                ("modules", route.module, "listener"), CompileError(f"there is no listener {route.listener!r}")
            )
    configs = chain.table_configs(context)
    for name, listener in context.gateway.listeners.items():
        hosts = (
            redirect_host(context, name, listener)
            if listener.redirect
            else virtual_hosts(context, findings, name, listener, by_listener[name])
        )
        yield hardening.route_configuration(name=name, virtual_hosts=hosts, typed_per_filter_config=configs)


def virtual_hosts(
    context: Context, findings: Findings, name: str, listener: Listener, routes: Iterable[ResolvedRoute]
) -> list[VirtualHost]:
    """Every host ends with a route that answers 404, and `*` always exists: nothing unmatched goes anywhere."""
    compiler = RouteCompiler(context, findings, name, listener)
    unmatched = compiler.own(names.UNMATCHED, RouteMatch(prefix="/"))
    unmatched.direct_response.CopyFrom(actions.respond(404, replies.UNMATCHED))
    hosts = {**by_host(routes)}
    hosts.setdefault("*", ())
    return [
        VirtualHost(
            name=names.virtual_host(name, host),
            domains=[host],
            routes=[*compiler.compile(host_routes), unmatched],
        )
        for host, host_routes in sorted(hosts.items())
    ]


def redirect_host(context: Context, name: str, listener: Listener) -> list[VirtualHost]:
    if listener.redirect is None:
        return []
    route = Route(
        name=names.REDIRECT,
        match=RouteMatch(prefix="/"),
        redirect=actions.redirect_all(listener.redirect),
        typed_per_filter_config=chain.route_configs(context, OPEN_SPEC),
    )
    return [VirtualHost(name=names.virtual_host(name, "*"), domains=["*"], routes=[route])]


class RouteCompiler:
    """The routes of one listener. A route is compiled once, however many hosts it has."""

    def __init__(self, context: Context, findings: Findings, name: str, listener: Listener) -> None:
        self.context, self.findings, self.listener = context, findings, listener
        self.port = context.settings.port_of(name, listener)
        self.open_configs = chain.route_configs(context, OPEN_SPEC)
        self._compiled: dict[str, tuple[Route, ...]] = {}

    def compile(self, routes: tuple[ResolvedRoute, ...]) -> Iterator[Route]:
        """In the given order; a group's preflight route comes before the first route of the group."""
        preflights = preflight_methods(routes)
        for route in routes:
            yield from self._preflight(route, preflights)
            yield from self._routes(route)

    def own(self, name: str, match: RouteMatch) -> Route:
        """A route that Tollhouse adds: nobody is asked for credentials, nothing is sent on."""
        return Route(name=name, match=match, typed_per_filter_config=self.open_configs)

    def _routes(self, route: ResolvedRoute) -> tuple[Route, ...]:
        found = self._compiled.get(route.full_name)
        if found is None:
            found = self._compiled[route.full_name] = self._isolated(route)
        return found

    def _isolated(self, route: ResolvedRoute) -> tuple[Route, ...]:
        """What cannot be compiled answers 500, alone."""
        try:
            return tuple(self._compile(route))
        except ClosedError:
            return tuple(self._closed(route, "GW602"))
        except Exception as error:
            return tuple(self._closed(route, self.findings.add(route.path, error)))

    def _compile(self, route: ResolvedRoute) -> Iterator[Route]:
        identity = identify(self.context.gateway, route)
        if self.context.closed_providers.intersection(identity.providers):
            raise ClosedError(route.full_name)
        first: Route | None = None
        for match in route_matches(route.match):
            if first is None:
                first = self._route(route, match, chain.route_configs(self.context, RouteSpec(identity, route)))
                yield first
            else:
                another = Route()
                another.CopyFrom(first)
                another.match.CopyFrom(match)
                yield another

    def _route(self, route: ResolvedRoute, match: RouteMatch, configs: dict[str, Any]) -> Route:
        spec, request, response = route.route, route.request_headers, route.response_headers
        result = Route(
            name=route.full_name,
            match=match,
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
            result.redirect.CopyFrom(actions.redirect(spec.redirect, route.match.path, self.listener, self.port))
        return result

    def _closed(self, route: ResolvedRoute, code: str) -> Iterator[Route]:
        """A closed route still takes its requests: nobody else's route may get them. Without a match it takes none."""
        try:
            matches = list(route_matches(route.match))
        except CompileError:
            matches = list(path_matches(route.match.path, [], {}))
        for match in matches:
            closed = self.own(route.full_name, match)
            closed.direct_response.CopyFrom(actions.respond(500, replies.closed(code)))
            yield closed

    def _preflight(self, route: ResolvedRoute, pending: dict[Preflight, frozenset[str]]) -> Iterator[Route]:
        """The cors filter answers for allowed origins; what reaches the route itself is another origin."""
        key = (route.match.path, route.cors) if route.cors is not None else None
        methods = pending.pop(key, None) if key is not None else None
        if methods is None:
            return
        headers = [method_is(("OPTIONS",)), HeaderMatcher(name="origin", present_match=True), asked_method(methods)]
        spec = RouteSpec(OPEN, route)
        for match in path_matches(route.match.path, headers, {}):
            answer = Route(
                name=names.preflight(route.full_name),
                match=match,
                typed_per_filter_config={**chain.route_configs(self.context, spec), **self.open_configs},
            )
            answer.direct_response.CopyFrom(actions.respond(403, replies.NOT_ALLOWED_ORIGIN))
            yield answer


def asked_method(methods: frozenset[str]) -> HeaderMatcher:
    """The method that the browser wants to use. None listed: any."""
    name = "access-control-request-method"
    return method_is(methods, name) if methods else HeaderMatcher(name=name, present_match=True)


def preflight_methods(routes: Iterable[ResolvedRoute]) -> dict[Preflight, frozenset[str]]:
    """For each path and CORS policy the methods that preflights may ask for; empty for all.

    Preflights carry neither the method nor the headers of the request they ask about, so they need routes of their own.
    """
    found: dict[Preflight, frozenset[str]] = {}
    for route in routes:
        if route.cors is not None:
            key = (route.match.path, route.cors)
            methods = frozenset(route.match.methods)
            known = found.get(key)
            found[key] = methods if known is None else (known | methods if known and methods else frozenset())
    return found
