"""Raw overrides: JSON of the operator's merged into a compiled message, last of all.

Mappings are merged and lists are replaced, but what our filters say at a route stays: it is what authenticates.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import Message

from gateway.checks.overrides import FORBIDDEN, PER_FILTER, forbidden
from gateway.model import RawCluster, RawGateway, RawListener, RawRoute
from gateway.words import did_you_mean
from xds_server.compiler.errors import CompileError
from xds_server.compiler.wire import pack

REFUSED: Final = "GW605"
ANY: Final = "google.protobuf.Any"
LAYER: Final = "tollhouse"
"""The runtime layer that an Envoy of ours subscribes to (envoy/bootstrap.yaml)."""
_MESSAGES: Final = {
    "envoy.config.route.v3.Route": "route",
    "envoy.config.cluster.v3.Cluster": "cluster",
    "envoy.config.listener.v3.Listener": "listener",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": "http_connection_manager",
}
_TYPE_URL: Final = re.compile(r"type\.googleapis\.com/((?:envoy|xds|udpa)(?:\.[a-z0-9_]+)+)\.[A-Za-z0-9_.]+")
Descriptor = Any
"""Of a message or field: their stubs differ from what protobuf really hands out."""

_KEPT: Final = ("typed_per_filter_config", "typed_extension_protocol_options")


def apply(message: Message, overrides: Mapping[str, Any], *path: str, ours: frozenset[str] = frozenset()) -> None:
    """Merges `overrides` into `message`. `path`: where they are written in their object; `ours`: filters of ours.

    Raises CompileError, at the field that is wrong, and then may have changed the message.
    """
    kind = _MESSAGES[message.DESCRIPTOR.full_name]
    for name in overrides:
        if name in FORBIDDEN[kind]:
            raise CompileError(f"a raw override may not touch {name!r} of a {kind}", *path, name, code=REFUSED)
    for place, fault in faults(message.DESCRIPTOR, overrides, path):
        raise CompileError(fault, *place, code=REFUSED)
    for place in touched(overrides, ours, path):
        raise CompileError("this filter is Tollhouse's own, and decides who may call", *place, code=REFUSED)
    before = {name: dict(getattr(message, name)) for name in _KEPT if name in overrides}
    try:
        json_format.ParseDict(dict(overrides), message)
    except json_format.ParseError as error:
        raise CompileError(f"Envoy's message does not take this: {error}", *path, code=REFUSED) from None
    for name, entries in before.items():
        found = getattr(message, name)
        for key in entries.keys() - found.keys():
            found[key].CopyFrom(entries[key])


def override_route(route: Route, raw: RawRoute | None, ours: frozenset[str]) -> None:
    """`ours`: the names of our own filters."""
    if raw is not None:
        apply(route, raw.route, "envoy", "route", ours=ours)


def override_cluster(messages: Iterable[Message], raw: RawCluster | None) -> None:
    """The Cluster among the messages of one upstream."""
    for message in messages:
        if raw is not None and isinstance(message, Cluster):
            apply(message, raw.cluster, "envoy", "cluster")


def override_listener(listener: Listener, raw: RawListener | None) -> None:
    """The Listener, and the connection manager of each of its filter chains."""
    if raw is None:
        return
    apply(listener, raw.listener, "envoy", "listener")
    for network_filter in (found for chain in listener.filter_chains for found in chain.filters):
        manager = HttpConnectionManager()
        if network_filter.typed_config.Unpack(manager):
            apply(manager, raw.http_connection_manager, "envoy", "http_connection_manager")
            network_filter.typed_config.CopyFrom(pack(manager))


def runtime(raw: RawGateway | None) -> Iterator[Runtime]:
    """The layer of Envoy's runtime that the document writes, as the bootstrap asks for it.

    A value is a scalar, or a mapping such as a FractionalPercent. Raises CompileError at a key that is refused.
    """
    if raw is None:
        return
    for name, value in raw.runtime.items():
        if forbidden("runtime", name):
            raise CompileError(f"a raw override may not touch {name!r} of the runtime", "runtime", name, code=REFUSED)
        if not isinstance(value, bool | int | float | str | Mapping):
            raise CompileError(
                "a number, a text, true, false or a mapping is needed here", "runtime", name, code=REFUSED
            )
    layer = Runtime(name=LAYER)
    layer.layer.update(raw.runtime)
    yield layer


Fault = tuple[tuple[str | int, ...], str]


def faults(descriptor: Descriptor, value: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    """The fields that a message does not have, with their places. Envoy's own names only, no camelCase."""
    if descriptor.full_name.startswith("google.protobuf.") and descriptor.full_name != ANY:
        return  # JSON writes these in its own way, which protobuf's parser judges
    if not isinstance(value, Mapping):
        yield path, f"a mapping is needed here, as {descriptor.name} is one"
    elif descriptor.full_name == ANY:
        yield from _of_any(value, path)
    else:
        for name, inner in value.items():
            yield from _of_field(descriptor, name, inner, (*path, name))


def _of_field(descriptor: Descriptor, name: str, value: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    field = descriptor.fields_by_name.get(name)
    if field is None:
        hint = did_you_mean(name, descriptor.fields_by_name)
        yield path, f"{descriptor.name} has no field {name!r}" + (f": {hint}" if hint else "")
    elif value is None:
        yield path, "there is no value here: leave the field out"  # protobuf would take away what was compiled
    elif field.message_type is not None:
        yield from _of_messages(field, value, path)


def _of_messages(field: Descriptor, value: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    inner = field.message_type
    if inner.GetOptions().map_entry:
        inner = inner.fields_by_name["value"].message_type
        for key, one in value.items() if inner is not None and isinstance(value, Mapping) else ():
            yield from faults(inner, one, (*path, key))
    elif isinstance(value, list) and field.is_repeated:
        for index, one in enumerate(value):
            yield from faults(inner, one, (*path, index))
    else:
        yield from faults(inner, value, path)


def _of_any(value: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Fault]:
    url = value.get("@type")
    descriptor = known(url) if isinstance(url, str) else None
    if descriptor is None:
        yield (*path, "@type") if "@type" in value else path, "an @type of Envoy's is needed here"
    else:
        yield from faults(descriptor, {name: one for name, one in value.items() if name != "@type"}, path)


def known(url: str) -> Descriptor | None:
    """The message that a type URL names, loaded if Envoy's API has it."""
    found = _TYPE_URL.fullmatch(url)
    if found is None:
        return None
    _load(found[1])
    pool: Any = descriptor_pool.Default()
    try:
        return pool.FindMessageTypeByName(url.partition("/")[2])
    except KeyError:
        return None


def _load(package: str) -> None:
    """Imports the generated code of a protobuf package: only then does protobuf know its messages."""
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        return
    for module in iter_modules(spec.submodule_search_locations or ()) if spec is not None else ():
        if module.name.endswith("_pb2"):
            import_module(f"{package}.{module.name}")


def touched(value: Any, ours: frozenset[str], path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Where settings of our own filters are written, however deep."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name in PER_FILTER and isinstance(inner, Mapping):
                yield from ((*path, name, key) for key in inner if key in ours)
            yield from touched(inner, ours, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from touched(inner, ours, (*path, index))
