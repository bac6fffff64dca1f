"""Tables from routes: what changed is made anew, the rest is taken from the memo."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import merge
from operator import itemgetter

from envoy.config.route.v3.route_components_pb2 import Route, RouteList, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.message import Message

from gateway.model import Listener, ListenerRedirect
from gateway.problems import Problem
from gateway.resolve import ResolvedRoute, by_host
from gateway.scopes import UNSCOPED, Scope
from xds_server.compiler import actions, chain, hardening, names, replies
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.findings import Findings
from xds_server.compiler.memo import Memo
from xds_server.compiler.routes import OPEN_SPEC, CompiledRoute, RouteCompiler
from xds_server.compiler.tables.entries import Entry
from xds_server.compiler.tables.placing import Part, Placed
from xds_server.compiler.tables.scoping import scoped
from xds_server.compiler.tables.tree import matcher_of

Routes = tuple[ResolvedRoute, ...]
Hosts = Mapping[str, tuple[Routes, VirtualHost]]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """`messages`: the table and, if it has one, its scope. `hosts` and `routes`: parts for its next edition."""

    messages: tuple[Message, ...]
    problems: tuple[Problem, ...]
    hosts: Hosts
    routes: Mapping[str, CompiledRoute]
    epoch: int


def route_tables(context: Context, findings: Findings, parts: Sequence[Part], memo: Memo) -> Iterator[Message]:
    """The tables of all listeners: each named like its listener, or one for each scope that has routes."""
    found = placed(context, findings, parts)
    problems: list[Problem] = []
    for name, listener in context.gateway.listeners.items():
        if listener.redirect is not None:
            yield redirect_table(context, name, listener.redirect)
            continue
        maker = TableMaker(context, findings.strict, name, listener)
        hosts = hosts_of(name, parts) if listener.scoping == "path" else frozenset()
        for scope, sources in sorted(found[name].items()):
            silent = silent_hosts(hosts, sources)
            given = (memo.epoch, silent, *sources)
            make = partial(maker.table, scope, sources, silent, memo.epoch)
            table = memo.keep(("table", name, scope), given, make)
            problems += table.problems
            yield from table.messages
    findings.problems += dict.fromkeys(problems)  # a route of two tables has its problem once


def placed(context: Context, findings: Findings, parts: Sequence[Part]) -> dict[str, dict[Scope, list[Placed]]]:
    """The routes of each table, by listener and scope, module by module."""
    listeners = context.gateway.listeners
    found: dict[str, dict[Scope, list[Placed]]] = {
        name: {UNSCOPED: []} if listener.scoping == "none" else {} for name, listener in listeners.items()
    }
    for part in parts:
        for route in part.unplaced:
            findings.add(route.path, CompileError("it cannot be told which scopes this route belongs to", "match"))
        tables = found.get(part.module.listener)
        if tables is None:
            for route in part.routes.values():
                error = CompileError(f"there is no listener {part.module.listener!r}")
                findings.add(("modules", route.module, "listener"), error)
            continue
        for scope, routes in part.placed.items():
            tables.setdefault(scope, []).append(routes)
    return found


def hosts_of(listener: str, parts: Sequence[Part]) -> frozenset[str]:
    """Every host that a module of the listener has."""
    return frozenset(host for part in parts if part.module.listener == listener for host in part.module.hosts)


def silent_hosts(hosts: frozenset[str], sources: Sequence[Placed]) -> tuple[str, ...]:
    """The hosts of a listener that have no route in a scope, where a wildcard's routes would take their requests."""
    here = {host for placed in sources for _, route in placed for host in route.hosts}
    suffixes = tuple(host[1:] for host in here if host.startswith("*"))
    return tuple(sorted(host for host in hosts - here if host.endswith(suffixes)))


def redirect_table(context: Context, name: str, redirect: ListenerRedirect) -> RouteConfiguration:
    table = hardening.route_configuration(name=name, typed_per_filter_config=chain.table_configs(context))
    route = Route(
        name=names.REDIRECT,
        match=RouteMatch(prefix="/"),
        redirect=actions.redirect_all(redirect),
        typed_per_filter_config=chain.route_configs(context, OPEN_SPEC),
    )
    table.virtual_hosts.add(name=names.virtual_host(name, "*"), domains=["*"], routes=[route])
    return table


class TableMaker:
    """Makes the tables of one listener."""

    def __init__(self, context: Context, strict: bool, name: str, listener: Listener) -> None:
        self.context, self.strict, self.name, self.listener = context, strict, name, listener
        self.port = context.settings.port_of(name, listener)

    def table(
        self, scope: Scope, sources: Sequence[Placed], silent: Sequence[str], epoch: int, last: Table | None
    ) -> Table:
        if last is not None and last.epoch != epoch:
            last = None
        compiler = RouteCompiler(self.context, self.strict, self.listener, self.port, last.routes if last else {})
        routes = (route for _, route in merge(*sources, key=itemgetter(0)))
        hosts = self.hosts(compiler, scope, tuple(routes), silent, last.hosts if last else {})
        problems = tuple(problem for route in compiler.compiled.values() for problem in route.problems)
        table = hardening.route_configuration(
            name=names.scoped_table(self.name, scope), typed_per_filter_config=chain.table_configs(self.context)
        )
        for host in sorted(hosts):
            table.virtual_hosts.add().CopyFrom(hosts[host][1])
        messages: tuple[Message, ...] = (table,) if scope == UNSCOPED else (scoped(self.name, scope), table)
        return Table(messages, problems, hosts, compiler.compiled, epoch)

    def hosts(self, compiler: RouteCompiler, scope: Scope, routes: Routes, silent: Sequence[str], last: Hosts) -> Hosts:
        """`*` always exists, and answers 404: nothing unmatched goes anywhere. So do hosts that are `silent` here."""
        found = by_host(routes) if scope.host is None else {scope.host: routes}
        hosts = {}
        for host, wanted in {"*": Routes(), **dict.fromkeys(silent, Routes()), **found}.items():
            before = last.get(host)
            if before is not None and before[0] == wanted:
                hosts[host] = before
                for route in wanted:
                    compiler.of(route)  # known, and so it stays
            else:
                hosts[host] = (wanted, self.virtual_host(compiler, host, wanted))
        return hosts

    def virtual_host(self, compiler: RouteCompiler, host: str, routes: Routes) -> VirtualHost:
        """Every host ends with a route that answers 404, on whichever way a request comes to its end."""
        result = VirtualHost(name=names.virtual_host(self.name, host), domains=[host])
        entries, unmatched = tuple(compiler.entries(routes)), self.unmatched(compiler)
        found = matcher_of(entries, unmatched) if self.listener.route_table == "tree" else None
        if found is not None:
            result.matcher.CopyFrom(found)
        else:
            framed = b"".join(entry.framed for entry in (*entries, unmatched))
            result.routes.MergeFrom(RouteList.FromString(framed).routes)
        return result

    def unmatched(self, compiler: RouteCompiler) -> Entry:
        route = compiler.own(names.UNMATCHED, RouteMatch(prefix="/"))
        route.direct_response.CopyFrom(actions.respond(404, replies.UNMATCHED))
        return Entry.of(route)
