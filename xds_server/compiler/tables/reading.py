"""Compiled tables read again: their routes, wherever they stand, and tables without some of them."""

from collections.abc import Callable, Iterator

from envoy.config.route.v3.route_components_pb2 import Route, RouteList, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.any_pb2 import Any
from xds.type.matcher.v3.matcher_pb2 import Matcher


def routes_of(host: VirtualHost) -> tuple[Route, ...]:
    """Every route of a host once; what a tree has copied into several leaves is one."""
    if not host.HasField("matcher"):
        return tuple(host.routes)
    found = (route for leaf in leaves_of(host.matcher) for route in listed(leaf))
    return tuple({route.SerializeToString(deterministic=True): route for route in found}.values())


def keep_routes(host: VirtualHost, wanted: Callable[[Route], bool]) -> None:
    """Takes all other routes out of a host."""
    kept = [route for route in host.routes if wanted(route)]
    del host.routes[:]
    host.routes.extend(kept)
    if host.HasField("matcher"):
        for leaf in leaves_of(host.matcher):
            left = RouteList(routes=[route for route in listed(leaf) if wanted(route)])
            leaf.value = left.SerializeToString(deterministic=True)


def with_lists(table: RouteConfiguration) -> RouteConfiguration:
    """The table with every tree's routes as a list too, under a host that nobody asks for.

    Only in lists does Envoy look whether the clusters of routes are there (`validate_clusters`).
    """
    result = RouteConfiguration()
    result.CopyFrom(table)
    for index, host in enumerate(table.virtual_hosts):
        if host.HasField("matcher"):
            name = f"tollhouse-list-{index}.invalid"
            result.virtual_hosts.add(name=name, domains=[name], routes=routes_of(host))
    return result


def leaves_of(matcher: Matcher) -> Iterator[Any]:
    """The route lists in a host's tree, in a fixed order."""
    maps = (matcher.matcher_tree.exact_match_map.map, matcher.matcher_tree.prefix_match_map.map)
    for found in maps:
        for key in sorted(found):
            yield found[key].action.typed_config
    if matcher.on_no_match.HasField("matcher"):
        yield from leaves_of(matcher.on_no_match.matcher)
    else:
        yield matcher.on_no_match.action.typed_config


def listed(leaf: Any) -> tuple[Route, ...]:
    return tuple(RouteList.FromString(leaf.value).routes)
